import numpy as np
import pytest

from unetjax.network.input_scaling import InputScaling, measure, scale, scale_part

ROW = np.array([-3.0, 0.0, 1.0, 2.0], np.float32).reshape(1, 4, 1)


def test_minmax_keeps_the_sign():
    """jakeret/tf_unet takes absolute values first; that fault is not inherited."""
    np.testing.assert_allclose(
        scale(ROW, InputScaling("minmax")).ravel(), [0, 0.6, 0.8, 1]
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_unit_divides_by_the_largest_value_of_the_type(dtype):
    image = np.array([0, np.iinfo(dtype).max], dtype).reshape(1, 2, 1)
    np.testing.assert_allclose(scale(image, InputScaling("unit")).ravel(), [0, 1])


def test_unit_refuses_floats_beyond_one():
    with pytest.raises(ValueError, match=r"\[0, 1\] only, got \[-3, 2\]; use 'minmax'"):
        scale(ROW, InputScaling("unit"))


@pytest.mark.parametrize("method", ["minmax", "percentile", "zscore"])
def test_every_channel_for_itself_and_constants_stay_finite(method):
    rng = np.random.default_rng(0)
    image = np.dstack([rng.uniform(0, 1, (20, 30)), np.full((20, 30), 7.0)])
    scaled = scale(image, InputScaling(method))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled[..., 1], 0)
    tenfold = scale(10 * image + 3, InputScaling(method))
    np.testing.assert_allclose(tenfold[..., 0], scaled[..., 0], atol=1e-4)


def test_zscore():
    scaled = scale(ROW, InputScaling("zscore"))
    np.testing.assert_allclose((scaled.mean(), scaled.std()), (0, 1), atol=1e-6)


def test_percentile_survives_a_nearly_empty_image():
    image = np.zeros((40, 40, 1), np.uint8)
    image[3, 3] = 200
    assert scale(image, InputScaling("percentile")).max() == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_pixels_are_counted(value):
    image = ROW.copy()
    image[0, :2] = value
    with pytest.raises(ValueError, match=r"2 of .* values that are NaN or infinite"):
        scale(image, InputScaling("none"))


@pytest.mark.parametrize(
    ("clip", "row", "expected"),
    [
        ((0.0, 2.0), [-3, 0, 1, 5], [0, 0, 0.5, 1]),
        ((None, 5.0), [0, 1, 5, 10], [0, 0.2, 1, 1]),  # jakeret/tf_unet ignores it
        ((0.0, None), [-3, 0, 1, 5], [0, 0, 0.2, 1]),
        ((None, None), [-3, 0, 1, 2], [0, 0.6, 0.8, 1]),
        ((-1, 0), [-3, 0, 1, 2], [0, 1, 1, 1]),
    ],
)
def test_each_bound_clips_values_alone(clip, row, expected):
    """The bounds are of values, not of absolute ones."""
    image = np.array(row, np.float32).reshape(1, 4, 1)
    np.testing.assert_allclose(
        scale(image, InputScaling("minmax", clip)).ravel(), expected
    )
    whole = scale(image.astype(np.int16), InputScaling("minmax", clip))
    np.testing.assert_allclose(whole.ravel(), expected)


def test_clipping_keeps_the_type_that_unit_divides_by():
    image = np.array([0, 51, 255], np.uint8).reshape(1, 3, 1)
    np.testing.assert_allclose(
        scale(image, InputScaling("unit", (25.5, 51))).ravel(), [0.1, 0.2, 0.2]
    )


@pytest.mark.parametrize("clip", [(2.0, 1.0), (1.0, 1.0)])
def test_bounds_are_an_interval(clip):
    with pytest.raises(
        ValueError, match="clip must be a least grey value and a larger"
    ):
        InputScaling("minmax", clip)


@pytest.mark.parametrize("method", ["unit", "minmax", "percentile", "zscore", "none"])
@pytest.mark.parametrize("clip", [(None, None), (10, 200)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_an_image_read_in_parts_is_scaled_as_a_whole(method, clip, dtype):
    rng = np.random.default_rng(0)
    image = rng.gamma(2.0, 40.0, (41, 30, 2)).clip(0, 255).astype(dtype)
    if dtype == np.float32:
        image = image / 255 if method == "unit" else image - 60
        clip = (None, None) if method == "unit" else clip
    scaling = InputScaling(method, clip)
    measured = measure(lambda: np.array_split(image, 5), scaling)
    found = [scale_part(part, scaling, measured) for part in np.split(image, [7, 30])]
    np.testing.assert_allclose(np.concatenate(found), scale(image, scaling), atol=1e-6)


def test_an_almost_empty_image_read_in_parts():
    image = np.zeros((50, 40, 1), np.uint8)
    image[3, 4] = 200
    scaling = InputScaling("percentile")
    measured = measure(lambda: np.array_split(image, 3), scaling)
    assert (measured.low, measured.high) == (0, 200)


def test_an_image_without_parts_is_refused():
    with pytest.raises(ValueError, match="at least one pixel, got none"):
        measure(lambda: [], InputScaling("minmax"))
