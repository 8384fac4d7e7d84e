import numpy as np
import pytest
from skimage import measure

from unetjax.data import splits, synthetic
from unetjax.data.examples import content_hash, from_instances
from unetjax.data.splits import Split


def example(seed, name=None):
    image = np.random.default_rng(seed).integers(0, 255, (6, 5, 1), np.uint8)
    return from_instances(image, np.ones((6, 5), np.int32), name or f"{seed}")


def names(examples):
    return [e.name for e in examples]


def cut(instances, fraction, guard, **changes):
    """Splits an image whose grey values count its pixels."""
    image = np.arange(instances.size, dtype=np.uint16).reshape(*instances.shape, 1)
    whole = from_instances(image, instances, "a")._replace(**changes)
    (train,), (validation,), _ = splits.split_image(
        whole, fraction=fraction, guard=guard
    )
    return whole, train, validation


def test_the_hash_is_of_type_shape_and_pixels():
    one = example(0)
    image = one.image
    assert content_hash(one) == content_hash(example(0, "renamed"))
    others = [image.view(np.int8), image.reshape(5, 6, 1), image ^ 1, image[::-1]]
    hashes = {content_hash(one._replace(image=other)) for other in others}
    assert len(hashes | {content_hash(one)}) == 5


def test_a_random_split_is_a_partition_of_the_requested_size():
    examples = [example(i) for i in range(20)]
    for fraction, expected in ((0.2, 4), (0.5, 10), (0.001, 1), (0.999, 19)):
        split = splits.random_split(examples, fraction=fraction)
        assert len(split.validation) == expected
        assert sorted(names(split.train) + names(split.validation)) == sorted(
            names(examples)
        )
        assert names(split.train) == sorted(names(split.train), key=int)


def test_a_random_split_depends_on_content_and_seed_alone():
    """Not on names or order, so that a new folder listing changes nothing."""
    examples = [example(i) for i in range(20)]
    expected = [
        names(splits.random_split(examples, fraction=0.3, seed=s)[1]) for s in (0, 1)
    ]
    assert expected[0] != expected[1]
    renamed = [e._replace(name=f"new {e.name}") for e in reversed(examples)]
    validation = splits.random_split(renamed, fraction=0.3).validation
    assert sorted(names(validation)) == sorted(f"new {name}" for name in expected[0])
    # Golden: a run of last year must draw the same validation images today.
    assert expected[0] == ["3", "4", "5", "9", "17", "18"]


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_every_image_validates_in_one_fold(count):
    examples = [example(i) for i in range(20)]
    folds = splits.folds(examples, count, seed=1)
    assert len(folds) == count
    validation = [name for fold in folds for name in names(fold.validation)]
    assert sorted(validation) == sorted(names(examples))
    sizes = {len(fold.validation) for fold in folds}
    assert max(sizes) - min(sizes) <= 1
    for fold in folds:
        splits.check_disjoint(fold)
        assert len(fold.train) + len(fold.validation) == 20


def test_folds_depend_on_content_and_seed_alone():
    examples = [example(i) for i in range(12)]
    renamed = [e._replace(name=f"new {e.name}") for e in reversed(examples)]
    for seed in (0, 1):
        one, other = (splits.folds(x, 3, seed=seed) for x in (examples, renamed))
        for a, b in zip(one, other, strict=True):
            assert sorted(f"new {e.name}" for e in a.validation) == sorted(
                names(b.validation)
            )
    assert names(splits.folds(examples, 3, seed=0)[0].validation) != names(
        splits.folds(examples, 3, seed=1)[0].validation
    )


def test_duplicates_are_in_one_part_of_a_fold():
    examples = [example(i // 2, f"{i // 2}{'ab'[i % 2]}") for i in range(20)]
    for fold in splits.folds(examples, 5):
        assert len(fold.validation) == 4
        splits.check_disjoint(fold)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_impossible_numbers_of_folds_are_refused(count):
    with pytest.raises(ValueError, match=f"between 2 and .* images, 3, got {count}"):
        splits.folds([example(i) for i in range(3)], count)


def test_duplicates_are_in_one_part_of_a_random_split():
    examples = [example(i // 2, f"{i // 2}{'ab'[i % 2]}") for i in range(20)]
    for seed in range(20):
        split = splits.random_split(examples, fraction=0.5, seed=seed)
        assert len(split.validation) == len(split.train) == 10
        splits.check_disjoint(split)


def test_images_in_two_parts_are_refused_by_name():
    train, validation = [example(i) for i in range(5)], [example(i) for i in (5, 6)]
    splits.check_disjoint(Split(train, validation, [example(7)]))
    leaks = [*validation, example(1, "copy of 1.tif"), example(4, "x")]
    message = r"1 \(train\) is copy of 1\.tif \(validation\), 4 \(train\) is x \(vali"
    with pytest.raises(ValueError, match=message):
        splits.check_disjoint(Split(train, leaks))
    for seed, part in ((2, "train"), (6, "validation")):
        message = rf"content {seed} \({part}\) is y \(test\); remove each from"
        with pytest.raises(ValueError, match=message):
            splits.check_disjoint(Split(train, validation, [example(seed, "y")]))


def test_a_random_split_needs_two_different_images():
    with pytest.raises(
        ValueError,
        match="copies of one, and at least 2 different ones are needed; annotate",
    ):
        splits.random_split([example(0), example(0, "copy")], fraction=0.5)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 20.0])
def test_a_fraction_is_between_0_and_1(fraction):
    with pytest.raises(
        ValueError, match=f"^fraction must be above 0 and below 1, got {fraction}"
    ):
        splits.random_split([example(0), example(1)], fraction=fraction)
    with pytest.raises(
        ValueError, match=f"^fraction must be above 0 and below 1, got {fraction}"
    ):
        splits.split_image(example(0), fraction=fraction, guard=0)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (40, 40)])
def test_parts_lie_at_the_ends_with_the_guard_between(shape):
    instances = np.zeros(shape, np.int32)
    label = (np.arange(instances.size).reshape(shape) % 3 - 1).astype(np.int32)
    whole, train, validation = cut(instances, 0.25, 8, label=label)
    axis = int(shape[1] > shape[0])  # of the longer side; rows where it is equal
    for part, box in ((train, slice(0, 24)), (validation, slice(32, 40))):
        box = (box, slice(None)) if axis == 0 else (slice(None), box)
        np.testing.assert_array_equal(part.image, whole.image[box])
        np.testing.assert_array_equal(part.label, whole.label[box])
    assert names([train, validation]) == ["a-train", "a-validation"]


def test_pieces_of_a_cut_cell_become_cells_and_others_stay_whole():
    instances = np.zeros((20, 12), np.int32)
    instances[6:14, 1:3] = instances[6:14, 8:10] = 7  # a horseshoe,
    instances[11:14, 1:10] = 7  # whose arms the cut at row 10 parts
    instances[0:2, 4:6] = instances[4:6, 5:7] = 9  # never cut: two pieces, one cell
    instances[16:19, 3:5] = 4
    _, train, validation = cut(instances, 0.5, 0)

    assert np.unique(train.instances).tolist() == [0, 1, 2, 3]
    arms = {int(train.instances[8, 1]), int(train.instances[8, 8])}
    assert arms == {2, 3}
    assert train.instances[0, 4] == train.instances[4, 5] == 1
    np.testing.assert_array_equal(validation.instances > 0, instances[10:] > 0)
    assert np.unique(validation.instances).tolist() == [0, 1, 2]
    assert validation.instances[7, 3] == 1  # the order of the numbers is kept
    assert validation.instances[1, 1] == validation.instances[1, 8] == 2


def test_a_part_of_real_clusters_has_connected_cells_of_their_own():
    whole = synthetic.touching_cells(3)
    (train,), (validation,), _ = splits.split_image(whole, fraction=0.3, guard=0)
    parts = np.split(whole.instances, [len(train.instances)])
    for part, original in zip((train, validation), parts, strict=True):
        pairs = np.unique(
            np.stack([part.instances, original], -1).reshape(-1, 2), axis=0
        )
        assert pairs[:, 0].tolist() == list(range(part.instances.max() + 1))
        for number in range(1, part.instances.max() + 1):
            assert measure.label(part.instances == number, connectivity=1).max() == 1


@pytest.mark.parametrize("guard", [-1, 19, 20, 25])
def test_a_guard_must_leave_something(guard):
    whole = from_instances(np.zeros((20, 9, 1)), np.zeros((20, 9), int), "a.tif")
    splits.split_image(whole, fraction=0.2, guard=18)
    message = f"of a.tif, 20 x 9 pixels, got {guard}; try 5"
    with pytest.raises(ValueError, match=message):
        splits.split_image(whole, fraction=0.2, guard=guard)
    splits.split_image(whole, fraction=0.2, guard=5)
