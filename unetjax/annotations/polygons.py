"""Objects given by polygons, and the label image of these."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int32

MAX_VERTICES = 5_000_000  # of all outlines of a file
_MAX_OBJECTS = 1_000_000
_MAX_CROSSINGS = 50_000_000  # of outlines and rows of pixels, for one image
_MAX_PIXELS = 5_000_000_000  # of the boxes around all pieces, for one image
_FARTHEST = 1e7  # pixels: largest coordinate

Ring = Float[np.ndarray, "_ 2"]  # corners x, y of an outline, closed or not


class Outlined(NamedTuple):
    """An object of an image.

    Attributes:
      pieces: Each a list of outlines; what an even number of them surrounds is a hole.
      page: The page of a stack, counted from 0; None if it is not known.
    """

    pieces: Sequence[Sequence[Ring]]
    page: int | None = None


def check(objects: Sequence[Outlined], where: str) -> None:
    """Refuses what would take too much time or memory to draw, or has no meaning.

    Raises:
      ValueError: If there are too many objects or vertices, an outline has fewer than
        three corners, or a coordinate is not finite or out of all bounds.
    """
    rings = [ring for each in objects for piece in each.pieces for ring in piece]
    count = sum(map(len, rings))
    if len(objects) > _MAX_OBJECTS or count > MAX_VERTICES:
        raise ValueError(
            f"{where} has {len(objects):,} objects with {count:,} vertices, accepted "
            f"are {_MAX_OBJECTS:,} with {MAX_VERTICES:,}; simplify the outlines, or "
            "export a label image."
        )
    for ring in rings:
        if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
            raise ValueError(
                f"{where} has an outline of shape {list(ring.shape)}, expected at "
                "least three corners x, y; delete it, or draw it again."
            )
        if not np.all(np.abs(ring) <= _FARTHEST):  # also false for NaN
            raise ValueError(
                f"{where} has a coordinate that is not finite or beyond "
                f"{_FARTHEST:.0e} pixels; draw the outline again."
            )


def draw(
    objects: Sequence[Outlined], shape: tuple[int, int, int], where: str
) -> Int32[np.ndarray, "N H W"]:
    """Returns numbered cells, in the order of the objects.

    A pixel belongs to an object if its centre lies inside. Where objects overlap, the
    smaller one is on top.

    Args:
      objects: From `check`.
      shape: Number of pages, height and width.
      where: What messages call the objects.

    Raises:
      ValueError: If an object of a stack has no page of it, or outlines are too long.

    Example:
      >>> square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]])
      >>> draw([Outlined([[square]])], (1, 2, 3), "a.json").tolist()
      [[[1, 1, 0], [0, 0, 0]]]
    """
    count, height, width = shape
    _check_work(objects, height, width, where)
    instances = np.zeros(shape, np.int32)
    pieces = list[tuple[float, int, int, Sequence[Ring]]]()
    for number, each in enumerate(objects, start=1):
        page = 0 if each.page is None and count == 1 else each.page
        if page is None or not 0 <= page < count:
            raise ValueError(
                f"{where} has an object without a page in the stack of {count}; give "
                "each region its position, or split the stack."
            )
        pieces += [(_area(piece), number, page, piece) for piece in each.pieces]
    for _, number, page, piece in sorted(pieces, key=lambda x: -x[0]):
        (top, left, *_), inside = _fill(piece, height, width)
        rows, columns = inside.shape
        instances[page, top : top + rows, left : left + columns][inside] = number
    return instances


def _check_work(
    objects: Sequence[Outlined], height: int, width: int, where: str
) -> None:
    """Refuses outlines that take too long, before anything is drawn."""
    crossings, pixels = 0.0, 0
    for each in objects:
        for piece in each.pieces:
            top, left, bottom, right = _box(piece, height, width)
            pixels += (bottom - top) * (right - left)
            for ring in piece:
                y = np.clip(ring[:, 1], 0, height)
                crossings += float(np.abs(y - np.roll(y, 1)).sum())
    if crossings > _MAX_CROSSINGS or pixels > _MAX_PIXELS:
        raise ValueError(
            f"{where} has outlines that cross {crossings:,.0f} rows and surround "
            f"{pixels:,} pixels, accepted are {_MAX_CROSSINGS:,} and {_MAX_PIXELS:,}; "
            "simplify them, or export a label image."
        )


def _box(rings: Sequence[Ring], height: int, width: int) -> tuple[int, int, int, int]:
    """Returns first row and column, and those after the last, of outlines."""
    corners = np.concatenate(rings)
    left, top = np.floor(corners.min(axis=0)).clip(0, [width, height])
    right, bottom = np.ceil(corners.max(axis=0)).clip([left, top], [width, height])
    return int(top), int(left), int(bottom), int(right)


def _area(rings: Sequence[Ring]) -> float:
    """Returns the area that outlines surround; holes turn the other way."""
    return abs(
        sum(
            float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
            for x, y in (ring.T for ring in rings)
        )
    )


def _fill(
    rings: Sequence[Ring], height: int, width: int
) -> tuple[tuple[int, int, int, int], Bool[np.ndarray, "h w"]]:
    """Returns the box of outlines, and which of its pixels they surround."""
    # `skimage.draw.polygon` finds the same pixels, in over 100 times the time for
    # outlines of hundreds of corners.
    box = top, left, bottom, right = _box(rings, height, width)
    toggles = np.zeros((bottom - top, right - left + 1), np.int32)
    for ring in rings:
        rows, x = _crossings(ring, top, bottom)
        # Pixels whose centre lies to the right of a crossing change sides.
        columns = np.ceil(x - 0.5).clip(left, right).astype(np.int64) - left
        np.add.at(toggles, (rows - top, columns), 1)
    return box, (np.cumsum(toggles, axis=1) % 2 == 1)[:, :-1]


def _crossings(
    ring: Ring, top: int, bottom: int
) -> tuple[np.ndarray, Float[np.ndarray, " n"]]:
    """Returns the rows whose centres an outline crosses, and where along them."""
    start, end = ring, np.roll(ring, -1, axis=0)
    upward = start[:, 1] > end[:, 1]
    low = np.where(upward[:, None], end, start)
    high = np.where(upward[:, None], start, end)
    # Rows r with low <= r + 0.5 < high.
    first = np.ceil(low[:, 1] - 0.5).clip(top, bottom).astype(np.int64)
    last = np.ceil(high[:, 1] - 0.5).clip(top, bottom).astype(np.int64)
    counts = last - first
    edge = np.repeat(np.arange(len(ring)), counts)
    offset = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = first[edge] + offset
    span = (high - low)[edge]
    share = (rows + 0.5 - low[edge, 1]) / span[:, 1]
    return rows, low[edge, 0] + share * span[:, 0]
