"""Target `neighbours`: distance within a cell, and nearness of the neighbouring cells.

Scherr et al. (2020), with the gaps and touching pixels of their later microbeSEG.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Integer
from scipy import ndimage
from skimage import measure, morphology

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
    numbers, cells = np.unique(np.maximum(instances, 0), return_inverse=True)
    cells = cells.reshape(instances.shape) + (numbers[0] > 0)
    depth = np.zeros(cells.shape)  # in pixels
    cell = np.zeros(cells.shape)
    regions = measure.regionprops(cells)
    for region in regions:
        wider = _grow(region.slice, 1)
        inside = cells[wider] == region.label
        deep = np.ones(inside.shape)
        if not inside.all():
            deep = np.asarray(ndimage.distance_transform_edt(inside))
        depth[wider][inside] = deep[inside]
        cell[wider][inside] = (deep / deep.max())[inside]
    neighbour = _neighbour_distance(cells, regions, deepest=depth.max(initial=0))
    for part in (_gaps(cells, neighbour), _touching(cells)):
        neighbour = np.maximum(neighbour, part)
    steep = 1 / np.sqrt(0.65 + 0.5 * np.exp(-11 * (neighbour - 0.75))) - 0.19
    closed = ndimage.grey_closing(steep.clip(0, 1), (3, 3))
    return np.stack([cell, closed], axis=-1).astype(np.float32)


def _neighbour_distance(
    cells: Int[np.ndarray, "H W"], regions: list, *, deepest: float
) -> Float[np.ndarray, "H W"]:
    """Returns one minus the scaled distance to the nearest other cell, on cells."""
    result = np.zeros(cells.shape)
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
    for number, place in enumerate(ndimage.find_objects(cells), start=1):
        wider = _grow(place, 2 * _GAP)
        closed[wider] |= _closing(cells[wider] == number, disk)
    gap = _closing(closed, disk) & ~closed
    result = np.zeros(cells.shape)
    labels = measure.label(gap)
    for region in measure.regionprops(labels):
        wider = _grow(region.slice, 1)
        inside = labels[wider] == region.label
        ring = ndimage.binary_dilation(inside, np.ones((3, 3), bool)) & ~inside
        least = next(total for area, total in _LEAST_SUM if region.area <= area)
        if neighbour[wider][ring].sum() < least:
            continue
        value = np.where(inside, 1.0, 0.0)
        if region.axis_minor_length >= _GAP:
            core = ndimage.binary_erosion(inside, np.ones((3, 3), bool))
            value[inside & ~core] = _RIM
        result[wider] = np.maximum(result[wider], value)
    return result


def _touching(cells: Int[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Returns the outer rings of all cells without that of the whole foreground."""
    square = np.ones((3, 3), bool)
    rings = np.zeros(cells.shape, bool)
    for number, place in enumerate(ndimage.find_objects(cells), start=1):
        wider = _grow(place, 1)
        inside = cells[wider] == number
        rings[wider] |= ndimage.binary_dilation(inside, square) & ~inside
    foreground = cells > 0
    return rings ^ (ndimage.binary_dilation(foreground, square) & ~foreground)


def _closing(
    inside: Bool[np.ndarray, "h w"], disk: Integer[np.ndarray, "d d"]
) -> Bool[np.ndarray, "h w"]:
    grown = ndimage.binary_dilation(inside, disk)
    return ndimage.binary_erosion(grown, disk, border_value=1)


def _grow(place: tuple[slice, ...], by: int) -> tuple[slice, ...]:
    """Returns a box that is larger by some pixels on each side, within the image."""
    return tuple(slice(max(s.start - by, 0), s.stop + by) for s in place)
