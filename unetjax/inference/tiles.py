"""Overlapping tiles that together equal one pass over the image (paper, Sec. 2).

A U-Net commutes with shifts by multiples of its period 2^depth only. A tile therefore
reproduces its region of the single pass exactly when it lies on such a multiple: 572
tiles with 388 pixels of output advance by 384.
"""

import itertools
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from unetjax import geometry
from unetjax.geometry import Padding

Mirror = Literal["reflect", "symmetric"]


class TileAxis(NamedTuple):
    """The tiles along one axis of an image, all lengths in pixels.

    Attributes:
      size: Side of the image.
      tile: Side of a tile, as the network reads it.
      trusted: Side of the output that a tile contributes at most.
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


class _Network(NamedTuple):
    """What the size of a tile depends on."""

    depth: int
    kernel_size: int
    padding: Padding

    @property
    def margin(self) -> int:
        return geometry.margin(**self._asdict())

    def tile(self, trusted: int) -> int:
        """The smallest tile with so much trusted output."""
        rim = 2 * self.margin if self.padding == "SAME" else 0
        return geometry.input_size(trusted + rim, **self._asdict())


def plan(
    height: int,
    width: int,
    *,
    depth: int = 4,
    kernel_size: int = 3,
    padding: Padding = "VALID",
    tile_size: int | None = None,
    max_pixels: int = 2**20,
) -> TilePlan:
    """Returns the tiles that fill an image with the least work.

    The work is the number of pixels that the network reads. Sides are taken from a
    coarse set, up to an eighth apart, so that images of many sizes share few compiled
    programs; the paper's 572 is among them.

    Args:
      height: Height of the image, in pixels.
      width: Width of the image, in pixels.
      depth: Number of 2x2 max-pooling steps of the network.
      kernel_size: Side of its block convolutions, odd.
      padding: Padding of its convolutions.
      tile_size: Side of square tiles, in pixels, instead of the best one.
      max_pixels: Most pixels of a tile, height times width; a bound on memory. Not
        applied to `tile_size`.

    Raises:
      ValueError: If the image is empty, if no tile is as small as `max_pixels`, or if
        `tile_size` is illegal or too small to advance by a period.

    Example:
      >>> plan(512, 512).rows
      TileAxis(size=512, tile=700, trusted=516, stride=512, count=1)
      >>> plan(512, 512, tile_size=572).rows
      TileAxis(size=512, tile=572, trusted=388, stride=384, count=2)
    """
    if min(height, width) < 1:
        raise ValueError(
            f"image must have at least one pixel, got {height} x {width} (H x W)."
        )
    network = _Network(depth, kernel_size, padding)
    if tile_size is not None:
        rows, columns = (_axis(n, tile_size, network) for n in (height, width))
        return TilePlan(rows, columns, network.margin)
    pairs = itertools.product(_axes(height, network), _axes(width, network))
    fitting = [(r, c) for r, c in pairs if r.tile * c.tile <= max_pixels]
    if not fitting:
        least = network.tile(geometry.period(depth))
        raise ValueError(
            f"max_pixels must be at least {least**2}, one tile of {least} x {least} at "
            f"depth {depth}, got {max_pixels}; allow more or use a shallower network."
        )
    return TilePlan(*min(fitting, key=_cost), network.margin)


def tiles(plan: TilePlan) -> list[Tile]:
    """Returns what every tile fills, row by row; each pixel of the image once.

    Example:
      >>> [(t.rows.start, t.rows.stop) for t in tiles(plan(400, 9, tile_size=572))]
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

    The context beyond the border of the image is mirrored (paper, Fig. 2); only the
    pixels of this tile are ever held. The plan may be that of the centre of the image:
    then the rest of the image is context as well.
    """

    def index(size: int, axis: TileAxis, span: slice) -> Int[np.ndarray, " n"]:
        start = span.start - plan.margin + (size - axis.size) // 2
        return mirror_index(start, start + axis.tile, size=size, mode=mirror)

    first = index(image.shape[0], plan.rows, tile.rows)
    second = index(image.shape[1], plan.columns, tile.columns)
    return image[np.ix_(first, second)]


def mirror_index(
    start: int, stop: int, *, size: int, mode: Mirror = "reflect"
) -> Int[np.ndarray, " n"]:
    """Returns which pixels of a mirrored line stand at the positions start to stop.

    Args:
      start: First position; below 0 lies before the line.
      stop: Position after the last; may exceed `size` by any amount.
      size: Number of pixels of the line.
      mode: `reflect` does not repeat the pixel at the border, `symmetric` does.

    Raises:
      ValueError: If the mode is unknown.

    Example:
      >>> mirror_index(-2, 6, size=4).tolist()
      [2, 1, 0, 1, 2, 3, 2, 1]
    """
    positions = np.arange(start, stop)
    if mode == "reflect":
        cycle = max(2 * (size - 1), 1)
        positions %= cycle
        return np.minimum(positions, cycle - positions)
    if mode == "symmetric":
        positions %= 2 * size
        return np.minimum(positions, 2 * size - 1 - positions)
    raise ValueError(f"mirror must be reflect or symmetric, got {mode!r}.")


def _axis(size: int, tile: int, network: _Network) -> TileAxis:
    """The tiles of one side along one axis."""
    geometry.output_size(tile, **network._asdict())  # refuses illegal sides
    step = geometry.period(network.depth)
    trusted = tile - 2 * network.margin
    stride = trusted // step * step
    if stride <= 0 and size > trusted:
        raise ValueError(
            f"tile_size must be at least {network.tile(step)} at depth {network.depth} "
            f"with {network.padding} padding, so that tiles advance by {step} pixels, "
            f"got {tile}."
        )
    count = 1 if size <= trusted else -(-(size - trusted) // stride) + 1
    return TileAxis(size, tile, trusted, stride, count)


def _axes(size: int, network: _Network) -> list[TileAxis]:
    """All ways along one axis, up to the first tile that needs no other.

    The trusted output spans whole periods, their number having four significant bits.
    """
    step = geometry.period(network.depth)
    periods, axes = 1, []
    while True:
        axes.append(_axis(size, network.tile(periods * step), network))
        if axes[-1].count == 1:
            return axes
        periods += 2 ** max(periods.bit_length() - 4, 0)


def _cost(pair: tuple[TileAxis, TileAxis]) -> tuple[int, int]:
    """Pixels read in all; among equals, the number of tiles."""
    rows, columns = pair
    count = rows.count * columns.count
    return count * rows.tile * columns.tile, count


def _spans(axis: TileAxis) -> list[slice]:
    """What the tiles of one axis fill: a stride each, the last one the rest."""
    starts = [i * axis.stride for i in range(axis.count)]
    stops = [*starts[1:], axis.size]
    return [slice(*span) for span in zip(starts, stops, strict=True)]
