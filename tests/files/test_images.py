import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetjax.files import images

TYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64")
TYPES = (*TYPES, "float16", "float32", "float64")


def ramp(*shape, dtype="uint16"):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", TYPES)
def test_written_images_are_read_back_or_refused(tmp_path, dtype, channels):
    """No dtype, number of channels or format may silently change values or dtype."""
    image = ramp(5, 4, channels, dtype=dtype)
    stored = image.astype(np.uint8) if dtype == "bool" else image
    kind = (stored.dtype.name, channels)
    refused = {
        ".tif": False,
        ".ome.tif": dtype in ("int64", "float16"),
        ".png": kind not in [("uint8", 1), ("uint8", 3), ("uint16", 1)],
    }
    for suffix, is_refused in refused.items():
        path = tmp_path / f"a{suffix}"
        if is_refused:
            with pytest.raises(ValueError, match=r"without loss.* write \.tif instead"):
                images.write_image(path, image)
            assert not path.exists()
        else:
            images.write_image(path, image)
            back = images.read_image(path)
            assert back.dtype == stored.dtype
            np.testing.assert_array_equal(back, stored)


@pytest.mark.parametrize(
    ("top", "suffix", "dtype"),
    [
        (0, ".png", np.uint8),
        (255, ".tif", np.uint16),
        (65_535, ".png", np.uint16),
        (65_535, ".tif", np.uint16),
        (65_536, ".tif", np.uint32),
        (70_000, ".tif", np.uint32),
    ],
)
def test_instances_keep_their_numbers(tmp_path, top, suffix, dtype):
    """Numbers that wrap around at 255 or 65,535 would merge instances."""
    instances = np.array([[0, 1, 255, 256], [257, 512, 768, top]]) * (top > 0)
    path = tmp_path / f"cells{suffix}"
    images.write_labels(path, instances)
    back = images.read_labels(path)
    np.testing.assert_array_equal(back, instances)
    assert images.read_image(path).dtype == dtype
    assert back.dtype == np.int32


def test_instance_numbers_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"number 65536, PNG holds up to 65,535; write \.tif"
    ):
        images.write_labels(tmp_path / "a.png", np.array([[65_536]]))
    for wrong in (-1, 2**32):
        with pytest.raises(
            ValueError, match=f"from {wrong} to {wrong}; accepted are 0"
        ):
            images.write_labels(tmp_path / "a.tif", np.array([[wrong]]))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "a.tif"
    images.write_image(path, ramp(4, 4, 1))
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"a\.tif exists already"):
        images.write_image(path, ramp(4, 4, 1) + 1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_lossy_and_unknown_formats_are_not_written(tmp_path):
    for name in ("a.jpg", "a.npy", "a"):
        with pytest.raises(ValueError, match=r"accepted are \.tif, \.tiff and \.png"):
            images.write_image(tmp_path / name, ramp(4, 4, 1, dtype="uint8"))
    with pytest.raises(ValueError, match="values of type complex128"):
        images.write_image(tmp_path / "a.tif", ramp(4, 4, 1, dtype=complex))


def test_a_stack_is_not_an_image(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", ramp(3, 40, 50), photometric="minisblack")
    with pytest.raises(ValueError, match=r"a\.tif holds 3 images, .* use read_stack"):
        images.read_image(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="use read_label_stack"):
        images.read_labels(tmp_path / "a.tif")
    stack = images.read_stack(tmp_path / "a.tif")
    np.testing.assert_array_equal(stack, ramp(3, 40, 50)[..., None])
    stack = images.read_label_stack(tmp_path / "a.tif")
    np.testing.assert_array_equal(stack, ramp(3, 40, 50))


def test_files_that_are_not_images_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"b\.tif does not exist"):
        images.read_image(tmp_path / "b.tif")
    (tmp_path / "a.csv").write_text("1")
    with pytest.raises(
        ValueError, match=r"a\.csv is not an image; accepted are \.tif,"
    ):
        images.read_image(tmp_path / "a.csv")
    (tmp_path / "c.tif").mkdir()
    with pytest.raises(ValueError, match=r"c\.tif is a folder"):
        images.read_image(tmp_path / "c.tif")


@pytest.mark.parametrize("suffix", images.SUFFIXES)
def test_empty_and_foreign_files_are_named(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.touch()
    with pytest.raises(ValueError, match=rf"a\{suffix} is empty \(0 bytes\)"):
        images.read_image(path)
    path.write_bytes(b"GIF89a, or something else altogether")
    with pytest.raises(
        ValueError,
        match=rf"a\{suffix} (is damaged or not an image|cannot be read as)",
    ):
        images.read_image(path)


def same_or_refused(path, content, image):
    """Whether a damaged file was refused; if not, it must give the same pixels."""
    path.write_bytes(content)
    try:
        back = images.read_image(path)
    except ValueError as error:
        return str(path) in str(error)
    np.testing.assert_array_equal(back, image)
    return False


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".png"])
def test_a_cut_file_is_refused(tmp_path, suffix):
    image = np.random.default_rng(0).integers(0, 9, (24, 20, 1), dtype=np.uint8)
    path = tmp_path / f"a{suffix}"
    images.write_image(path, image)
    whole = path.read_bytes()
    lengths = range(1, len(whole), 11)
    refused = [same_or_refused(path, whole[:length], image) for length in lengths]
    assert np.mean(refused) > 0.9


def test_any_flipped_bit_of_a_png_is_refused(tmp_path):
    """By its checksums. (A TIFF has none for its header: see files.manifests.)"""
    image = np.random.default_rng(0).integers(0, 9, (8, 9, 1), dtype=np.uint8)
    path = tmp_path / "a.png"
    images.write_image(path, image)
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        refused = same_or_refused(path, bytes(flipped), image)
        assert refused or place >= len(whole) - 12  # the end mark, without content


def test_a_png_is_verified_whatever_its_suffix(tmp_path):
    """Pillow goes by the content of a file, not by its name."""
    path = tmp_path / "a.png"
    images.write_image(path, ramp(8, 9, 1, dtype="uint8"))
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"IDAT") + 10] ^= 1
    (tmp_path / "a.jpg").write_bytes(whole)
    with pytest.raises(ValueError, match=r"a\.jpg is damaged or not an image"):
        images.read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", images.SUFFIXES)
def test_the_kind_of_a_file_is_that_of_its_content(tmp_path, suffix):
    grey = ramp(8, 9, dtype="uint8")
    tifffile.imwrite(tmp_path / "b.tif", grey)
    np.save(tmp_path / "c.npy", grey)
    for name, kind in {"a.png": "PNG", "e.bmp": "BMP", "f.gif": "GIF"}.items():
        Image.fromarray(grey).save(tmp_path / name, format=kind)
    for path in sorted(tmp_path.iterdir()):
        renamed = path.rename(tmp_path / f"renamed{suffix}")
        np.testing.assert_array_equal(images.read_image(renamed)[..., 0], grey)
        np.testing.assert_array_equal(images.read_labels(renamed), grey)
    Image.fromarray(grey).save(tmp_path / f"photo{suffix}", format="JPEG")
    assert images.read_image(tmp_path / f"photo{suffix}").shape == (8, 9, 1)
    with pytest.raises(ValueError, match=r"is JPEG-compressed, which changes"):
        images.read_labels(tmp_path / f"photo{suffix}")


def test_a_jpeg_is_an_image_but_not_a_mask(tmp_path):
    Image.fromarray(ramp(16, 16, dtype="uint8")).save(tmp_path / "a.jpg")
    assert images.read_image(tmp_path / "a.jpg").shape == (16, 16, 1)
    with pytest.raises(ValueError, match=r"a\.jpg is JPEG-compressed, which changes"):
        images.read_labels(tmp_path / "a.jpg")


def test_names_of_any_kind_work(tmp_path):
    folder = tmp_path / "Größe #1 µm"
    folder.mkdir()
    path = folder / "zelle 1 (a).PNG"
    images.write_image(path, ramp(4, 5, 1))
    link = tmp_path / "link.png"
    link.symlink_to(path)
    np.testing.assert_array_equal(images.read_image(str(link)), ramp(4, 5, 1))


def test_real_images_are_read(shared_data):
    nuclei = next((shared_data / "dsb2018_nuclei/val/labels").iterdir())
    np.testing.assert_array_equal(images.read_labels(nuclei), Image.open(nuclei))
    tissue = shared_data / "dsb2018_histology/val/images/12.png"
    np.testing.assert_array_equal(images.read_image(tissue), Image.open(tissue))
    cells = shared_data / "ctc_fluo_n2dh_sim/man_seg000.tif"
    np.testing.assert_array_equal(images.read_labels(cells), Image.open(cells))


def test_a_codec_that_is_not_installed_names_the_extra(shared_data):
    cells = shared_data / "ctc_fluo_n2dh_sim/man_seg000.tif"
    code = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from unetjax.files import images; images.read_labels(sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(cells)], capture_output=True, text=True
    )
    message = f'{cells} is LZW-compressed, which needs imagecodecs: pip install "unet'
    assert message in done.stderr


@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_channels_by_number_and_by_the_names_of_the_file(tmp_path, kind):
    pixels = np.arange(3 * 8 * 9, dtype=np.uint16).reshape(3, 8, 9)
    labels = ["GFP", "DAPI", "RFP"]
    names = {"ome": {"Channel": {"Name": labels}}, "imagej": {"Labels": labels}}
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        pixels,
        **{kind: True},
        photometric="minisblack",
        metadata={"axes": "CYX", **names[kind]},
    )
    assert images.read_metadata(path).channels == tuple(labels)
    (found,) = images.read_stack(path, channels=("2", "DAPI"))
    np.testing.assert_array_equal(found, np.moveaxis(pixels[[2, 1]], 0, -1))


def test_a_file_that_is_not_read_is_said_to_be_what_it_is(tmp_path):
    (tmp_path / "a.webp").write_bytes(b"RIFF")
    message = r"a\.webp is a format of photographs .*: export it as TIFF; accepted are"
    with pytest.raises(ValueError, match=message):
        images.read_image(tmp_path / "a.webp")
