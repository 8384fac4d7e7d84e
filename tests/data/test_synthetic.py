import hashlib

import numpy as np
import pytest
from scipy import ndimage
from skimage import filters, measure

from unetjax.data import synthetic
from unetjax.instances import structures


def touching_pairs(instances):
    pairs = set()
    for a, b in (
        (instances[1:], instances[:-1]),
        (instances[:, 1:], instances[:, :-1]),
    ):
        border = (a != b) & (a > 0) & (b > 0)
        pairs |= set(
            zip(np.minimum(a, b)[border], np.maximum(a, b)[border], strict=True)
        )
    return pairs


def num_found(instances, parts):
    """Counts the cells that overlap with a part by more than half of their union."""
    cells = [instances == number for number in range(1, instances.max() + 1)]
    parts = [parts == number for number in range(1, parts.max() + 1)]
    return sum(any((c & p).sum() > (c | p).sum() / 2 for p in parts) for c in cells)


def test_cells_and_grey_values_never_change():
    """Golden: scores on these images are compared over years and machines.

    The numbers of the cells are exact; grey values may round differently by one count
    on another machine. To regenerate, print what is compared; that is honest only when
    the drawing was changed on purpose, and ends the comparison with older scores.
    """
    example = synthetic.touching_cells(7, 1, size=(96, 128), num_cells=15)
    digest = hashlib.sha256(example.instances.astype("<i4").tobytes()).hexdigest()
    assert digest[:16] == "52172b90312087ce"
    grey = example.image[::32, ::32, 0].astype(int)
    np.testing.assert_allclose(
        grey,
        [[436, 247, 283, 397], [2254, 288, 552, 2694], [1120, 1213, 358, 1693]],
        atol=1,
    )
    np.testing.assert_allclose(example.image.mean(), 907.1853841145834, rtol=1e-6)


def test_an_image_is_a_function_of_its_arguments():
    one, same = synthetic.touching_cells(1, 2), synthetic.touching_cells(1, 2)
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.instances, same.instances)
    others = [synthetic.touching_cells(1, 3), synthetic.touching_cells(2, 1)]
    assert all((one.instances != other.instances).any() for other in others)
    assert one.name == "synthetic-1-002"


@pytest.mark.parametrize("num_cells", [0, 1, 60])
def test_counts_and_sizes_are_as_requested(num_cells):
    example = synthetic.touching_cells(
        0, size=(200, 300), num_cells=num_cells, radius=9.0
    )
    assert example.image.shape == (200, 300, 1)
    assert example.image.dtype == np.uint16
    numbers, areas = np.unique(example.instances, return_counts=True)
    assert numbers.tolist() == list(range(num_cells + 1))
    if num_cells > 1:
        # Less than a disc: radii spread, neighbours press, borders cut.
        assert 0.7 < np.median(areas[1:]) / (np.pi * 9**2) < 1.1


def test_cells_touch_and_are_in_one_piece():
    for index in range(5):
        instances = synthetic.touching_cells(11, index).instances
        assert len(touching_pairs(instances)) > 25
        for cell in measure.regionprops(instances):
            assert measure.label(cell.image, connectivity=1).max() == 1
            assert cell.area > 100


def test_a_threshold_finds_the_cells_but_cannot_separate_them():
    """Bright nuclei on a dark ground: easy as pixels, a task as cells."""
    for index in range(3):
        example = synthetic.touching_cells(5, index)
        image = filters.gaussian(example.image[..., 0].astype(float), 1)
        bright = image > filters.threshold_otsu(image)
        inside = example.instances > 0
        assert (bright & inside).sum() / (bright | inside).sum() > 0.7
        assert num_found(example.instances, measure.label(bright)) < 24  # of 40
        assert num_found(example.instances, example.instances) == 40


def test_the_background_is_dark_uneven_and_noisy():
    example = synthetic.touching_cells(0, num_cells=1, size=(256, 256))
    image = example.image[..., 0].astype(float)
    far = filters.gaussian((example.instances > 0).astype(float), 20) < 0.01
    smooth = filters.gaussian(image, 12)[far]
    assert image[example.instances == 1].mean() > 2 * image[far].mean()
    assert smooth.max() / smooth.min() > 1.15
    assert (image - filters.gaussian(image, 3))[far].std() > 20  # counts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 2.5}, "radius must be at least 3 pixels, got 2.5"),
        ({"size": (40, 40)}, "fit into 40 x 40 pixels, got 40 of radius 11; try [1-9]"),
    ],
)
def test_cells_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        synthetic.touching_cells(0, **arguments)


def test_lines_are_a_function_of_seed_and_index():
    one = synthetic.branching_lines(3, 1, size=(80, 100))
    again = synthetic.branching_lines(3, 1, size=(80, 100))
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(one.label, again.label)
    for seed, index in ((3, 2), (4, 1)):
        other = synthetic.branching_lines(seed, index, size=(80, 100))
        assert (one.label != other.label).any()


def test_lines_are_thin_and_darker_than_their_surroundings():
    examples = [synthetic.branching_lines(0, i) for i in range(4)]
    labels = [example.label for example in examples]
    instances = [example.instances for example in examples]
    assert structures.structure(labels, instances, numbered=False) == "thin"
    for example in examples:
        assert example.image.dtype == np.uint8
        lines = example.label > 0
        assert 0.02 < lines.mean() < 0.3
        # Where the image has a frame, a line that it cuts may look wider.
        inner = lines[8:-8, 8:-8]
        widest = 2 * ndimage.distance_transform_edt(inner).max()
        assert widest <= 12  # two lines that run side by side
        near = ndimage.binary_dilation(lines, iterations=4) & ~lines
        grey = example.image[..., 0]
        assert grey[lines].mean() < grey[near].mean()


def test_discs_are_those_of_the_reference():
    """Four images of jakeret/tf_unet's launcher, digit by digit."""
    rng = np.random.RandomState(98765)
    examples = [synthetic.discs(rng) for _ in range(4)]
    np.testing.assert_allclose(
        examples[0].image.ravel()[:3], [0.25494726, 0.2239493, 0.29006695], atol=5e-9
    )
    np.testing.assert_allclose(
        [(example.label == 1).mean() for example in examples],
        [0.139686, 0.166368, 0.143583, 0.125914],
        atol=5e-7,
    )
    mean = np.mean([example.image for example in examples])
    np.testing.assert_allclose(mean, 0.272254, atol=5e-7)


def test_squares_lie_above_discs_and_labels_are_exclusive():
    """Where jakeret/tf_unet labels 946 pixels as both, they are squares here."""
    plain, both = (
        synthetic.discs(
            np.random.RandomState(0), size=(300, 300), num_discs=10, squares=squares
        )
        for squares in (False, True)
    )
    assert set(np.unique(plain.label)) == {0, 1}
    assert set(np.unique(both.label)) == {0, 1, 2}
    assert ((plain.label == 1) & (both.label == 2)).sum() == 946
    np.testing.assert_array_equal((both.label == 1) | (both.label == 2), both.label > 0)
    assert not ((plain.label == 1) & (both.label == 0)).any()


def test_discs_are_a_function_of_seed_and_index():
    def draw(*numbers, **options):
        return synthetic.discs(
            np.random.default_rng(numbers), size=(200, 190), **options
        )

    np.testing.assert_array_equal(draw(0, 1).image, draw(0, 1).image)
    assert (draw(0, 1).image != draw(0, 2).image).any()
    example = draw(3, 0, num_discs=1, radius=(7, 8), noise=0.0)
    rows, columns = np.nonzero(example.label)
    assert rows.max() - rows.min() == columns.max() - columns.min() == 14
    assert 92 <= np.mean(rows) < 108
    assert 92 <= np.mean(columns) < 98
    assert (example.image.min(), example.image.max()) == (0, 1)
    assert set(np.unique(example.image[example.label == 1])) == {1.0}


def test_discs_in_colour_show_the_same_objects():
    grey, colour = (
        synthetic.discs(np.random.default_rng(0), size=(200, 200), channels=channels)
        for channels in (1, 3)
    )
    assert colour.image.shape == (200, 200, 3)
    np.testing.assert_array_equal(grey.label, colour.label)
    assert (colour.image.min(), colour.image.max()) == (0, 1)
    darkest = np.unravel_index(grey.image.argmin(), (200, 200, 1))[:2]
    brightest = np.unravel_index(grey.image.argmax(), (200, 200, 1))[:2]
    np.testing.assert_array_equal(colour.image[darkest], [0, 0, 1])
    np.testing.assert_array_equal(colour.image[brightest], [1, 0, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (300, 184)}, "at least 185 pixels, .* got 300 x 184; or reduce"),
        ({"channels": 2}, "channels must be 1 .* or 3 .*, got 2"),
    ],
)
def test_discs_that_cannot_be_drawn_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        synthetic.discs(np.random.default_rng(0), **arguments)
