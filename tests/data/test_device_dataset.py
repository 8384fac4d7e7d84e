import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.augmentation.augment import OFF, PAPER
from unetjax.data import device_dataset, sampling
from unetjax.data.device_dataset import DataPipeline
from unetjax.data.examples import Example, from_instances, from_labels
from unetjax.data.sampling import SamplingSettings
from unetjax.network.input_scaling import InputScaling
from unetjax.targets.encode import encode
from unetjax.weight_maps.device import label_and_weight
from unetjax.weight_maps.settings import WeightMapSettings

TILE, OUTPUT = 60, 20  # depth 2
PIPELINE = DataPipeline(TILE, OUTPUT, augmentation=OFF)


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
    return device_dataset.load(EXAMPLES, PIPELINE)


def draw(data, items, key=None, jitter=0.0, **changes):
    sampling = SamplingSettings(jitter=jitter)
    pipeline = replace(PIPELINE, sampling=sampling, **changes)
    key = jax.random.key(0) if key is None else key
    return compiled(pipeline)(data, key, jnp.asarray(items))


@functools.cache
def compiled(pipeline):
    return jax.jit(functools.partial(device_dataset.draw_batch, pipeline=pipeline))


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
            matches = np.argwhere((windows == image).all(axis=(2, 3)))
            if len(matches):
                break
        else:
            raise AssertionError("tile found in no image")
        top, left = matches[0] + 20
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


LABELS = [
    np.array([[1, 0, 0, -1, 2], [0, 0, -1, -1, 1]], np.int32),  # 3 cells, 4 background
    np.zeros((3, 3), np.int32),
    np.full((2, 2), -1, np.int32),  # nothing to prefer
]


def counts_of_centers(background, image, draws=20_000):
    """How often each pixel of an image is the centre of a tile."""
    centers = sampling.find_centers(LABELS, SamplingSettings("weighted", background))
    height, width = LABELS[image].shape
    keys = jax.random.split(jax.random.key(0), draws)
    center = jax.vmap(
        lambda key: sampling.draw_weighted_center(
            key, centers, jnp.array(image), jnp.array(width), 7
        )
    )(keys)
    counts = np.zeros((height, width))
    np.add.at(counts, tuple(np.asarray(center).astype(int).T), 1)
    return counts


@pytest.mark.parametrize("background", [0.0, 0.1, 1.0])
def test_centers_follow_the_density(background):
    """Falk et al. 2019: 1 on cells, v on background, 0 on ignored pixels."""
    label = LABELS[0]
    density = np.where(label > 0, 1.0, background) * (label >= 0)
    expected = 20_000 * density / density.sum()
    counts = counts_of_centers(background, 0)
    np.testing.assert_array_equal(counts[expected == 0], 0)
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected.max())


@pytest.mark.parametrize("image", [1, 2])
@pytest.mark.parametrize("background", [0.0, 0.1])
def test_images_of_one_kind_of_pixel_are_sampled_uniformly(image, background):
    counts = counts_of_centers(background, image)
    np.testing.assert_allclose(counts, counts.mean(), rtol=0.1)


def test_tiles_are_centered_on_annotated_pixels():
    """The middle of every tile is annotated; separation borders are background."""
    label = np.full((40, 31), -1, np.int32)
    instances = np.zeros((40, 31), np.int32)
    label[10:14, 20:26], instances[10:14, 20:23], instances[10:14, 23:26] = 1, 1, 2
    image = np.arange(40 * 31, dtype=np.uint16).reshape(40, 31, 1)
    sampling = SamplingSettings("weighted", background=0.0)
    data = device_dataset.load(
        [Example(image, label, instances, "a corner")],
        replace(PIPELINE, input_scaling=InputScaling("none"), sampling=sampling),
    )
    batch = draw(data, range(64))
    middle = (TILE - 1) // 2
    row, column = np.divmod(batch["image"][:, middle, middle, 0].astype(int), 31)
    seen = set(zip(row, column, strict=True))
    cells = {(r, c) for r in range(10, 14) for c in (20, 21, 22, 24, 25)}
    assert seen <= cells
    assert len(seen) > 15


def test_jitter_moves_the_centre_within_its_range():
    """Seen on an image whose grey values are its columns."""
    image = np.tile(np.arange(201, dtype=np.float32), (201, 1))[..., None]
    label = np.full((201, 201), -1, np.int32)
    label[100, 100] = 1
    example = Example(image, label, np.maximum(label, 0), "a point")
    sampling = SamplingSettings("weighted")
    data = device_dataset.load(
        [example],
        replace(PIPELINE, input_scaling=InputScaling("none"), sampling=sampling),
    )
    middle = (TILE - 1) // 2
    weight_map = WeightMapSettings(w0=0.0, separation_border="none")

    def columns(jitter):
        batch = draw(data, range(100), jitter=jitter, weight_map=weight_map)
        return batch["image"][:, middle, middle, 0]

    np.testing.assert_array_equal(columns(0.0), 100)
    moved = columns(4.0) - 100
    assert -4 <= moved.min() < -3.5
    assert 3.5 < moved.max() <= 4
    np.testing.assert_allclose(moved.std(), 8 / np.sqrt(12), rtol=0.15)


@pytest.mark.parametrize(
    ("rule", "jitter"),
    [
        pytest.param(SamplingSettings(), 0.0, marks=pytest.mark.slow),
        (SamplingSettings("weighted"), 2.0),
    ],
)
def test_a_batch_is_a_function_of_seed_and_item(rule, jitter):
    """However items are grouped: any number of devices sees the same data.

    Up to rounding, as another batch size is another program.
    """
    data = device_dataset.load(EXAMPLES, replace(PIPELINE, sampling=rule))
    run = functools.partial(draw, data, augmentation=PAPER, jitter=jitter)
    whole = run([5, 6, 7, 8])
    parts = [run(pair) for pair in ([5, 6], [7, 8])]
    for name, array in whole.items():
        grouped = np.concatenate([part[name] for part in parts])
        assert np.mean(~np.isclose(array, grouped, atol=1e-4)) < 1e-3, name
    again = run([5, 6, 7, 8])
    np.testing.assert_array_equal(whole["image"], again["image"])
    other = run([5, 6, 7, 8], key=jax.random.key(1))
    assert (other["image"] != whole["image"]).any()


def test_ignored_pixels_have_weight_0():
    label = np.zeros((30, 30), np.int32)
    label[:, 15:] = -1
    example = from_labels(np.zeros((30, 30, 1), np.uint8), label, "half")
    data = device_dataset.load([example], PIPELINE)
    batch = draw(data, range(4), augmentation=PAPER)
    assert (batch["label"] == -1).any()
    np.testing.assert_array_equal(batch["weight"] == 0, batch["label"] == -1)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "has no image; give at least one"),
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
def test_unusable_data_sets_are_refused(examples, message):
    with pytest.raises(ValueError, match=message):
        device_dataset.load(examples, PIPELINE)


def test_a_transform_is_applied_last_with_its_own_key(data):
    """It marks one element of each array, and everything else is unchanged."""

    def mark(image, label, weight, key):
        grey = jax.random.uniform(key)
        return image.at[0, 0].set(grey), label.at[0, 0].set(7), weight.at[0, 0].set(9.0)

    plain = draw(data, range(4))
    marked = draw(data, range(4), transform=mark)
    for name, value in (("label", 7), ("weight", 9)):
        np.testing.assert_array_equal(marked[name][:, 0, 0], value)
    greys = np.asarray(marked["image"][:, 0, 0, 0])
    assert len(set(greys)) == 4
    for name, array in marked.items():
        np.testing.assert_array_equal(
            np.asarray(array)[:, 1:], np.asarray(plain[name])[:, 1:]
        )
    again = draw(data, range(4), transform=mark)
    np.testing.assert_array_equal(again["image"], marked["image"])


def test_images_are_clipped_before_they_are_scaled():
    pipeline = replace(PIPELINE, input_scaling=InputScaling("minmax", (1000, 30_000)))
    loaded = device_dataset.load(EXAMPLES[:1], pipeline)
    values = np.clip(EXAMPLES[0].image.astype(np.float32), 1000, 30_000)
    np.testing.assert_allclose(
        loaded.image.ravel(), (values.ravel() - 1000) / 29_000, atol=1e-6
    )


@pytest.mark.parametrize("target", ["distances", "neighbours", "border"])
def test_maps_of_a_target_move_with_the_instances(target):
    """Every pixel of a tile has the maps of the pixel that it was read from."""
    pipeline = replace(
        PIPELINE,
        target=target,
        augmentation=replace(PAPER, elastic_sigma=3.0, scale=2.0, contrast=0.0),
        weight_map=WeightMapSettings(w0=0.0, separation_border="none"),
    )
    cells = make_example(0, 30, 41).instances
    index = np.arange(cells.size).reshape(cells.shape)
    image = (index[..., np.newaxis] / np.float32(index.max())).astype(np.float32)
    example = from_instances(image, cells, "index")
    data = device_dataset.load([example], pipeline)
    # The numbers of the pixels take the way of the numbers of the cells.
    numbered = data._replace(label=jnp.asarray(index.ravel()), maps=None)
    draw = jax.jit(device_dataset.draw_batch, static_argnames="pipeline")
    items, key = jnp.arange(3), jax.random.key(1)
    batch = draw(data, key, items, pipeline=pipeline)
    sources = draw(numbered, key, items, pipeline=replace(pipeline, target="classes"))[
        "label"
    ]
    expected = encode(cells, target).reshape(cells.size, -1)[np.asarray(sources)]
    if target == "border":
        is_border = np.asarray(batch["label"]) == pipeline.num_classes
        np.testing.assert_array_equal(is_border, expected[..., 0] > 0.5)
        assert is_border.any()
        weights = np.asarray(batch["weight"])[is_border]
        np.testing.assert_allclose(weights, data.class_weights[-1], rtol=1e-6)
    else:
        np.testing.assert_array_equal(batch["maps"], expected)
        assert np.ptp(expected) > 0.5
