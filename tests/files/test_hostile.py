"""Files of others: mutated, endless, unpacking to gigabytes, or no files at all."""

import io
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetjax.files import images, names
from unetjax.model_io import array_files

ROOT = str(pathlib.Path(__file__).parents[2])
GREY = np.random.default_rng(0).integers(0, 999, (40, 50), dtype=np.uint16)
ENDLESS = 20 * 2**30  # bytes of a sparse file


def tags(*entries, order="<"):
    """A directory of a TIFF: (tag, type, count, value) each, and no next directory."""
    body = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    return struct.pack(f"{order}H", len(entries)) + body + struct.pack(f"{order}I", 0)


def one_strip(data, *, compression, side=64):
    """A TIFF of side x side bytes, in one strip."""
    where = 8 + len(data)
    return (
        struct.pack("<2sHI", b"II", 42, where)
        + data
        + tags(
            *((256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8)),
            *((259, 3, 1, compression), (262, 3, 1, 1), (273, 4, 1, 8)),
            *((277, 3, 1, 1), (278, 4, 1, side), (279, 4, 1, len(data))),
        )
    )


def ring(num_directories, order="<"):
    """A TIFF whose last directory names the first one as the next."""
    one = len(tags((256, 4, 1, 9)))
    starts = [8 + one * i for i in range(num_directories)]
    directories = [
        tags((256, 4, 1, 9), order=order)[:-4] + struct.pack(f"{order}I", following)
        for following in (*starts[1:], starts[0])
    ]
    mark = b"II" if order == "<" else b"MM"
    return struct.pack(f"{order}2sHI", mark, 42, 8) + b"".join(directories)


def big_ring():
    """The same in BigTIFF."""
    directory = struct.pack("<QHHQQQ", 1, 256, 4, 1, 9, 16)
    return struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + directory


HOSTILE = {
    "empty directory.tif": struct.pack("<2sHI", b"II", 42, 8)
    + struct.pack("<HI", 0, 8)
    + bytes(9),
    "ring of 1.tif": ring(1),
    "ring of 2.tif": ring(2, ">"),
    "ring of 500.tif": ring(500),
    "big ring.tif": big_ring(),
    "directory behind the end.tif": ring(1)[:-4] + b"\xff\xff\xff\x0f",
    "deflate.tif": one_strip(zlib.compress(bytes(2**28), 9), compression=8),
    "small deflate.tif": one_strip(zlib.compress(bytes(2**25), 9), compression=32946),
    "lzma.tif": one_strip(
        __import__("lzma").compress(bytes(2**28), preset=1), compression=34925
    ),
    "jpeg.tif": one_strip(
        b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00", compression=7
    ),
    "png.tif": one_strip(b"\x89PNG", compression=34933),
    "zeros.png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "long chunk.png": b"\x89PNG\r\n\x1a\n"
    + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 4, 4, 8, 0, 0, 0, 0, 0)
    + struct.pack(">I4s", 2**31 - 1, b"IDAT"),
    "zeros.jpg": b"\xff\xd8\xff" + bytes(100),
    "padding.jpg": b"\xff\xd8" + b"\xff" * 50_000,
    "segments.jpg": b"\xff\xd8" + b"\xff\xe0\x00\x02" * 20_000,
    "zeros.gif": b"GIF89a" + struct.pack("<HH", 9, 9) + bytes(100),
    "zeros.bmp": b"BM" + bytes(100),
    "zeros.npy": b"\x93NUMPY\x01\x00" + bytes(100),
    "large.npy": b"\x93NUMPY\x01\x00\x4e\x00"
    + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}".ljust(
        78
    ),
}
SPARSE = ("zeros.png", "long chunk.png", "zeros.jpg", "zeros.gif", "zeros.bmp")

READ = """
import resource, sys, time, tracemalloc
if sys.argv[2] == "bare":
    sys.modules["imagecodecs"] = None  # an extra
from unetjax.files import images
from unetjax.files.tiff import tifffile
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.monotonic()
for path in sys.argv[3:]:
    try:
        print(path, images.read_stack(path).shape)
    except (ValueError, OSError) as error:
        print("refused:", str(error).count(path), str(error).count("\\n"))
used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
print(used, time.monotonic() - start)
"""


@pytest.mark.parametrize("codecs", ["bare", "imagecodecs"])
def test_hostile_images_take_neither_memory_nor_time(tmp_path, codecs):
    for name, content in HOSTILE.items():
        (tmp_path / name).write_bytes(content)
        if name in SPARSE:
            os.truncate(tmp_path / name, ENDLESS)
    paths = sorted(map(str, tmp_path.iterdir()))
    ended = subprocess.run(
        [sys.executable, "-c", READ, ROOT, codecs, *paths],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    assert ended.stderr == ""
    *lines, last = ended.stdout.splitlines()
    assert lines == ["refused: 1 0"] * len(HOSTILE)
    megabytes, seconds = map(float, last.split())
    assert megabytes < 200
    assert seconds < 10


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.tif")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    for name in ("a.tif", "b.png"):
        with pytest.raises(ValueError, match=f"{name} is a named pipe or device"):
            images.read_image(tmp_path / name)


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"compression": "lzw"}])
def test_usual_files_are_not_taken_for_hostile(tmp_path, how):
    """Incompressible strips are larger than their pixels; metadata take room."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 200), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", noise, description="x" * 10**6, **how)
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.tif")[..., 0], noise)
    Image.fromarray(noise).save(tmp_path / "a.png", icc_profile=bytes(10**6))
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.png")[..., 0], noise)
    Image.fromarray(noise).save(tmp_path / "a.jpg", icc_profile=bytes(10**6))
    assert images.read_image(tmp_path / "a.jpg").shape == (300, 200, 1)
    Image.fromarray(noise).save(tmp_path / "j.tif", compression="jpeg")
    assert images.read_image(tmp_path / "j.tif").shape == (300, 200, 1)


@pytest.fixture
def arrays(tmp_path):
    arrays = {"a/b": np.arange(6.0).reshape(2, 3), "c": np.zeros(4, np.float32)}
    array_files.write(tmp_path / "w.npz", arrays)
    return arrays


def test_arrays_are_read_as_they_were_written(arrays, tmp_path):
    read = array_files.read(tmp_path / "w.npz", arrays)
    assert read.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(read[name], values, strict=True)


def test_members_that_were_not_asked_for_are_refused(arrays, tmp_path):
    path = tmp_path / "w.npz"
    for other, message in (
        ({**arrays, "d": np.zeros(1)}, "d is missing"),
        ({"c": arrays["c"]}, "a/b is not part of it"),
        ({**arrays, "c": np.zeros(5, np.float32)}, r"c must be float32 \[5\], got"),
        ({**arrays, "c": np.zeros(2)}, r"c must be float64 \[2\], got float32 \[4\]"),
        ({**arrays, "c": np.zeros(10**6)}, r"c must be .*, got an array of 144 bytes"),
    ):
        with pytest.raises(ValueError, match=message):
            array_files.read(path, other)
    np.savez_compressed(path, **arrays)
    with pytest.raises(ValueError, match="is compressed"):
        array_files.read(path, arrays)
    np.savez(path, allow_pickle=True, c=np.array([print], dtype=object))
    with pytest.raises(ValueError, match=r"c must be float32 \[4\], got"):
        array_files.read(path, {"c": np.zeros(4, np.float32)})


def deep_page(place, value, order="<"):
    """A TIFF of one page, of which the first directory or the height is another."""
    file = io.BytesIO()
    tifffile.imwrite(file, GREY, bigtiff=True, metadata=None)
    content = bytearray(file.getvalue())
    content[place : place + 8] = struct.pack("<Q", value)
    return bytes(content)


BROKEN = {
    "no end of the header.npy": b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8' \n",
    "directory beyond all files.tif": deep_page(8, 2**64 - 1),
    "no rows.tif": deep_page(16 + 8 + 20 + 12, 0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_headers_are_refused_in_one_sentence(tmp_path, name, capfd):
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    with pytest.raises(ValueError, match=re.escape(str(path))) as raised:
        images.read_stack(path)
    assert "\n" not in str(raised.value)
    assert images.read_metadata(path) is not None
    assert capfd.readouterr() == ("", "")  # tifffile logs what it raises


@pytest.mark.parametrize(
    "name",
    [
        "a\x1b]0;title\x07.tif",
        "a\nno problems found.tif",
        "a\x9b2J.tif",
        "a\u202efit.tif",
        "a\u2028b.tif",
    ],
)
def test_names_with_control_characters_are_refused_and_escaped(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match="must not have control char") as raised:
        names.check_names(tmp_path.iterdir())
    assert str(raised.value).isprintable()
    assert json.dumps(str(raised.value))
    assert names.escape(f"{name}").replace("\n", "").isprintable()
    for fine in ("a b.tif", "größe.tif", "図.tif", "#1 (2).tif"):
        names.check_names([pathlib.Path(fine)])
        assert names.escape(fine) == fine
