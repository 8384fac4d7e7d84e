"""Images as tiles of several resolutions, of which a screen shows a few."""

import collections
import csv
import itertools
import math
import pathlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args

import numpy as np
from jaxtyping import Shaped

from unetjax.evaluation import scored_files
from unetjax.files import images, limits
from unetjax.large import arrays, sources
from unetjax.large.sources import Source
from unetjax.viewer.results import Result

TILE = 512  # pixels: side of a tile
_LABELS = ("prediction", "truth")
_ROWS = 64  # of a tile that are reduced at once, which bounds the memory
_LARGE = 2**26  # pixels of a file above which they stay on disk
_CACHE = 2**29  # bytes of images, and a quarter of tiles, that are kept
_PERCENTILES = (0.5, 99.5)  # of the grey values: black and white
_LARGEST_TABLE = 2**28  # bytes

Key = TypeVar("Key")
Value = TypeVar("Value")
Layer = Literal["image", "prediction", "truth", "probability", "uncertainty"]
LAYERS: tuple[Layer, ...] = get_args(Layer)
Tile = Shaped[np.ndarray, "h w C"]


class Described(NamedTuple):
    """What a page needs to know of an image before it asks for tiles.

    Attributes:
      height: In pixels.
      width: In pixels.
      pages: Number of sections.
      levels: Number of resolutions; each halves the one before, the last is one tile.
      layers: For each layer that exists: `type` of the values and number of
        `channels`; of the image also `ranges`, the smallest value, black, white and
        the largest value of each channel.
      kind: Whether the numbers of prediction and truth are `cells` or `classes`.
    """

    height: int
    width: int
    pages: int
    levels: int
    layers: dict[str, dict[str, Any]]
    kind: Literal["cells", "classes"]


class Reader:
    """Reads the files of results; what was read last is kept in memory.

    Args:
      results: The results, which are numbered from 0.
      scratch: Folder for the unpacked pixels of large TIFF files.
    """

    def __init__(self, results: Sequence[Result], scratch: pathlib.Path) -> None:
        self._results, self._scratch = results, scratch
        self._lock = threading.RLock()
        self._opened = _Cache[tuple[int, Layer], Sequence[Source]](_CACHE)
        self._tiles = _Cache[tuple[int, ...], Tile](_CACHE // 4)

    def check(self, index: int) -> None:
        """Refuses an image that cannot be read, or a large one with other sizes.

        Raises:
          ValueError: See `describe`.
          OSError: See `describe`.
        """
        result = self._results[index]
        paths = [path for name in LAYERS if (path := _path(result, name))]
        if not any(map(is_large, paths)):
            self.describe(index)
            return
        sizes = {path: images.read_size(path) for path in paths}
        _check_same({path: size for path, size in sizes.items() if size})

    def describe(self, index: int) -> Described:
        """Returns size, layers and contrast of an image.

        Raises:
          ValueError: If a file cannot be read, or sizes differ.
          OSError: If a file has gone, or the disk has no space for its pixels.
        """
        result = self._results[index]
        found = {
            name: self._open(index, name) for name in LAYERS if _path(result, name)
        }
        shapes = {_path(result, name): _shape(each) for name, each in found.items()}
        _check_same(shapes)
        pages, height, width = next(iter(shapes.values()))
        levels = _num_levels(height, width)
        layers = dict[str, dict[str, Any]]()
        for number, name in enumerate(LAYERS):
            if name in found:
                tile = self.tile(index, number, 0, levels - 1, 0, 0)
                layers[name] = {"type": tile.dtype.name, "channels": tile.shape[-1]}
                if name == "image":
                    # Means have less contrast than the pixels.
                    source, step = found[name][0], 2 ** (levels - 1)
                    place = _place(source, levels - 1, 0, 0)
                    layers[name]["ranges"] = _ranges(_read_first(source, step, place))
        return Described(
            *(height, width, pages, levels, layers),
            "classes" if _is_mask(result) else "cells",
        )

    def tile(
        self, index: int, layer: int, page: int, level: int, row: int, column: int
    ) -> Tile:
        """Returns a part of an image, as uint8, uint16, uint32 or float32.

        The pixels of an image are means of squares of 2^level pixels. Labels are
        those of the first pixel of each square, with a margin of one pixel around,
        which shows where a cell ends at the border of a tile.

        Args:
          index: Number of the result.
          layer: Number of the layer in `LAYERS`.
          page: Number of the section.
          level: 0 for full resolution.
          row: Number of the tile from the top.
          column: Number of the tile from the left.

        Raises:
          IndexError: If there is no such tile.
          ValueError: If a file cannot be read.
          OSError: If a file has gone.
        """
        key = (index, layer, page, level, row, column)
        name = LAYERS[layer]
        with self._lock:
            if (tile := self._tiles.get(key)) is not None:
                return tile
            source = self._open(index, name)[page]
            place = _place(source, level, row, column)
            if name in _LABELS:
                tile = _plain_labels(_read_first(source, 2**level, place))
            else:
                tile = _plain(_read_mean(source, 2**level, place))
            self._tiles.put(key, tile, tile.nbytes)
            return tile

    def objects(self, index: int, page: int) -> dict[int, dict[str, Any]]:
        """Returns the measurements of the cells of a section, by their number.

        Those of the table that `unetjax predict --table` wrote; or their area alone,
        in pixels, which is not measured in very large images. Of masks, whose numbers
        are classes, those of the classes.

        Raises:
          IndexError: If there is no such section.
          ValueError: If a file cannot be read.
          OSError: If a file has gone.
        """
        result = self._results[index]
        if result.table is not None and not _is_mask(result):
            return {
                row["id"]: row
                for row in read_table(result.table)
                if row.get("page", 0) == page and isinstance(row.get("id"), int)
            }
        if result.prediction is None:
            return {}
        source = self._open(index, "prediction")[page]
        if source.height * source.width > _LARGE:
            return {}
        labels = source.read(slice(0, source.height), slice(0, source.width))
        numbers, areas = np.unique(labels, return_counts=True)
        counts = zip(numbers.tolist(), areas.tolist(), strict=True)
        return {n: {"id": n, "area": area} for n, area in counts if n > 0}

    def _open(self, index: int, layer: Layer) -> Sequence[Source]:
        """Returns the sections of a layer."""
        with self._lock:
            if (found := self._opened.get((index, layer))) is not None:
                return found
            result = self._results[index]
            path = _path(result, layer)
            if path is None:
                raise IndexError(f"{result.name} has no {layer}")
            found, num_bytes = _open(result, layer, path, self._scratch)
            self._opened.put((index, layer), found, num_bytes)
            return found


def read_table(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the rows of a table of cells, numbers as such.

    Raises:
      ValueError: If the file is no such table.
      OSError: If it cannot be read.
    """
    size = limits.check_regular(path)
    if size > _LARGEST_TABLE:
        raise ValueError(
            f"{path} has {limits.format_bytes(size)}, expected a table of at most "
            f"{limits.format_bytes(_LARGEST_TABLE)}."
        )
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                {name: _number(x) for name, x in row.items() if name is not None and x}
                for row in csv.DictReader(file)
            ]
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"{path} is no table of cells ({error}); write it again by  unetjax "
            "predict --table --overwrite."
        ) from error


def _number(text: str) -> int | float | str:
    """Returns the number that a text is, or the text."""
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() else number


class _Cache(Generic[Key, Value]):
    """Keeps the values that were used last, up to a number of bytes."""

    def __init__(self, most: int) -> None:
        self._most, self._size = most, 0
        self._values = collections.OrderedDict[Key, tuple[Value, int]]()

    def get(self, key: Key) -> Value | None:
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: Key, value: Value, num_bytes: int) -> None:
        """Keeps a value; one that takes no memory is never dropped."""
        self._values[key] = value, num_bytes
        self._size += num_bytes
        for old in list(self._values):
            if self._size <= self._most:
                break
            if old != key and self._values[old][1]:
                self._size -= self._values.pop(old)[1]


def _is_mask(result: Result) -> bool:
    """Returns whether the numbers of a prediction are classes."""
    prediction = result.prediction
    return prediction is not None and prediction.stem.endswith("_mask")


def _path(result: Result, layer: Layer) -> pathlib.Path | None:
    return getattr(result, layer)


def _open(
    result: Result, layer: Layer, path: pathlib.Path, scratch: pathlib.Path
) -> tuple[Sequence[Source], int]:
    """Returns the sections of a file, and the bytes of memory that they take."""
    if is_large(path):
        unpacked = scratch / str(len(list(scratch.iterdir())))
        return sources.open_stack(path, unpacked, fit=lambda part: part).sources, 0
    if layer == "truth" and result.prediction is not None:
        stack = np.stack(scored_files.read_truth(path, result.prediction))[..., None]
    elif layer in _LABELS:
        stack = images.read_label_stack(path)[..., None]
    else:
        stack = images.read_stack(path)
    return [
        Source(page.shape[0], page.shape[1], _reader(page)) for page in stack
    ], stack.nbytes


def is_large(path: pathlib.Path) -> bool:
    """Returns whether the pixels of a file stay on disk, and are not scored."""
    if arrays.is_zarr(path):
        return True
    size = images.read_size(path)
    return size is not None and math.prod(size) > _LARGE


def _reader(page: Tile) -> Callable[[slice, slice], Tile]:
    return lambda rows, columns: page[rows, columns]


def _shape(found: Sequence[Source]) -> tuple[int, int, int]:
    return len(found), found[0].height, found[0].width


def _check_same(shapes: Mapping[pathlib.Path | None, tuple[int, int, int]]) -> None:
    """Refuses files of different sizes."""
    for (first, shape), (path, other) in itertools.pairwise(shapes.items()):
        if other != shape:
            raise ValueError(
                f"{path} has {_in_words(other)}, but {first} has {_in_words(shape)}; "
                "both must be of one size."
            )


def _in_words(shape: tuple[int, int, int]) -> str:
    pages, height, width = shape
    sections = f"{pages} sections of " if pages > 1 else ""
    return f"{sections}{height} x {width} pixels"


def _num_levels(height: int, width: int) -> int:
    return 1 + max(0, math.ceil(math.log2(max(height, width) / TILE)))


class _Place(NamedTuple):
    """Rows and columns of a tile, in pixels of its level."""

    top: int
    bottom: int
    left: int
    right: int


def _place(source: Source, level: int, row: int, column: int) -> _Place:
    """Returns where a tile is, of numbers from 0; refuses one that lies outside."""
    step = 2 ** min(level, 32)
    height, width = -(-source.height // step), -(-source.width // step)
    top, left = row * TILE, column * TILE
    is_level = level < _num_levels(source.height, source.width)
    if not (is_level and top < height and left < width):
        raise IndexError(f"there is no tile {row}, {column} at level {level}")
    return _Place(top, min(top + TILE, height), left, min(left + TILE, width))


def _read_mean(source: Source, step: int, place: _Place) -> Tile:
    """Returns the means of squares of pixels; those at the border may be smaller."""
    columns = slice(place.left * step, min(place.right * step, source.width))
    strips = list[Tile]()
    for top in range(place.top, place.bottom, _ROWS):
        bottom = min(top + _ROWS, place.bottom)
        rows = slice(top * step, min(bottom * step, source.height))
        part = source.read(rows, columns)
        if step > 1:
            height, width = bottom - top, place.right - place.left
            missing = [
                (0, height * step - part.shape[0]),
                (0, width * step - part.shape[1]),
            ]
            padded = np.pad(part, [*missing, (0, 0)], mode="edge")
            squares = padded.reshape(height, step, width, step, -1)
            means = squares.mean(axis=(1, 3), dtype=np.float32)
            part = (
                means if part.dtype.kind == "f" else np.rint(means).astype(part.dtype)
            )
        strips.append(part)
    return np.concatenate(strips)


def _read_first(source: Source, step: int, place: _Place) -> Tile:
    """Returns first pixels of squares, with a margin of one, repeated at borders."""
    height, width = -(-source.height // step), -(-source.width // step)
    top, bottom = max(place.top - 1, 0), min(place.bottom + 1, height)
    left, right = max(place.left - 1, 0), min(place.right + 1, width)
    columns = slice(left * step, (right - 1) * step + 1)
    strips = [
        source.read(slice(y * step, (min(y + _ROWS, bottom) - 1) * step + 1), columns)
        for y in range(top, bottom, _ROWS)
    ]
    found = np.concatenate([strip[::step, ::step] for strip in strips])
    margin = [
        (top - place.top + 1, place.bottom + 1 - bottom),
        (left - place.left + 1, place.right + 1 - right),
    ]
    return np.pad(found, [*margin, (0, 0)], mode="edge")


def _plain(values: Tile) -> Tile:
    """Returns values in one of the types that a page reads."""
    small = values.dtype in (np.uint8, np.uint16)
    return np.ascontiguousarray(values if small else values.astype(np.float32))


def _plain_labels(labels: Tile) -> Tile:
    """Returns labels as uint32; those that are not annotated become the largest."""
    return np.ascontiguousarray(labels[..., :1].astype(np.int64).astype(np.uint32))


def _ranges(tile: Tile) -> list[list[float]]:
    """Returns smallest value, black, white and largest value of each channel.

    Those of red, green and blue are the same, which keeps hues.
    """
    channels = np.moveaxis(tile, -1, 0).reshape(tile.shape[-1], -1)
    channels = channels.reshape(1, -1) if tile.shape[-1] == 3 else channels
    found = [
        [
            float(each.min()),
            *np.percentile(each, _PERCENTILES).tolist(),
            float(each.max()),
        ]
        for each in channels
    ]
    return found * 3 if tile.shape[-1] == 3 else found
