import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.augmentation.augment import OFF, PAPER
from unetjax.data import resident, sampling
from unetjax.data.source import from_instances, from_labels
from unetjax.weight_maps.device import label_and_weight
from unetjax.weight_maps.settings import WeightMap

TILE, OUTPUT = 60, 20  # depth 2


def make_example(seed, height, width):
    """Every pixel of the image is one of a kind; two cells nearly touch."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 2**16, (height, width, 1), np.uint16)
    instances = np.zeros((height, width), np.int32)
    instances[2:9, 2:9], instances[2:9, 10:16] = 70_000, 5
    return from_instances(image, instances, f"example {seed}")


EXAMPLES = [make_example(0, 30, 41), make_example(1, 17, 18), make_example(2, 64, 25)]


@pytest.fixture(scope="module")
def data():
    return resident.load(
        EXAMPLES, scaling="unit", num_classes=2, weight_map=WeightMap()
    )


def draw(data, items, key=None, augmentation=OFF):
    return jax.jit(
        functools.partial(
            resident.draw_batch,
            tile_size=TILE,
            output_size=OUTPUT,
            weight_map=WeightMap(),
            augmentation=augmentation,
        )
    )(data, jax.random.key(0) if key is None else key, jnp.asarray(items))


def test_a_plain_tile_is_a_window_of_the_mirrored_image(data):
    """Without augmentation, image, label and weight equal those cut on the host."""
    batch = draw(data, range(6))
    weights = {}
    for index in range(6):
        image = np.asarray(batch["image"][index, ..., 0])
        for example in EXAMPLES:
            pad = 2 * TILE
            mirrored = np.pad(
                example.image[..., 0].astype(np.float32) / np.float32(65535),
                pad,
                mode="reflect",
            )
            windows = np.lib.stride_tricks.sliding_window_view(mirrored, (TILE, TILE))
            found = np.argwhere((windows == image).all(axis=(2, 3)))
            if len(found):
                break
        else:
            raise AssertionError("tile found in no image")
        top, left = found[0] + 20
        cells = np.pad(example.instances, pad, mode="reflect")
        label, weight = label_and_weight(
            np.sign(cells[top - 20 : top + 40, left - 20 : left + 40]),
            cells[top - 20 : top + 40, left - 20 : left + 40],
            data.class_weights,
        )
        inner = (slice(20, 40), slice(20, 40))
        np.testing.assert_array_equal(batch["label"][index], label[inner])
        np.testing.assert_allclose(batch["weight"][index], weight[inner], atol=1e-5)
        weights[index] = float(weight[inner].max())
    assert max(weights.values()) > 8  # the narrow gap was met


def test_each_image_once_an_epoch(key):
    items = jnp.arange(12)
    drawn = jax.vmap(lambda i: sampling.draw_image(key, i, 4))(items).reshape(3, 4)
    np.testing.assert_array_equal(np.sort(drawn), np.tile(np.arange(4), (3, 1)))
    assert (drawn[0] != drawn[1]).any() or (drawn[1] != drawn[2]).any()


def test_centers_cover_the_image_evenly():
    keys = jax.random.split(jax.random.key(0), 8000)
    center = functools.partial(
        sampling.draw_center, height=jnp.array(4), width=jnp.array(2), tile_size=7
    )
    rows, columns = np.asarray(jax.vmap(center)(keys)).astype(int).T
    counts = np.zeros((4, 2))
    np.add.at(counts, (rows, columns), 1)
    np.testing.assert_allclose(counts, 1000, rtol=0.15)


def test_a_batch_is_a_function_of_seed_and_item(data):
    """However items are grouped: any number of devices sees the same data.

    Up to rounding, as another batch size is another program.
    """
    whole = draw(data, [5, 6, 7, 8], augmentation=PAPER)
    parts = [draw(data, pair, augmentation=PAPER) for pair in ([5, 6], [7, 8])]
    for name, array in whole.items():
        grouped = np.concatenate([part[name] for part in parts])
        assert np.mean(~np.isclose(array, grouped, atol=1e-4)) < 1e-3, name
    again = draw(data, [5, 6, 7, 8], augmentation=PAPER)
    np.testing.assert_array_equal(whole["image"], again["image"])
    other = draw(data, [5, 6, 7, 8], augmentation=PAPER, key=jax.random.key(1))
    assert (other["image"] != whole["image"]).any()


def test_ignored_pixels_weigh_nothing():
    label = np.zeros((30, 30), np.int32)
    label[:, 15:] = -1
    example = from_labels(np.zeros((30, 30, 1), np.uint8), label, "half")
    weight_map = WeightMap()
    data = resident.load(
        [example], scaling="unit", num_classes=2, weight_map=weight_map
    )
    batch = draw(data, range(4), augmentation=PAPER)
    assert (batch["label"] == -1).any()
    np.testing.assert_array_equal(batch["weight"] == 0, batch["label"] == -1)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "holds no image; give at least one"),
        (
            [
                EXAMPLES[0],
                from_instances(
                    np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), int), "b"
                ),
            ],
            r"\[1, 3\] channels; all must have the same number",
        ),
    ],
)
def test_unusable_sets_are_refused(examples, message):
    with pytest.raises(ValueError, match=message):
        resident.load(examples, scaling="unit", num_classes=2, weight_map=WeightMap())
