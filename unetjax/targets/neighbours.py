"""Target `neighbours`: distance within a cell, and nearness of the neighbouring cells.

Scherr et al. (2020), with the gaps and touching pixels of their later microbeSEG.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Integer
from scipy import ndimage
from skimage import measure, morphology

from unetjax.targets.cells import boxes, distance_to_outside, grow, number

_REACH = 3  # pixels that a neighbour distance reaches beyond the deepest cell
_WINDOW = 0.75  # half side of the window of a cell, in largest major axes
_GAP = 3  # pixels: radius of the disk that closes cells and the gaps between them
_RIM = 0.8  # value of the outermost pixels of a gap that is at least `_GAP` wide
# Sum of neighbour distances around a gap below which it is none, by its area in pixels.
_LEAST_SUM = ((20, 5.0), (30, 8.0), (50, 10.0), (math.inf, 20.0))


def cell_and_neighbour(
    instances: Integer[np.ndarray, "H W"],
) -> Float32[np.ndarray, "H W 2"]:
    """Returns the cell distance and the neighbour distance, both in [0, 1].

    The cell distance grows from the boundary of a cell to 1 at its deepest pixel. The
    neighbour distance grows towards the nearest other cell and is 1 where cells touch
    and in narrow gaps between them. Both are 0 on other background.

    Args:
      instances: Number of the cell of every pixel, 0 or less outside of cells.
    """
    cells = number(instances)
    depth = np.zeros(cells.shape)  # in pixels
    cell = np.zeros(cells.shape)
    for label, box in boxes(cells, margin=1):
        inside = cells[box] == label
        deep = distance_to_outside(inside)
        depth[box][inside] = deep[inside]
        cell[box][inside] = (deep / deep.max())[inside]
    neighbour = _neighbour_distance(cells, deepest=depth.max(initial=0))
    for part in (_gaps(cells, neighbour), _touching(cells)):
        neighbour = np.maximum(neighbour, part)
    steep = 1 / np.sqrt(0.65 + 0.5 * np.exp(-11 * (neighbour - 0.75))) - 0.19
    closed = ndimage.grey_closing(steep.clip(0, 1), (3, 3))
    return np.stack([cell, closed], axis=-1).astype(np.float32)


def _neighbour_distance(
    cells: Int[np.ndarray, "H W"], *, deepest: float
) -> Float[np.ndarray, "H W"]:
    """Returns one minus the scaled distance to the nearest other cell, on cells."""
    result = np.zeros(cells.shape)
    regions = measure.regionprops(cells)
    axes = [region.axis_major_length for region in regions]
    half = math.ceil(_WINDOW * max(axes, default=0))
    for region in regions:
        row, column = np.round(region.centroid).astype(int)
        window = (
            slice(max(row - half, 0), row + half + 1),
            slice(max(column - half, 0), column + half + 1),
        )
        inside = cells[window] == region.label
        others = (cells[window] > 0) & ~inside
        if not others.any():
            continue
        distance = np.asarray(ndimage.distance_transform_edt(~others))[inside]
        if distance.size:
            scale = min(deepest + _REACH, distance.max())
            result[window][inside] = 1 - (distance / scale).clip(0, 1)
    return result


def _gaps(
    cells: Int[np.ndarray, "H W"], neighbour: Float[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W"]:
    """Returns 1 in narrow gaps between cells, and `_RIM` at the rim of wider ones."""
    disk = morphology.disk(_GAP)
    closed = np.zeros(cells.shape, bool)
    for label, box in boxes(cells, margin=2 * _GAP):
        closed[box] |= _closing(cells[box] == label, disk)
    gap = _closing(closed, disk) & ~closed
    result = np.zeros(cells.shape)
    labels = measure.label(gap)
    for region in measure.regionprops(labels):
        box = grow(region.slice, 1)
        inside = labels[box] == region.label
        ring = ndimage.binary_dilation(inside, np.ones((3, 3), bool)) & ~inside
        least = next(total for area, total in _LEAST_SUM if region.area <= area)
        if neighbour[box][ring].sum() < least:
            continue
        value = np.where(inside, 1.0, 0.0)
        if region.axis_minor_length >= _GAP:
            core = ndimage.binary_erosion(inside, np.ones((3, 3), bool))
            value[inside & ~core] = _RIM
        result[box] = np.maximum(result[box], value)
    return result


def _touching(cells: Int[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Returns the outer rings of all cells without that of the whole foreground."""
    square = np.ones((3, 3), bool)
    rings = np.zeros(cells.shape, bool)
    for label, box in boxes(cells, margin=1):
        inside = cells[box] == label
        rings[box] |= ndimage.binary_dilation(inside, square) & ~inside
    foreground = cells > 0
    return rings ^ (ndimage.binary_dilation(foreground, square) & ~foreground)


def _closing(
    inside: Bool[np.ndarray, "h w"], disk: Integer[np.ndarray, "d d"]
) -> Bool[np.ndarray, "h w"]:
    # Not SciPy's closing, which erodes from the border of the array as well.
    grown = ndimage.binary_dilation(inside, disk)
    return ndimage.binary_erosion(grown, disk, border_value=1)
