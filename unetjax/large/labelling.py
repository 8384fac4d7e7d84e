"""Numbered cells of a large image: the same as of the whole image, block by block.

What a cell is depends on the whole image: whether a region encloses another, where its
seeds lie, how large it is. Each of these is found by components that are joined across
blocks (`merging`), so the cells do not depend on the blocks. Only the flooding of a
watershed sees a window around a block, which grows until it holds the cells of the
block. Where a cell reaches more than 512 pixels beyond the block, its line to a
touching one may differ; where heights are equal, by a pixel.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int32, Int64, Integer, UInt64
from skimage import segmentation

from unetjax.inference import predict
from unetjax.instances import components, fragments, smoothing
from unetjax.instances.fragments import Joined
from unetjax.instances.settings import InstanceSettings
from unetjax.large import arrays, merging
from unetjax.large.arrays import StoredArray
from unetjax.large.grid import CHUNK, Block, Grid, inside
from unetjax.network.unet import UNet

_HALO = 128  # pixels around a block that a watershed sees at first
_LARGEST_HALO = 512  # to which it grows for cells that reach beyond it

Advance = Callable[[], object]


class Cells(NamedTuple):
    """The cells of a large image.

    Attributes:
      numbers: For every pixel a number of its cell, or 0, uint64 [H, W].
      kept: The numbers of the cells that are large enough, in increasing order.
    """

    numbers: StoredArray
    kept: UInt64[np.ndarray, " n"]

    def read(self, rows: slice, columns: slice) -> Integer[np.ndarray, "h w"]:
        """Returns the cells of a part of the image, numbered 1, 2, ... in the image."""
        numbers = self.numbers.read(rows, columns)
        found = merging.contains(self.kept, numbers)
        result = np.zeros(numbers.shape, np.uint64)
        result[found] = np.searchsorted(self.kept, numbers[found]) + 1
        return result


class _Image(NamedTuple):
    """Outputs of a network for a large image, and what is made of them."""

    grid: Grid
    model: UNet
    settings: InstanceSettings
    outputs: StoredArray
    classes: StoredArray  # int16: of the foreground, negative in the background
    folder: pathlib.Path

    def array(self, name: str) -> StoredArray:
        shape = (self.grid.height, self.grid.width)
        return arrays.create_anew(self.folder / name, shape, (CHUNK, CHUNK), np.uint64)

    def split(self, rows: slice, columns: slice) -> predict.Outputs:
        return predict.split(self.outputs.read(rows, columns), self.model)

    def foreground(self, rows: slice, columns: slice) -> Integer[np.ndarray, "h w"]:
        return self.classes.read(rows, columns).clip(min=0)


def number_cells(
    outputs: StoredArray,
    grid: Grid,
    model: UNet,
    settings: InstanceSettings,
    folder: pathlib.Path,
    *,
    advance: Advance = lambda: None,
) -> Cells:
    """Numbers the cells of a prediction; see `components.instances_from_probs`.

    Args:
      outputs: Probabilities and maps of every pixel, [H, W, K].
      grid: The image and its blocks.
      model: The network.
      settings: Threshold, method, size limit.
      folder: Receives intermediate arrays.
      advance: Called after each block of each of `num_passes` passes.
    """
    classes = arrays.create_anew(
        folder / "classes", (grid.height, grid.width), (CHUNK, CHUNK), np.int16
    )
    image = _Image(grid, model, settings, outputs, classes, folder)
    for block in grid.blocks():
        _classify(image, block)
        advance()
    if settings.fill_holes:
        _fill_holes(image, advance)
    numbers = image.array("components")
    joined = merging.label(
        grid,
        lambda block: image.foreground(block.rows, block.columns),
        numbers,
        num_classes=model.num_classes,
    )
    if settings.method == "watershed":
        numbers = _flood(image, numbers, joined, advance)
        joined = _merge_fragments(image, numbers, advance)
    return _keep_large(image, numbers, joined, advance)


def num_passes(settings: InstanceSettings) -> int:
    """Returns how often `number_cells` goes over all blocks."""
    passes = 2 + settings.fill_holes
    if settings.method == "watershed":
        passes += 4 if settings.merge_solidity else 2
    return passes


def _classify(image: _Image, block: Block) -> None:
    """Stores the class of every pixel of a block, negative in the background."""
    probs, maps = image.split(block.rows, block.columns)
    foreground, best = components.foreground_classes(
        probs, image.settings, maps=maps, target=image.model.target
    )
    signed = np.where(foreground, best, -best).astype(np.int16)
    image.classes.write(signed, block.rows, block.columns)


def _fill_holes(image: _Image, advance: Advance) -> None:
    """Makes background that foreground encloses part of the foreground."""
    numbers = image.array("background")
    joined = merging.label(
        image.grid,
        lambda block: image.classes.read(block.rows, block.columns) < 0,
        numbers,
        num_classes=2,
        connectivity=2,
    )
    outside = merging.border_components(image.grid, numbers, joined)
    for block in image.grid.blocks():
        found = joined.resolve(numbers.read(block.rows, block.columns))
        is_hole = (found > 0) & ~merging.contains(outside, found)
        if is_hole.any():
            classes = image.classes.read(block.rows, block.columns)
            image.classes.write(
                np.where(is_hole, -classes, classes), block.rows, block.columns
            )
        advance()


def _flood(
    image: _Image, regions: StoredArray, joined: Joined, advance: Advance
) -> StoredArray:
    """Cuts regions of foreground into cells that grow from seeds."""
    seeds, cells = image.array("seeds"), image.array("cells")
    grid = image.grid
    seeded = np.zeros(0, np.uint64)

    def find_seeds(block: Block) -> Integer[np.ndarray, "h w"]:
        nonlocal seeded
        window = grid.window(block, _halo(image.settings))
        classes, _, is_seed = _heights(image, window)
        part = (inside(block.rows, window[0]), inside(block.columns, window[1]))
        found = np.where(is_seed, classes, 0)[part]
        region = joined.resolve(regions.read(block.rows, block.columns)[found > 0])
        seeded = np.union1d(seeded, region)
        advance()
        return found

    merged = merging.label(grid, find_seeds, seeds, num_classes=image.model.num_classes)
    for block in grid.blocks():
        halo = _halo(image.settings)
        while True:
            window = grid.window(block, halo)
            found = _flood_window(
                image, window, (seeds, merged), (regions, joined), seeded
            )
            part = (inside(block.rows, window[0]), inside(block.columns, window[1]))
            foreground = image.foreground(block.rows, block.columns) > 0
            is_whole = window == grid.window(block, max(grid.height, grid.width))
            is_missed = (foreground & (found[part] == 0)).any()
            is_cut = halo < _LARGEST_HALO and _is_cut(found, part)
            if is_whole or not (is_missed or is_cut):
                break
            halo *= 2  # a cell of the block, or its seed, lies beyond the window
        cells.write(found[part], block.rows, block.columns)
        advance()
    return cells


def _is_cut(found: UInt64[np.ndarray, "h w"], block: tuple[slice, slice]) -> bool:
    """Returns whether a cell with a seed reaches from the block to its window's end."""
    sides = zip(block, found.shape, strict=True)
    (top, bottom), (left, right) = (
        (part.start > 0, part.stop < side) for part, side in sides
    )
    edges = [
        *([found[0]] if top else []),
        *([found[-1]] if bottom else []),
        *([found[:, 0]] if left else []),
        *([found[:, -1]] if right else []),
    ]
    if not edges:
        return False
    reached = np.unique(np.concatenate(edges))
    seeded = reached[(reached > 0) & (reached % np.uint64(2) == 0)]
    return bool(np.isin(found[block], seeded).any())


def _flood_window(
    image: _Image,
    window: tuple[slice, slice],
    seeds: tuple[StoredArray, Joined],
    regions: tuple[StoredArray, Joined],
    seeded: UInt64[np.ndarray, " n"],
) -> UInt64[np.ndarray, "h w"]:
    """Returns the cell of every pixel of a window; 0 where none was reached."""
    classes, height, _ = _heights(image, window)
    seed = seeds[1].resolve(seeds[0].read(*window))
    region = regions[1].resolve(regions[0].read(*window))
    # A region without a seed is one cell.
    alone = (region > 0) & ~merging.contains(seeded, region)
    # Even numbers for seeds, odd ones for regions.
    marker = np.where(alone, 2 * region + np.uint64(1), 2 * seed)
    numbers, local = np.unique(marker, return_inverse=True)
    if numbers[0] != 0:  # no background in this window
        numbers, local = np.concatenate([[np.uint64(0)], numbers]), local + 1
    local = local.reshape(marker.shape).astype(np.int32)
    result = np.zeros(marker.shape, np.int32)
    for k in range(1, image.model.num_classes):
        mask = classes == k
        if mask.any():
            result += _watershed(height, np.where(mask, local, 0), mask)
    return numbers[result]


def _watershed(
    height: Float[np.ndarray, "h w"],
    markers: Int32[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"],
) -> Int32[np.ndarray, "h w"]:
    return segmentation.watershed(-height, markers, mask=mask).astype(np.int32)


def _heights(
    image: _Image, window: tuple[slice, slice]
) -> tuple[
    Integer[np.ndarray, "h w"], Float[np.ndarray, "h w"], Bool[np.ndarray, "h w"]
]:
    """Returns the classes of the foreground of a window, its heights and its seeds."""
    probs, maps = image.split(*window)
    classes = image.foreground(*window)
    seeds_of = components.seeding(
        probs, image.settings, maps=maps, target=image.model.target
    )
    height, is_seed = (
        np.zeros(classes.shape, probs.dtype),
        np.zeros(classes.shape, bool),
    )
    for k in range(1, image.model.num_classes):
        mask = classes == k
        if mask.any():
            heights, seeds = seeds_of(mask)
            height = np.where(mask, heights, height)
            is_seed |= mask & seeds
    return classes, height, is_seed


def _halo(settings: InstanceSettings) -> int:
    needed = 1 + smoothing.reach(
        deviation=settings.smoothing, relative=settings.relative_smoothing
    )
    return -(-max(_HALO, needed) // smoothing.COARSEST) * smoothing.COARSEST


def _merge_fragments(image: _Image, cells: StoredArray, advance: Advance) -> Joined:
    """Returns which cells are pieces of one; see `fragments.merge`."""
    if not image.settings.merge_solidity:
        return fragments.join(np.zeros((0, 2), np.uint64))
    borders, parts = list[fragments.Borders](), list[fragments.Cells]()
    for block in image.grid.blocks():
        window = image.grid.window(block, _halo(image.settings))
        _, heights, _ = _heights(image, window)
        height = heights[
            inside(block.rows, window[0]), inside(block.columns, window[1])
        ]
        parts.append(
            fragments.find_cells(cells.read(block.rows, block.columns), height)
        )
        # With one line of pixels of the next block, so that each border is found once.
        for axis, (rows, columns) in enumerate(_one_more(block, image.grid)):
            height = heights[inside(rows, window[0]), inside(columns, window[1])]
            found = cells.read(rows, columns)
            borders.append(fragments.find_borders(found, height, axis=axis))
        advance()
    found = fragments.add_cells(parts)
    pairs = fragments.with_weak_border(fragments.add_borders(borders), found)
    # Only cells of one class are merged; the number of a cell tells its class.
    first, second = (pairs // np.uint64(2) % np.uint64(image.model.num_classes)).T
    pairs = pairs[first == second]
    wanted = np.unique(pairs)
    corners = dict[int, list[Int64[np.ndarray, "c 2"]]]()
    for block in image.grid.blocks():
        parts_of_block = fragments.find_corners(
            cells.read(block.rows, block.columns),
            wanted,
            origin=(block.rows.start, block.columns.start),
        )
        for number, points in parts_of_block.items():
            corners.setdefault(number, []).append(points)
        advance()
    return fragments.join_convex(
        pairs,
        found,
        {number: np.concatenate(parts) for number, parts in corners.items()},
        image.settings.merge_solidity,
    )


def _one_more(block: Block, grid: Grid) -> list[tuple[slice, slice]]:
    """Returns a block with the next row, and with the next column, if there are any."""
    rows, columns = grid.window(block, 1)
    return [
        (slice(block.rows.start, rows.stop), block.columns),
        (block.rows, slice(block.columns.start, columns.stop)),
    ]


def _keep_large(
    image: _Image, numbers: StoredArray, joined: Joined, advance: Advance
) -> Cells:
    """Writes one number for each cell, and finds those of enough pixels."""
    parts = list[tuple[UInt64[np.ndarray, " n"], Int64[np.ndarray, " n"]]]()
    for block in image.grid.blocks():
        values = joined.resolve(numbers.read(block.rows, block.columns))
        if joined.numbers.size:
            numbers.write(values, block.rows, block.columns)
        parts.append(np.unique(values, return_counts=True))
        advance()
    found, index = np.unique(
        np.concatenate([part[0] for part in parts]), return_inverse=True
    )
    counts = np.bincount(index, np.concatenate([part[1] for part in parts]))
    is_kept = (found > 0) & (counts >= image.settings.min_size)
    return Cells(numbers, found[is_kept])
