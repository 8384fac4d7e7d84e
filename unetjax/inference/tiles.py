"""Overlapping tiles that together equal one pass over the image (paper, Sec. 2).

A U-Net commutes with shifts by multiples of its period 2^depth only. A tile therefore
reproduces its region of the single pass exactly when it lies on such a multiple: 572
tiles with 388 pixels of output advance by 384.
"""

import functools
import itertools
import math
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from unetjax.geometry import Geometry
from unetjax.settings import check_choice

Mirror = Literal["reflect", "symmetric"]


class TileAxis(NamedTuple):
    """The tiles along one axis of an image, all lengths in pixels.

    Attributes:
      size: Side of the image.
      tile: Side of a tile, as the network reads it.
      trusted: Largest side of the output that a tile contributes.
      stride: Step from tile to tile, a multiple of the period.
      count: Number of tiles.
    """

    size: int
    tile: int
    trusted: int
    stride: int
    count: int


class TilePlan(NamedTuple):
    """Tiles that fill an image.

    Attributes:
      rows: Tiles along the height.
      columns: Tiles along the width.
      margin: Pixels that a tile reads beyond its trusted output, at each end.
    """

    rows: TileAxis
    columns: TileAxis
    margin: int


class Tile(NamedTuple):
    """The pixels of the image that one tile fills; no two tiles fill the same."""

    rows: slice
    columns: slice


def plan(
    height: int,
    width: int,
    geometry: Geometry,
    *,
    tile_size: int | None = None,
    max_pixels: int = 2**20,
) -> TilePlan:
    """Returns the tiles that fill an image with the least computation.

    Computation is measured by the number of pixels that the network reads. Candidate
    sides are up to an eighth apart, so that images of many sizes share few compiled
    programs; the paper's 572 is one of them.

    Args:
      height: Height of the image, in pixels.
      width: Width of the image, in pixels.
      geometry: That of the network, see `UNet.geometry`.
      tile_size: Side of square tiles, in pixels; by default the best sides.
      max_pixels: Largest height times width of a tile, a bound on memory; ignored if
        `tile_size` is given.

    Raises:
      ValueError: If the image is empty, if every legal tile exceeds `max_pixels`, or if
        `tile_size` is illegal or too small to advance by a period.

    Example:
      >>> plan(512, 512, Geometry()).rows
      TileAxis(size=512, tile=700, trusted=516, stride=512, count=1)
      >>> plan(512, 512, Geometry(), tile_size=572).rows
      TileAxis(size=512, tile=572, trusted=388, stride=384, count=2)
    """
    if min(height, width) < 1:
        raise ValueError(
            f"image must have at least one pixel, got {height} x {width} (H x W)."
        )
    if tile_size is not None:
        rows, columns = (_axis(n, tile_size, geometry) for n in (height, width))
        return TilePlan(rows, columns, geometry.margin)
    pairs = itertools.product(_axes(height, geometry), _axes(width, geometry))
    fitting = [(r, c) for r, c in pairs if r.tile * c.tile <= max_pixels]
    if not fitting:
        least = _tile_size(geometry.period, geometry)
        raise ValueError(
            f"max_pixels must be at least {least**2}, one tile of {least} x {least} at "
            f"depth {geometry.depth}, got {max_pixels}; allow more or use a "
            "shallower network."
        )
    # Number of pixels that are read; ties are decided by the number of tiles.
    best = min(
        fitting,
        key=lambda axes: (
            math.prod(axis.count * axis.tile for axis in axes),
            math.prod(axis.count for axis in axes),
        ),
    )
    return TilePlan(*best, geometry.margin)


def tiles(plan: TilePlan) -> list[Tile]:
    """Returns all tiles, row by row; together they fill every pixel exactly once.

    Example:
      >>> plan_of_two = plan(400, 9, Geometry(), tile_size=572)
      >>> [(tile.rows.start, tile.rows.stop) for tile in tiles(plan_of_two)]
      [(0, 384), (384, 400)]
    """
    return [
        Tile(*pair)
        for pair in itertools.product(_spans(plan.rows), _spans(plan.columns))
    ]


def read_tile(
    image: Shaped[np.ndarray, "H W C"],
    plan: TilePlan,
    tile: Tile,
    *,
    mirror: Mirror = "reflect",
) -> Shaped[np.ndarray, "h w C"]:
    """Returns the pixels that the network reads for one tile.

    The context beyond the border of the image is mirrored (paper, Fig. 2), without a
    mirrored copy of the whole image. If the plan is for a smaller image, it applies to
    the centre of this one, and the pixels around the centre serve as context.
    """
    places = []
    axes = zip(image.shape, (plan.rows, plan.columns), tile, strict=False)
    for size, axis, span in axes:
        start = span.start - plan.margin + (size - axis.size) // 2
        stop = start + axis.tile
        places.append(mirror_index(start, stop, size=size, mode=mirror))
    return image[np.ix_(*places)]


def mirror_index(
    start: int, stop: int, *, size: int, mode: Mirror = "reflect"
) -> Int[np.ndarray, " n"]:
    """Returns the indices of the pixels at positions start to stop of a mirrored line.

    Args:
      start: First position; may be negative, by any amount.
      stop: Position after the last; may exceed `size`, by any amount.
      size: Number of pixels of the line.
      mode: `reflect` does not repeat the pixel at the border, `symmetric` does.

    Raises:
      ValueError: If the mode is unknown.

    Example:
      >>> mirror_index(-2, 6, size=4).tolist()
      [2, 1, 0, 1, 2, 3, 2, 1]
    """
    check_choice("mirror", mode, Mirror)
    before, after = max(-start, 0), max(stop - size, 0)
    pixels = np.pad(np.arange(size), (before, after), mode=mode)
    return pixels[start + before : stop + before]


def _tile_size(trusted: int, geometry: Geometry) -> int:
    """The side of the smallest tile with a trusted output of at least this side."""
    rim = 2 * geometry.margin if geometry.padding == "SAME" else 0
    return geometry.input_size(trusted + rim)


def _axis(size: int, tile: int, geometry: Geometry) -> TileAxis:
    """The tiles of a given side along one axis."""
    try:
        geometry.output_size(tile)  # refuses illegal sides
    except (TypeError, ValueError) as error:
        text = str(error).replace("input_size", "tile_size", 1)
        raise type(error)(text) from None
    step = geometry.period
    trusted = tile - 2 * geometry.margin
    stride = trusted // step * step
    if stride <= 0 and size > trusted:
        raise ValueError(
            f"tile_size must be at least {_tile_size(step, geometry)} at depth "
            f"{geometry.depth} with {geometry.padding} padding, so that tiles advance "
            f"by {step} pixels, got {tile}."
        )
    count = 1 if size <= trusted else -(-(size - trusted) // stride) + 1
    return TileAxis(size, tile, trusted, stride, count)


@functools.lru_cache
def _axes(size: int, geometry: Geometry) -> tuple[TileAxis, ...]:
    """The candidates for one axis, up to the first that covers it with one tile.

    The trusted output spans a whole number of periods. The number is rounded to four
    significant bits, which keeps the candidates few.
    """
    step = geometry.period
    periods, axes = 1, []
    while True:
        axes.append(_axis(size, _tile_size(periods * step, geometry), geometry))
        if axes[-1].count == 1:
            return tuple(axes)
        periods += 2 ** max(periods.bit_length() - 4, 0)


def _spans(axis: TileAxis) -> list[slice]:
    """The pixels that each tile fills along one axis: a stride, or the rest."""
    starts = [i * axis.stride for i in range(axis.count)]
    stops = [*starts[1:], axis.size]
    return [slice(*span) for span in zip(starts, stops, strict=True)]
