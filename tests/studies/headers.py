"""What the headers of image files declare, read independently of any image library."""

import ast
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Declared(NamedTuple):
    """Sizes and type of the images in a file.

    Attributes:
      sides: Height and width.
      num_pixels: Pixels of all images together.
      channels: The numbers of channels that an image may be read with.
      dtypes: The types that it may be read with.
    """

    sides: tuple[int, int]
    num_pixels: int
    channels: set[int]
    dtypes: set[np.dtype]


def agrees(declared: Declared, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Returns whether images [N, H, W, C] are those that a header declares."""
    count, height, width, channels = shape
    return (
        (height, width) in (declared.sides, declared.sides[::-1])
        and count * height * width == declared.num_pixels
        and channels in {max(each, 1) for each in declared.channels}
        and dtype in declared.dtypes
    )


def declared(content: bytes) -> Declared | None:
    """Returns what a file declares; None if it is of no format that is known here."""
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(content)
    if content[:4] == b"\x89PNG":
        width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
        return _one(height, width, {0: {1}, 2: {3}, 4: {1}, 6: {3}}.get(colour), depth)
    if content[:2] == b"\xff\xd8":
        return _jpeg(content)
    if content[:2] == b"BM":
        width, height = struct.unpack("<ii", content[18:26])
        return _one(abs(height), abs(width), {1, 3}, 8)
    if content[:4] == b"GIF8":
        width, height = struct.unpack("<HH", content[6:10])
        return _one(height, width, {1, 3}, 8)
    if content[:6] == b"\x93NUMPY":
        return _npy(content)
    return None


def _one(height: int, width: int, channels: set[int] | None, bits: int) -> Declared:
    dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
    return Declared((height, width), height * width, channels or {1, 3}, {dtype})


def _jpeg(content: bytes) -> Declared:
    at = 2
    while at < len(content):
        kind = content[at + 1]
        if content[at] != 0xFF or kind == 0xFF or kind in range(0xD0, 0xD9):
            at += 1 if content[at] != 0xFF or kind == 0xFF else 2
            continue
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width, channels = struct.unpack(">HHB", content[at + 5 : at + 10])
            return _one(height, width, {channels}, 8)
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    raise AssertionError("a JPEG without a size was read")


def _npy(content: bytes) -> Declared:
    major = content[6]
    start, size = (10, content[8:10]) if major == 1 else (12, content[8:12])
    text = content[start : start + int.from_bytes(size, "little")]
    fields = ast.literal_eval(text.decode("latin1" if major < 3 else "utf-8").strip())
    shape, dtype = fields["shape"], np.dtype(fields["descr"]).newbyteorder("=")
    dtype = np.dtype(np.uint8) if dtype == np.bool_ else dtype
    if len(shape) == 2:
        return Declared(shape, shape[0] * shape[1], {1}, {dtype})
    if shape[-1] <= 4:
        return Declared(shape[:2], shape[0] * shape[1], {shape[-1]}, {dtype})
    return Declared(shape[1:], shape[0] * shape[1] * shape[2], {1}, {dtype})


def _tiff(content: bytes) -> Declared | None:
    pages = list(_directories(content))
    if not all({256, 257} <= page.keys() for page in pages):
        return None  # OME metadata may tell the size of a page
    first = pages[0]
    width, height = first[256][0], first[257][0]
    bits, kind = first.get(258, [1])[0], first.get(339, [1])[0]
    samples = first.get(277, [1])[0]
    size = next(each for each in (8, 16, 32, 64) if bits <= each)
    name = {1: "uint", 2: "int", 3: "float"}.get(kind, "uint")
    dtypes = {np.dtype(f"{name}{size}")}
    channels = {samples}
    if first.get(262, [1])[0] == 3:  # a palette
        channels |= {1, 3}
        dtypes |= {np.dtype(np.uint8), np.dtype(np.uint16)}
    if samples > 1:  # a last channel of opacity
        channels.add(samples - 1)
    num_pixels = sum(page[256][0] * page[257][0] for page in pages)
    return Declared((height, width), num_pixels, channels, dtypes)


def _directories(content: bytes) -> Iterator[dict[int, list[int]]]:
    """The integer tags of each page."""
    order = "<" if content[:2] == b"II" else ">"
    is_big = content[2:4] in (b"+\0", b"\0+")
    count, word, size, start = ("Q", "Q", 20, 8) if is_big else ("H", "I", 12, 4)
    (offset,) = struct.unpack_from(order + word, content, start)
    while offset:
        (num_tags,) = struct.unpack_from(order + count, content, offset)
        offset += struct.calcsize(count)
        tags = dict[int, list[int]]()
        for _ in range(num_tags):
            tag, kind, number = struct.unpack_from(f"{order}HH{word}", content, offset)
            code = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
            if code and 0 < number < 100:
                layout = f"{order}{number}{code}"
                at = offset + size - struct.calcsize(word)
                if struct.calcsize(layout) > struct.calcsize(word):
                    (at,) = struct.unpack_from(order + word, content, at)
                if at + struct.calcsize(layout) <= len(content):
                    # Of a tag that stands twice, the first counts.
                    tags.setdefault(tag, list(struct.unpack_from(layout, content, at)))
            offset += size
        yield tags
        (offset,) = struct.unpack_from(order + word, content, offset)
