import struct
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetjax.files import images, tiff

COLOURS = np.random.default_rng(0).integers(0, 255, (3, 40, 50), dtype=np.uint8)
GREY = {"photometric": "minisblack"}


def read(tmp_path, array, **how):
    tifffile.imwrite(tmp_path / "a.tif", array, **how)
    return tiff.read(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("array", "how", "shape"),
    [
        (COLOURS[0], GREY, (1, 40, 50, 1)),
        (COLOURS, GREY, (3, 40, 50, 1)),  # nothing declares that these are channels
        (COLOURS, GREY | {"metadata": {"axes": "CYX"}}, (1, 40, 50, 3)),
        (COLOURS, {"imagej": True, "metadata": {"axes": "ZYX"}}, (3, 40, 50, 1)),
        (COLOURS, {"photometric": "rgb", "planarconfig": "separate"}, (1, 40, 50, 3)),
        (np.moveaxis(COLOURS, 0, 2), {"photometric": "rgb"}, (1, 40, 50, 3)),
        (COLOURS[:1], GREY | {"metadata": {"axes": "CYX"}}, (1, 40, 50, 1)),
        (
            np.stack([COLOURS, COLOURS + 1]),
            {"imagej": True, "metadata": {"axes": "TCYX"}},
            (2, 40, 50, 3),
        ),
        (COLOURS[:, :1, :1], GREY | {"metadata": {"axes": "CYX"}}, (1, 1, 1, 3)),
    ],
)
def test_axes_are_those_the_file_declares(tmp_path, array, how, shape):
    pixels = read(tmp_path, array, **how).pixels
    assert pixels.shape == shape
    if shape[-1] == 3:  # the colours of one pixel, wherever the file keeps them
        np.testing.assert_array_equal(pixels[0, 0, 0], COLOURS[:, 0, 0])
    else:
        np.testing.assert_array_equal(pixels[0, ..., 0], COLOURS[0, :40, :50])


def test_a_hyperstack_is_a_sequence_in_the_order_of_its_axes(tmp_path):
    stack = np.arange(2 * 3 * 8 * 9, dtype=np.uint16).reshape(2, 3, 8, 9)
    pages = read(tmp_path, stack, imagej=True, metadata={"axes": "TZYX"})
    np.testing.assert_array_equal(pages.pixels[..., 0], stack.reshape(6, 8, 9))
    metadata = tiff.read_metadata(tmp_path / "a.tif")
    assert (metadata.axes, metadata.shape) == ("TZ", (2, 3))


@pytest.mark.parametrize(
    ("how", "size", "unit"),
    [
        ({"imagej": True, "metadata": {"unit": "um"}}, (0.5, 0.25), "um"),
        ({"imagej": True, "metadata": {"unit": "\\u00B5m"}}, (0.5, 0.25), "um"),
        ({"resolutionunit": "CENTIMETER"}, (0.5, 0.25), "cm"),
        ({"resolutionunit": "INCH"}, (0.5, 0.25), "inch"),
        ({"resolutionunit": "NONE"}, None, ""),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
def test_pixel_size_and_axes_are_kept(tmp_path, how, size, unit, dtype):
    stack = np.zeros((2, 3, 8, 9), np.uint16)
    how = {"resolution": (4, 2), **how}
    how["metadata"] = {"axes": "TZYX", **how.get("metadata", {})}
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **how)
    metadata = tiff.read_metadata(tmp_path / "a.tif")
    assert (metadata.axes, metadata.shape) == ("TZ", (2, 3))
    assert (metadata.pixel_size, metadata.unit) == (size, unit)
    path = tmp_path / "b.tif"
    images.write_image(path, np.zeros((6, 8, 9, 1), dtype), metadata)
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "TZYX"
        assert file.series[0].shape == (2, 3, 8, 9)
        if unit == "um" and dtype != np.uint32:
            assert file.imagej_metadata["unit"] == "um"
        if size:
            y, x = (Fraction(*file.pages[0].tags[tag].value) for tag in (283, 282))
            assert x == 2 * y
    again = tiff.read_metadata(path)
    assert again.axes == "TZ"
    if unit == "um" and dtype == np.uint32:  # not in ImageJ's format
        assert again.unit == "cm"
        np.testing.assert_allclose(np.array(again.pixel_size) * 1e4, size)
    else:
        assert again == metadata


def test_the_pixel_size_of_ome_is_read(tmp_path):
    how = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "axes": "ZYX"}
    how |= {"PhysicalSizeXUnit": "\u00b5m", "PhysicalSizeYUnit": "\u00b5m"}
    tifffile.imwrite(tmp_path / "a.ome.tif", COLOURS, metadata=how, **GREY)
    metadata = tiff.read_metadata(tmp_path / "a.ome.tif")
    assert metadata[:4] == ("Z", (3,), (0.5, 0.25), "um")


def test_two_axes_of_channels_are_refused(tmp_path):
    stack = np.zeros((2, 8, 9, 3), np.uint8)
    with pytest.raises(ValueError, match="has axes CYXS of size 2x8x9x3; accepted are"):
        read(tmp_path, stack, imagej=True, metadata={"axes": "CYXS"})


def test_channels_behind_the_columns_are_recognised(tmp_path):
    """As tifffile stores an array [H, W, 2] whose axes nobody named."""
    with pytest.raises(ValueError, match="96 images of 90x2, which looks like 2 chan"):
        read(tmp_path, np.zeros((96, 90, 2), np.uint8), **GREY)


def test_several_kinds_of_images_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(COLOURS[0], **GREY)
        file.write(COLOURS[0, ::2, ::2], **GREY)
    with pytest.raises(ValueError, match="holds 2 images of different kinds"):
        tiff.read(tmp_path / "a.tif")


def test_complex_values_are_refused(tmp_path):
    with pytest.raises(ValueError, match="type complex64; accepted are integers"):
        read(tmp_path, np.zeros((4, 4), np.complex64))


def test_alpha_and_palettes_are_recognised(tmp_path):
    rgba = np.zeros((8, 9, 4), np.uint8)
    assert read(tmp_path, rgba, photometric="rgb").has_alpha
    how = {"photometric": "rgb", "extrasamples": ["unspecified"]}
    assert not read(tmp_path, rgba, **how).has_alpha
    colormap = np.zeros((3, 256), np.uint16)
    colormap[1] = 257 * np.arange(256)
    pages = read(tmp_path, rgba[..., 0], photometric="palette", colormap=colormap)
    assert pages.palette.dtype == np.uint8
    assert pages.palette[7].tolist() == [0, 7, 0]
    assert pages.pixels.shape == (1, 8, 9, 1)


def test_a_colour_table_of_imagej_is_for_display(tmp_path):
    """ImageJ measures the stored values, whichever colours it shows them in."""
    colormap = np.zeros((3, 256), np.uint16)
    colormap[1] = 257 * np.arange(256)
    how = {"photometric": "palette", "colormap": colormap, "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", COLOURS[0], **how)
    assert images.read_image(tmp_path / "a.tif").shape == (40, 50, 3)
    how["description"] = "ImageJ=1.54f\n"
    tifffile.imwrite(tmp_path / "b.tif", COLOURS[0], **how)
    image = images.read_image(tmp_path / "b.tif")
    np.testing.assert_array_equal(image[..., 0], COLOURS[0])


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (np.array([[True, False]]), [[0, 1]]),
        (np.array([[0, 5, 255]], np.uint8), [[255, 250, 0]]),
        (np.array([[0, 5, 65_535]], np.uint16), [[65_535, 65_530, 0]]),
    ],
)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_white_is_zero(tmp_path, stored, shown, compression):
    how = {"photometric": "miniswhite", "compression": compression}
    pages = read(tmp_path, stored, **how)
    assert pages.pixels[0, ..., 0].tolist() == shown
    same = read(tmp_path, stored, description="ImageJ=1.54f\n", metadata=None, **how)
    assert same.pixels[0, ..., 0].tolist() == stored.astype(int).tolist()


def test_white_is_zero_says_nothing_about_real_numbers(tmp_path):
    with pytest.raises(ValueError, match=r"0 is white, .* float32; save it with"):
        read(tmp_path, np.zeros((4, 4), np.float32), photometric="miniswhite")


@pytest.mark.parametrize(
    ("mode", "name"), [("CMYK", "CMYK"), ("LAB", "CIELAB"), ("YCbCr", "YCBCR")]
)
def test_other_colours_are_refused(tmp_path, mode, name):
    Image.new(mode, (9, 8)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=f"stores colours as {name}; accepted are gr"):
        images.read_image(tmp_path / "a.tif")


def test_colours_compressed_by_jpeg_are_rgb_but_no_labels(tmp_path):
    shown = np.full((16, 16, 3), [200, 30, 90], np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", shown, photometric="rgb", compression="jpeg")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.YCBCR
    image = images.read_image(tmp_path / "a.tif").astype(int)
    assert abs(image - shown).max() <= 4
    grey = np.zeros((16, 16), np.uint8)
    tifffile.imwrite(tmp_path / "b.tif", grey, compression="jpeg", **GREY)
    with pytest.raises(ValueError, match=r"b\.tif is JPEG-compressed, which changes"):
        images.read_labels(tmp_path / "b.tif")


@pytest.mark.parametrize("side", [100_000, 40_000])
def test_a_header_that_claims_too_much_takes_no_memory(tmp_path, side):
    """126 bytes that claim 100,000 x 100,000 made tifffile allocate 9.3 GiB."""
    entries = [(256, side), (257, side), (258, 8), (259, 1), (262, 1)]
    entries += [(273, 122), (277, 1), (278, side), (279, 4)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    path = tmp_path / "bomb.tif"
    path.write_bytes(head + body + bytes(4 + 4))
    assert path.stat().st_size == 126
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"bomb\.tif is damaged: its header claims"):
        images.read_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("how", [{}, {"compression": "zlib", "tile": (16, 16)}])
def test_a_truncated_stack_is_refused(tmp_path, share, how):
    """tifffile returns one page of such a file and only logs the problem."""
    stack = np.random.default_rng(0).integers(0, 999, (4, 64, 64), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, **GREY, **how)
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "b.tif").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"b\.tif (is damaged|cannot be read)"):
        images.read_stack(tmp_path / "b.tif")


def test_a_cyclic_chain_of_pages_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.uint8), metadata=None)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * count, first)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tif is damaged .* form a cycle"):
        images.read_stack(tmp_path / "a.tif")


def test_other_files_in_the_metadata_stay_closed(tmp_path):
    """OME metadata can refer to another file in the folder as one of the pages."""
    page = '<TiffData IFD="0" FirstT="{0}"><UUID FileName="{1}.ome.tif">urn:{1}</UUID>'
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:a">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" '
        'SizeX="50" SizeY="40" SizeC="1" SizeZ="1" SizeT="2">'
        f"{page.format(0, 'a')}</TiffData>{page.format(1, 'b')}</TiffData>"
        "</Pixels></Image></OME>"
    )
    how = GREY | {"metadata": None, "description": xml}
    tifffile.imwrite(tmp_path / "a.ome.tif", COLOURS[0], **how)
    tifffile.imwrite(
        tmp_path / "b.ome.tif",
        COLOURS[1],
        **(how | {"description": xml.replace('UUID="urn:a"', 'UUID="urn:b"')}),
    )
    pixels = tiff.read(tmp_path / "a.ome.tif").pixels
    np.testing.assert_array_equal(pixels, COLOURS[0][None, ..., None])


def test_an_orientation_that_is_no_number_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    extra = [(274, "H", 2, (1, 1), True)]
    tifffile.imwrite(path, np.zeros((9, 9), np.uint8), extratags=extra)
    for read in (tiff.read, tiff.read_metadata):
        with pytest.raises(ValueError, match=r"its orientation is no single number"):
            read(path)


def test_an_offset_beyond_all_files_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((9, 9), np.uint8), bigtiff=True)
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.tags[273].valueoffset
    content = bytearray(path.read_bytes())
    content[place : place + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tif"):
        tiff.read(path)
