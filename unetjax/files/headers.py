"""Structure of image files, followed with bounds before a library reads them."""

import io
import lzma
import pathlib
import struct
import zlib
from typing import Any

from unetjax.files import limits

_MAX_DIRECTORIES = 100_000  # pages of a TIFF
_MAX_TAGS = 4096  # of a directory, the bound of tifffile
_MAX_CHUNKS = 100_000  # of a PNG; encoders write one for every 8 KiB at least
_MAX_SEGMENTS = 10_000  # of a JPEG before its pixels
_SLACK = 2**24  # bytes of metadata in an image file
_BLOCK = 2**20  # bytes that are unpacked at once
_LZMA_MEMORY = 2**28  # bytes; the highest level of compression takes a quarter
_NO_SIZE = (0x01, *range(0xD0, 0xD9))  # markers of JPEG without contents
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of JPEG with its size


def check_tiff(path: pathlib.Path) -> None:
    """Refuses a TIFF whose directories form a cycle, are too many, or have no end.

    Raises:
      ValueError: If they do.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16:
            return  # no TIFF, which tifffile says
        is_big = struct.unpack(f"{order}H", head[2:4])[0] == 43
        count, next_one, tag_size = ("Q", "Q", 20) if is_big else ("H", "I", 12)
        start = 8 if is_big else 4
        (offset,) = struct.unpack_from(f"{order}{next_one}", head, start)
        seen = set[int]()
        while offset:
            if offset >= size:
                raise _damaged(path, "a directory lies beyond its end")
            if offset in seen:
                raise _damaged(path, "its directories form a cycle")
            if len(seen) == _MAX_DIRECTORIES:
                raise _damaged(path, f"it has more than {_MAX_DIRECTORIES} pages")
            seen.add(offset)
            file.seek(offset)
            (num_tags,) = _unpack(file, order + count, path)
            if not 0 < num_tags <= _MAX_TAGS:
                raise _damaged(path, f"a directory has {num_tags} tags")
            file.seek(num_tags * tag_size, 1)
            (offset,) = _unpack(file, order + next_one, path)


def check_png(path: pathlib.Path) -> None:
    """Refuses a PNG without the chunks of one, as in an endless file of zeros.

    Raises:
      ValueError: If there is no chunk of the end where the others lead.
    """
    with path.open("rb") as file:
        file.seek(8)
        num_bytes = stored = 0
        for i in range(_MAX_CHUNKS):
            length, kind = _unpack(file, ">I4s", path)
            if not kind.isalpha() or (i == 0) != (kind == b"IHDR"):
                raise _damaged(path, f"it has a chunk {kind!a}")
            if kind == b"IEND":
                return
            stored += length
            if kind == b"IHDR":
                width, height, depth = _unpack(file, ">IIB", path)
                num_bytes = width * height * max(depth // 8, 1) * 4
                length -= 9
            _check_stored(stored, num_bytes, path)
            file.seek(max(length, 0) + 4, 1)  # and its checksum
    raise _damaged(path, f"it has more than {_MAX_CHUNKS} chunks")


def jpeg_size(file: io.BufferedIOBase, path: pathlib.Path) -> tuple[int, int, int]:
    """Returns height, width and number of components of a JPEG.

    Args:
      file: The JPEG, at its start.
      path: For messages.

    Raises:
      ValueError: If the markers before the pixels do not lead to the size.
    """
    if file.read(2) != b"\xff\xd8":
        raise _damaged(path, "it is no JPEG")
    for _ in range(_MAX_SEGMENTS):
        mark, kind = _unpack(file, ">BB", path)
        if mark == kind == 0xFF:  # padding
            file.seek(-1, 1)
            continue
        if mark != 0xFF or kind in (0x00, 0xD9, 0xDA):
            break
        if kind in _NO_SIZE:
            continue
        (length,) = _unpack(file, ">H", path)
        if kind in _FRAMES:
            _, height, width, components = _unpack(file, ">BHHB", path)
            return height, width, components
        file.seek(max(length - 2, 0), 1)
    raise _damaged(path, "it does not tell its size")


def check_gif(path: pathlib.Path) -> None:
    """Refuses a GIF that is much larger than its canvas, as an endless file of zeros.

    Raises:
      ValueError: If it is.
    """
    with path.open("rb") as file:
        file.seek(6)
        width, height = _unpack(file, "<HH", path)
    _check_stored(path.stat().st_size, width * height, path)


def check_unpacked(data: bytes, num_bytes: int, path: pathlib.Path) -> None:
    """Refuses data of zlib or LZMA that unpack to more than a number of bytes.

    Raises:
      ValueError: If they do.
    """
    done = 0
    try:
        if data[:1] == b"x":  # zlib with its usual window
            unpacker = zlib.decompressobj()
            while data and not unpacker.eof and done <= num_bytes:
                done += len(unpacker.decompress(data, _BLOCK))
                data = unpacker.unconsumed_tail
        else:
            unlzma = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
            while not unlzma.eof and done <= num_bytes:
                block = unlzma.decompress(data, _BLOCK)
                data = b""
                if not block and unlzma.needs_input:
                    break
                done += len(block)
    except (zlib.error, lzma.LZMAError):
        return  # which the decoder says
    if done > num_bytes:
        raise _damaged(path, "pixels unpack to more than its header declares")


def _check_stored(stored: int, num_bytes: int, path: pathlib.Path) -> None:
    if stored > 4 * num_bytes + _SLACK:
        raise _damaged(
            path,
            f"it has {limits.format_bytes(stored)} for pixels of "
            f"{limits.format_bytes(num_bytes)}",
        )


def _unpack(
    file: io.BufferedIOBase, layout: str, path: pathlib.Path
) -> tuple[Any, ...]:
    data = file.read(struct.calcsize(layout))
    if len(data) < struct.calcsize(layout):
        raise _damaged(path, "it ends early")
    return struct.unpack(layout, data)


def _damaged(path: pathlib.Path, reason: str) -> ValueError:
    return ValueError(
        f"{path} is damaged or not an image ({reason}); download or export it again."
    )
