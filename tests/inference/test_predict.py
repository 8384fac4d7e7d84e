"""Tiled prediction must be one pass over the mirrored image, whatever the tiles."""

import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unetjax.inference import predict as predict_module
from unetjax.inference import tiles
from unetjax.inference.predict import class_map, predict
from unetjax.inference.trained_model import TrainedModel
from unetjax.network.forward import forward
from unetjax.network.input_scaling import InputScaling, scale
from unetjax.network.unet import UNet

SIDE = 160  # of the one mirrored image, into which all images of these tests fit


def one_pass(model, params, image, mirror="reflect"):
    """Logits of one pass over the image, mirrored by NumPy to a side of about 160."""
    side, margin = model.geometry.input_size(SIDE), model.geometry.margin
    after = [(margin, side - margin - n) for n in image.shape[:2]]
    padded = np.pad(image, [*after, (0, 0)], mode=mirror)
    run = jax.jit(forward, static_argnames="model")
    logits = np.asarray(run(model, params, {}, padded[np.newaxis])[0][0])
    first = margin if model.padding == "SAME" else 0
    return logits[first:, first:][: image.shape[0], : image.shape[1]]


def random_image(height, width, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((height, width, channels), np.float32)


def largest_error(actual, expected):
    """In units of the largest logit."""
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("depth", [1, pytest.param(2, marks=pytest.mark.slow), 3])
def test_tiled_equals_one_pass(make_variables, depth, padding):
    """P10: any size, odd and narrow ones included; any tile; both ways to mirror."""
    model = UNet(features=2, depth=depth, padding=padding)
    params = make_variables(model)["params"]
    trained, geometry = TrainedModel(model, params), model.geometry
    rim = 2 * geometry.margin if padding == "SAME" else 0
    tile_sizes = [geometry.input_size(n * geometry.period + rim) for n in (1, 3)]

    @settings(max_examples=10, deadline=None, derandomize=True)
    @given(
        height=st.integers(1, 50),
        width=st.integers(1, 50),
        tile_size=st.sampled_from(tile_sizes),
        mirror=st.sampled_from(["reflect", "symmetric"]),
    )
    def check(height, width, tile_size, mirror):
        image = random_image(height, width)
        actual = predict(
            trained,
            image,
            tile_size=tile_size,
            batch_size=4,
            mirror=mirror,
            softmax=False,
        )
        expected = one_pass(model, params, image, mirror)
        assert largest_error(actual, expected) < 1e-5

    check()


def test_stepping_by_the_output_leaves_seams(make_variables, monkeypatch):
    """P9: at depth 3 the output is 4 modulo 8, so abutting tiles are off phase."""
    model = UNet(features=2, depth=3)
    params = make_variables(model)["params"]
    image = random_image(50, 20)
    plan = tiles.plan(50, 20, model.geometry, tile_size=108)
    assert (plan.rows.trusted, plan.rows.stride, plan.rows.count) == (20, 16, 3)
    rows = plan.rows._replace(stride=20)
    monkeypatch.setattr(tiles, "plan", lambda *_, **__: plan._replace(rows=rows))
    actual = predict(TrainedModel(model, params), image, softmax=False)
    expected = one_pass(model, params, image)
    assert largest_error(actual[:20], expected[:20]) < 1e-5
    assert largest_error(actual[20:], expected[20:]) > 1e-2


def test_tiles_of_one_program_agree_up_to_rounding(make_variables):
    """The place of a tile in image and batch changes the last bits at most.

    Vector units compute what is left at the end of a row in another way than the rest:
    with AVX-512 all bits were equal, with AVX2 they are not.
    """
    model = UNet(features=2, depth=2)
    params = make_variables(model)["params"]
    image = random_image(100, 40)
    settings = dict(tile_size=64, batch_size=3)
    whole = predict(TrainedModel(model, params), image, **settings)
    rest = predict(TrainedModel(model, params), image[24:], **settings)  # one tile less
    inner = model.geometry.margin  # beyond what sees the mirrored border
    np.testing.assert_allclose(rest[inner:], whole[24 + inner :], rtol=0, atol=1e-6)


def test_batch_size_does_not_matter(make_variables):
    model = UNet(features=2, depth=1)
    params = make_variables(model)["params"]
    image = random_image(30, 22)
    results = [
        predict(TrainedModel(model, params), image, tile_size=26, batch_size=n)
        for n in (1, 4, 100)
    ]
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-5)


def test_rgb_and_numbers_of_classes(make_variables):
    model = UNet(num_classes=3, features=2, depth=1)
    params = make_variables(model, channels=3)["params"]
    image = random_image(19, 33, channels=3)
    probs = predict(TrainedModel(model, params), image, tile_size=30)
    expected = jax.nn.softmax(one_pass(model, params, image))
    np.testing.assert_allclose(probs, expected, atol=1e-5)
    np.testing.assert_allclose(probs.sum(axis=-1), 1, atol=1e-6)


def test_one_pixel(make_variables):
    model = UNet(features=2, depth=2)
    params = make_variables(model)["params"]
    probs = predict(TrainedModel(model, params), np.ones((1, 1)))
    expected = jax.nn.softmax(one_pass(model, params, np.ones((1, 1, 1), np.float32)))
    np.testing.assert_allclose(probs, expected, atol=1e-5)


def test_grey_values_are_scaled_over_the_whole_image(make_variables):
    """Scaled tile by tile, a gradient would lose its slope from tile to tile."""
    model = UNet(features=2, depth=1)
    params = make_variables(model)["params"]
    image = np.linspace(0, 60000, 60 * 20).reshape(60, 20, 1).astype(np.uint16)
    minmax = InputScaling("minmax")
    trained = TrainedModel(model, params, input_scaling=minmax)
    np.testing.assert_array_equal(
        predict(trained, image[..., 0], tile_size=26),
        predict(TrainedModel(model, params), scale(image, minmax), tile_size=26),
    )


def test_batch_statistics_are_used_and_keep_tiles_exact(make_variables):
    model = UNet(features=2, depth=1, norm="batch")
    params, state = (make_variables(model)[k] for k in ("params", "batch_stats"))
    image, twice = random_image(40, 20), jax.tree.map(lambda x: 2 * x, state)
    trained = TrainedModel(model, params, {"batch_stats": state})
    tiled = predict(trained, image, tile_size=26)
    whole = predict(trained, image)
    other = predict(TrainedModel(model, params, {"batch_stats": twice}), image)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    assert np.abs(other - whole).max() > 1e-2


def test_group_norm_warns_that_the_tiles_matter(make_variables):
    model = UNet(features=2, depth=1, norm="group")
    params = make_variables(model)["params"]
    with pytest.warns(UserWarning, match="depends on the 6 tiles; a larger tile_size"):
        predict(TrainedModel(model, params), random_image(30, 20), tile_size=26)
    predict(TrainedModel(model, params), random_image(9, 9))  # one tile: nothing to say


def test_few_programs_are_compiled(make_variables, monkeypatch):
    """Compiling takes far longer than predicting a small image."""
    traced = []

    def counting(model, params, model_state, image):
        traced.append(image.shape)
        return forward(model, params, model_state, image)

    monkeypatch.setattr(predict_module, "forward", counting)
    model = UNet(features=3, depth=1)  # of this test alone
    params = make_variables(model)["params"]
    for side in (33, 34, 36):
        predict(TrainedModel(model, params), random_image(side, side))
    assert traced == [(1, 52, 52, 1)]
    predict(
        TrainedModel(model, params), random_image(30, 20), tile_size=26, batch_size=4
    )
    assert traced[1:] == [(4, 26, 26, 1)]  # 6 tiles: the second batch is filled up
    predict(TrainedModel(model, params), random_image(9, 9), tile_size=26, batch_size=4)
    assert traced[2:] == [(1, 26, 26, 1)]  # but no batch beyond the number of tiles


def test_progress_counts_tiles(make_variables):
    model = UNet(features=2, depth=1)
    params = make_variables(model)["params"]
    seen = []
    image = random_image(30, 20)
    predict(
        TrainedModel(model, params),
        image,
        tile_size=26,
        batch_size=4,
        progress=lambda *args: seen.append(args),
    )
    assert seen == [(4, 6), (6, 6)]


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((9, 8, 3)), {}, r"\[H, W\] or \[H, W, 1\].* 1 channel, got .*8, 3\]"),
        (np.zeros((1, 9, 8)), {}, r"with 1 channel, got shape \[1, 9, 8\]; convert it"),
        (np.zeros((2, 9, 8, 1)), {}, r"image must be .*, got shape \[2, 9, 8, 1\]"),
        (np.zeros((0, 8)), {}, "at least one pixel, got 0 x 8"),
        (np.full((9, 8), np.nan), {}, "image has 72 of 72 values that are NaN"),
        (np.zeros((9, 8)), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (np.zeros((9, 8)), {"tile_size": 25}, "got 25; try 24 or 26"),
    ],
)
def test_refusals(make_variables, image, options, message):
    model = UNet(features=2, depth=1)
    params = make_variables(model)["params"]
    with pytest.raises(ValueError, match=message):
        predict(TrainedModel(model, params), image, **options)


def test_refusal_names_the_channels_of_the_model(make_variables):
    model = UNet(features=2, depth=0)
    params = make_variables(model, channels=3)["params"]
    with pytest.raises(ValueError, match=r"must be \[H, W, 3\], .* with 3 channels"):
        predict(TrainedModel(model, params), np.zeros((9, 8)))


def test_class_map_takes_the_lower_of_equals():
    probs = np.array([[[0.1, 0.7, 0.2], [0.5, 0.0, 0.5]]], np.float32)
    np.testing.assert_array_equal(class_map(probs), [[1, 0]])


def test_paper_tiles_equal_the_single_tile_on_a_real_slice(make_variables, shared_data):
    """512 x 512 at depth 4: four tiles of the paper against one of 700."""
    image = np.asarray(Image.open(shared_data / "isbi2012_em" / "images" / "00.png"))
    model = UNet(features=2)
    params = make_variables(model)["params"]
    trained = TrainedModel(model, params, input_scaling=InputScaling("unit"))
    one = predict(trained, image, softmax=False)
    four = predict(trained, image, softmax=False, tile_size=572)
    assert largest_error(four, one) < 1e-5


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("depth", [1, 3])
def test_valid_crop_is_the_output_without_any_mirrored_pixel(
    make_variables, depth, padding
):
    """Of a legal size it is the network's own output; of others it ends as it may."""
    model = UNet(features=2, depth=depth, padding=padding)
    params = make_variables(model)["params"]
    geometry = model.geometry
    margin, side = geometry.margin, geometry.input_size(2 * geometry.margin + 20)
    image = random_image(side, side)
    run = jax.jit(forward, static_argnames="model")
    logits = np.asarray(run(model, params, {}, jnp.asarray(image[np.newaxis]))[0][0])
    if padding == "SAME":
        logits = logits[margin:-margin, margin:-margin]
    valid = functools.partial(
        predict, TrainedModel(model, params), softmax=False, crop="valid"
    )
    assert largest_error(valid(image), logits) < 1e-5
    # Of other sizes the last pixels may see up to a period of the mirror image.
    cut, rest = image[:-3, :-5], -geometry.period
    inner = valid(cut)[:rest, :rest]
    assert largest_error(inner, logits[:-3, :-5][:rest, :rest]) < 1e-5
    small = geometry.input_size(geometry.period + 2 * margin * (padding == "SAME"))
    assert largest_error(valid(image, tile_size=small), logits) < 1e-5


def test_valid_crop_needs_pixels_beyond_the_margins(make_variables):
    model = UNet(features=2, depth=1)
    params = make_variables(model)["params"]
    message = r"images above 16 pixels, got 'valid' for 16 x 40"
    with pytest.raises(ValueError, match=message):
        predict(TrainedModel(model, params), random_image(16, 40), crop="valid")


def test_clipping_is_part_of_the_scaling(make_variables):
    model = UNet(features=2, depth=1)
    params = make_variables(model)["params"]
    image = random_image(20, 21)
    clipping, minmax = (
        TrainedModel(model, params, input_scaling=InputScaling("minmax", clip))
        for clip in ((None, 0.5), (None, None))
    )
    np.testing.assert_array_equal(
        predict(clipping, image), predict(minmax, np.minimum(image, 0.5))
    )


def too_large(limit):
    """An engine with memory for so many pixels, and the pixels that it was given."""
    sizes = []

    def engine(batch):
        sizes.append(batch.shape[0] * batch.shape[1] * batch.shape[2])
        if sizes[-1] > limit:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")
        margin = MODEL.geometry.margin
        inner = batch[:, margin:-margin, margin:-margin]
        return np.concatenate([inner, 2 * inner], axis=-1)

    return engine, sizes


MODEL = UNet(features=2, depth=1)


def test_too_little_memory_halves_the_tiles_and_changes_nothing(make_variables):
    trained = TrainedModel(MODEL, make_variables(MODEL)["params"])
    image = np.random.default_rng(0).random((300, 200), np.float32)
    unbounded, _ = too_large(np.inf)
    expected = predict(trained, image, engine=unbounded)
    engine, sizes = too_large(2**14)
    with pytest.warns(UserWarning, match="did not fit into memory; it is tried again"):
        probs = predict(trained, image, engine=engine)
    np.testing.assert_array_equal(probs, expected)
    assert max(sizes) > 2**14 >= sizes[-1]


def test_programs_that_are_not_kept_are_freed(make_variables):
    """Images of all sizes do not fill the memory with one program for each."""
    make = predict_module._compiled_logits
    program = make(MODEL, (1, 20, 20, 1))
    variables = make_variables(MODEL)
    program(variables["params"], {}, jnp.zeros((1, 20, 20, 1)))
    program = weakref.ref(program)
    for i in range(16):
        make(MODEL, (2 + i, 20, 20, 1))
    gc.collect()
    assert program() is None


def test_an_image_that_never_fits_ends_in_one_sentence(make_variables):
    trained = TrainedModel(MODEL, make_variables(MODEL)["params"])
    engine, _ = too_large(0)
    image = np.zeros((60, 60), np.float32)
    with (
        pytest.warns(UserWarning, match="did not fit"),
        pytest.raises(MemoryError, match="does not fit into memory; use a smaller"),
    ):
        predict(trained, image, engine=engine)
    with pytest.raises(MemoryError, match="does not fit into memory"):
        predict(trained, image, engine=engine, tile_size=44, batch_size=1)
