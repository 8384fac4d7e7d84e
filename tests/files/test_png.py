import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from unetjax.files import images, png


def raw_png(path, width, height, depth, colour, rows):
    """Writes a PNG by hand, of kinds that Pillow does not write."""

    def chunk(kind, body):
        checksum = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + checksum

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + bytes([depth, colour, 0, 0, 0]))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("depth", "row"), [(1, 0b0101 << 4), (2, 0b00_01_10_11)])
def test_values_of_fewer_than_8_bits_are_not_scaled(tmp_path, depth, row):
    """Pillow scales grey values 0..3 of 2 bits to 0..255: other classes."""
    raw_png(tmp_path / "a.png", 4, 1, depth, 0, bytes([0, row]))
    expected = {1: [0, 1, 0, 1], 2: [0, 1, 2, 3]}[depth]
    assert images.read_labels(tmp_path / "a.png").tolist() == [expected]
    assert images.read_image(tmp_path / "a.png").dtype == np.uint8


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_colours_of_16_bits_are_refused(tmp_path, colour):
    """Pillow would silently keep 8 of their bits."""
    raw_png(tmp_path / "a.png", 1, 1, 16, colour, bytes(9))
    with pytest.raises(ValueError, match=r"a\.png is a PNG of 16-bit colours, .* TIFF"):
        png.read(tmp_path / "a.png")


def test_an_indexed_image_gives_its_palette_indices(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    image.save(tmp_path / "a.png")
    assert images.read_labels(tmp_path / "a.png").tolist() == [[0, 1], [2, 1]]
    colours = [[[9, 9, 9], [200, 0, 0]], [[0, 200, 0], [200, 0, 0]]]
    assert images.read_image(tmp_path / "a.png").tolist() == colours


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif"])
def test_a_palette_of_grey_values_gives_the_grey_values(tmp_path, suffix):
    """Optimisers store black and white in any order: the shown cells are white."""
    image = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8))
    image.putpalette([255, 255, 255, 0, 0, 0])
    path = tmp_path / f"a{suffix}"
    image.save(path)
    assert images.read_labels(path).tolist() == [[255, 0], [0, 0]]
    assert images.read_image(path)[..., 0].tolist() == [[255, 0], [0, 0]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_the_orientation_tag_is_honoured(tmp_path, caplog, suffix, orientation):
    """Pixels are where Pillow shows those of a PNG."""
    stored = np.kron(np.arange(6).reshape(2, 3), np.full((8, 8), 40)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    for each in (path, tmp_path / "shown.png"):  # Pillow turns TIFFs wrongly
        Image.fromarray(stored).save(each, exif=exif)
    with Image.open(tmp_path / "shown.png") as image:
        shown = np.asarray(ImageOps.exif_transpose(image))
    assert shown.shape == ((16, 24) if orientation < 5 else (24, 16))
    with caplog.at_level("WARNING", "unetjax"):
        np.testing.assert_array_equal(images.read_image(path)[..., 0], shown)
    assert ("turned upright" in caplog.text) == (orientation > 1)


def test_the_first_image_of_a_jpeg_with_previews_is_read(tmp_path):
    """As phones write them: MPO, several JPEGs in one file."""
    large, small = Image.new("L", (16, 8), 200), Image.new("L", (8, 8), 9)
    large.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[small])
    assert images.read_image(tmp_path / "a.jpg").shape == (8, 16, 1)


def test_cmyk_and_animations_are_refused(tmp_path):
    Image.new("CMYK", (8, 4)).save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg stores colours as CMYK; accepted"):
        images.read_image(tmp_path / "a.jpg")
    frames = [Image.new("L", (8, 4), grey) for grey in (0, 1)]
    frames[0].save(tmp_path / "b.png", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"b\.png is an animation"):
        images.read_image(tmp_path / "b.png")


def test_a_header_that_claims_too_much_is_refused(tmp_path):
    raw_png(tmp_path / "a.png", 12_000, 12_000, 8, 0, bytes(9))
    with pytest.raises(
        ValueError, match=r"a\.png is damaged: its header claims 137\.3"
    ):
        images.read_image(tmp_path / "a.png")
    raw_png(tmp_path / "b.png", 100_000, 100_000, 8, 0, bytes(9))
    with pytest.raises(ValueError, match=r"b\.png has more pixels .* save it as TIFF"):
        images.read_image(tmp_path / "b.png")
