import io

import numpy as np
import pytest
from PIL import Image

from unetjax.reporting import pictures


def ramp(channels, dtype=np.uint16):
    values = np.arange(12 * 10 * channels).reshape(12, 10, channels)
    return (7 + 3 * values).astype(dtype)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_grey_shows_one_to_four_channels_and_leaves_the_image(channels, dtype):
    image = ramp(channels, dtype)
    before = image.copy()
    picture = pictures.grey(image)
    assert picture.shape == (12, 10, 3)
    assert picture.dtype == np.uint8
    assert picture.min() < 10
    assert picture.max() > 245
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("channels", [0, 5])
def test_grey_refuses_more_than_four_channels(channels):
    with pytest.raises(
        ValueError, match=rf"1 to 4 channels, got .* {channels}; select"
    ):
        pictures.grey(np.zeros((4, 4, channels), np.uint8))


@pytest.mark.parametrize("value", [0, 255, np.nan, np.inf])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_constant_image_is_black(value, channels):
    """A scaling by the maximum or the range would divide by zero here."""
    picture = pictures.grey(np.full((5, 6, channels), value, np.float32))
    assert not picture.any()


def test_grey_clips_outliers_and_nan():
    image = np.linspace(100, 200, 10_000).reshape(100, 100, 1)
    image[0, 0], image[0, 1] = 1e6, np.nan
    picture = pictures.grey(image)
    assert picture[0, 0, 0] == 255
    assert picture[0, 1, 0] == 0
    assert int(picture[50, 50, 0]) == pytest.approx(128, abs=3)


def test_grey_shows_a_single_bright_pixel():
    """Both percentiles are 0 here; the picture must not be black."""
    image = np.zeros((50, 50, 1), np.uint8)
    image[3, 4] = 9
    np.testing.assert_array_equal(np.argwhere(pictures.grey(image)[..., 0]), [[3, 4]])


def test_grey_keeps_the_colours_of_a_stain():
    """Equal limits for red, green and blue; a constant alpha channel adds nothing."""
    image = np.linspace(0, 50, 120).reshape(12, 10, 1) * [4.0, 2.0, 1.0]
    picture = pictures.grey(image).astype(float)
    np.testing.assert_allclose(
        picture[6, 5] / picture[6, 5, 0], [1, 0.5, 0.25], atol=0.02
    )
    opaque = np.concatenate([image, np.full((12, 10, 1), 255.0)], axis=2)
    np.testing.assert_array_equal(pictures.grey(opaque), pictures.grey(image))


def test_instances_have_distinct_colours_that_depend_on_their_number_only():
    instances = np.arange(1001).reshape(7, 143)
    colors = pictures.color_labels(instances)
    assert len(np.unique(colors.reshape(-1, 3), axis=0)) == 1001
    assert not colors[0, 0].any()
    assert colors.reshape(-1, 3)[1:].max(axis=1).min() > 100  # none is near black
    np.testing.assert_array_equal(
        pictures.color_labels(instances[2:4, 5:9]), colors[2:4, 5:9]
    )
    np.testing.assert_array_equal(
        pictures.color_labels(instances.astype(np.uint16)), colors
    )


def test_consecutive_numbers_differ_clearly():
    row = pictures.color_labels(np.arange(1, 500)[None])[0].astype(int)
    assert np.abs(np.diff(row, axis=0)).max(axis=1).min() > 60


def test_large_numbers_differ_clearly():
    instances = np.array([[2**32 - 1, 2**32 - 2]], np.uint32)
    first, second = pictures.color_labels(instances)[0].astype(int)
    assert np.abs(first - second).max() > 60


def test_outlines_are_the_outermost_pixels_of_instances():
    instances = np.array(
        [
            [0, 0, 0, 0, 0, 0],
            [0, 0, 1, 1, 2, 2],  # a missing corner: diagonal neighbours do not count
            [0, 1, 1, 1, 2, 2],
            [0, 1, 1, 1, 2, 2],
            [0, 0, 0, 0, 2, 2],
        ]
    )
    expected = np.array(
        [
            [0, 0, 0, 0, 0, 0],
            [0, 0, 1, 1, 1, 1],
            [0, 1, 0, 1, 1, 0],
            [0, 1, 1, 1, 1, 0],
            [0, 0, 0, 0, 1, 0],
        ]
    )
    picture = np.full((5, 6, 3), 7, np.uint8)
    drawn = pictures.outlines(picture, instances, color=(1, 2, 3))
    np.testing.assert_array_equal((drawn == (1, 2, 3)).all(axis=-1), expected)
    np.testing.assert_array_equal((drawn == 7).all(axis=-1), 1 - expected)
    assert (picture == 7).all()


def test_heat_gets_lighter_with_the_value():
    """Lightness L* of CIELAB increases monotonically, in steps of similar size."""
    picture = pictures.heat(np.linspace(1.0, 11.0, 101)[None])[0] / 255
    linear = np.where(
        picture <= 0.04045, picture / 12.92, ((picture + 0.055) / 1.055) ** 2.4
    )
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    lightness = np.where(
        luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance
    )
    steps = np.diff(lightness)
    assert lightness[0] < 1
    assert lightness[-1] > 95
    assert steps.min() > 0.4
    assert steps.max() < 1.7


def test_heat_clips_at_its_limits():
    weight = np.array([[1.0, 6.0, 11.0, 50.0, np.nan]], np.float32)
    within = pictures.heat(weight, limits=(1.0, 11.0))[0]
    np.testing.assert_array_equal(within[2], within[3])
    np.testing.assert_array_equal(within[0], within[4])
    np.testing.assert_array_equal(within[:3], pictures.heat(np.array([[1, 6, 11]]))[0])
    assert (
        pictures.heat(np.full((2, 2), 3.0)) == pictures.heat(np.zeros((2, 2)))
    ).all()


def test_errors_distinguish_true_and_false_positives_and_misses():
    picture = np.zeros((1, 4, 3), np.uint8)
    prediction = np.array([[True, True, False, False]])
    truth = np.array([[True, False, True, False]])
    drawn = pictures.errors(picture, prediction, truth)[0]
    for pixel, color in zip(
        drawn, (pictures.GREEN, pictures.ORANGE, pictures.BLUE, (0, 0, 0)), strict=True
    ):
        np.testing.assert_allclose(pixel, 0.65 * np.array(color), atol=0.51)
    assert not picture.any()


def test_side_by_side_keeps_every_pixel():
    panels = [np.full((h, w, 3), h, np.uint8) for h, w in ((30, 20), (50, 60))]
    row = pictures.side_by_side(panels, gap=4)
    assert row.shape == (58, 92, 3)
    assert (row[4:34, 4:24] == 30).all()
    assert (row[4:54, 28:88] == 50).all()
    assert (row[34:, :28] == 255).all()


def test_titles_stand_above_their_panels():
    panels = [np.zeros((10, 80, 3), np.uint8)] * 2
    row = pictures.side_by_side(panels, ["", "prediction"], gap=4)
    assert row.shape == (38, 172, 3)
    assert (row[:24, :84] == 255).all()
    assert (row[4:24, 88:168] < 128).any()
    with pytest.raises(ValueError, match=r"got 2 panels and 1 titles"):
        pictures.side_by_side(panels, ["image"])
    with pytest.raises(ValueError, match=r"got 0 panels"):
        pictures.side_by_side([])


@pytest.mark.parametrize("image", [ramp(1), ramp(3)], ids=["grey", "colour"])
def test_png_holds_the_picture(tmp_path, image):
    picture = pictures.grey(image)
    with Image.open(io.BytesIO(pictures.png_bytes(picture))) as file:
        np.testing.assert_array_equal(np.array(file.convert("RGB")), picture)

    path = tmp_path / "a.png"
    pictures.write_png(path, picture)
    assert path.read_bytes() == pictures.png_bytes(picture)
    with pytest.raises(FileExistsError, match=r"a\.png exists"):
        pictures.write_png(path, np.zeros_like(picture))
    assert path.read_bytes() == pictures.png_bytes(picture)
    pictures.write_png(path, np.zeros_like(picture), replace=True)
    assert path.read_bytes() != pictures.png_bytes(picture)


def test_thumbnail_only_shrinks():
    picture = np.full((100, 40, 3), 9, np.uint8)
    assert pictures.thumbnail(picture, side=50).shape == (50, 20, 3)
    np.testing.assert_array_equal(pictures.thumbnail(picture, side=100), picture)


@pytest.mark.parametrize("folder", ["dsb2018_nuclei", "dsb2018_histology"])
def test_real_cells_stand_out(shared_data, folder):
    """Nuclei are bright in fluorescence and dark in the stain, before and after."""
    path = min((shared_data / folder / "val" / "images").iterdir())
    instances = np.array(Image.open(path.parents[1] / "labels" / path.name))
    image = np.atleast_3d(np.array(Image.open(path)))
    picture = pictures.grey(image)
    inside, outside = picture[instances > 0].mean(), picture[instances == 0].mean()
    assert abs(inside - outside) > 40
    assert (inside > outside) == (folder == "dsb2018_nuclei")
    drawn = pictures.outlines(picture, instances)
    changed = (drawn != picture).any(axis=-1)
    assert changed.any()
    assert not changed[instances == 0].any()
