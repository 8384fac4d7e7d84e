"""Gaussian filter that is wider in larger cells, against cells that fall into pieces.

A network takes the texture and the noise of large cells for borders. A filter of one
width that removes those merges small cells.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

_LEVELS = 5  # of wider filters: 2, 4, 8, 16 and 32 times the smallest
# Pixels. Parts of an image are filtered alike if their corners lie this far apart, or a
# multiple of it.
COARSEST = 2**_LEVELS

_NEAR = 1.5  # radii from the centre of a disc, within which its filter is used
# Square pixels of a coarse grid: variance of the mean over a pixel and of the linear
# interpolation between pixels.
_SAMPLING = 1 / 12 + 1 / 4
_TRUNCATED = 4.0  # standard deviations, where SciPy ends a Gaussian


def smooth(
    maps: Float[np.ndarray, "H W *E"],
    foreground: Bool[np.ndarray, "H W"],
    *,
    deviation: float,
    relative: float,
) -> Float[np.ndarray, "H W *E"]:
    """Returns maps after a Gaussian filter whose width grows with the cells.

    The standard deviation is about `relative` times the radius of the largest disc in
    the foreground near a pixel, rounded to 2, 4, ... 32 times `deviation` (or times one
    pixel, if that is more). It is `deviation` in small cells and in the background.
    Near are discs whose centre is within 1.5 radii, so that a cell has one filter but
    for its ends.

    Args:
      maps: One or more maps of an image.
      foreground: True on the pixels of cells.
      deviation: Smallest standard deviation, in pixels.
      relative: Standard deviation relative to the radius; 0 for `deviation` everywhere.
    """
    planes = maps.reshape(*foreground.shape, -1)
    smoothed = ndimage.gaussian_filter(planes, (deviation, deviation, 0))
    if not relative:
        return smoothed.reshape(maps.shape)
    depth = np.asarray(ndimage.distance_transform_edt(foreground))
    # Wide filters need no fine grid: from level to level, pixels become twice as large,
    # and the filter has the same width in pixels.
    own = np.sqrt(max(deviation, 1) ** 2 - _SAMPLING)
    for level in range(_LEVELS):
        radius = _smallest_radius(level, deviation, relative)
        if depth.max() < radius:
            break
        side = 2 ** (level + 1)
        depth, planes = _halved(depth, np.maximum), _halved(planes, _mean)
        distance = side * np.asarray(ndimage.distance_transform_edt(depth < radius))
        is_near = (distance < _NEAR * radius).repeat(side, axis=0).repeat(side, axis=1)
        wide = ndimage.gaussian_filter(planes, (own, own, 0))
        for axis in (0, 1) * (level + 1):
            wide = _doubled(wide, axis)
        height, width = foreground.shape
        is_wide = is_near[:height, :width] & foreground
        np.copyto(smoothed, wide[:height, :width], where=is_wide[..., None])
    return smoothed.reshape(maps.shape)


def reach(*, deviation: float, relative: float) -> int:
    """Returns how far the value of a pixel depends on others, in pixels.

    Example:
      >>> reach(deviation=1.0, relative=0.0)
      4
    """
    if not relative:
        return int(np.ceil(_TRUNCATED * deviation))
    radius = _smallest_radius(_LEVELS - 1, deviation, relative)
    widest = max(deviation, 1) * 2**_LEVELS
    return int(max((1 + _NEAR) * radius, _TRUNCATED * widest)) + 2**_LEVELS


def _smallest_radius(level: int, deviation: float, relative: float) -> float:
    """The radius of cells from which the filter of a level is the nearest."""
    return max(deviation, 1) * 2 ** (level + 0.5) / relative


def _halved(
    array: Float[np.ndarray, "H W *E"],
    reduce: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Float[np.ndarray, "h w *E"]:
    """Reduces blocks of 2 x 2; the edge of an odd side is repeated."""
    odd = [(0, side % 2) for side in array.shape[:2]] + [(0, 0)] * (array.ndim - 2)
    padded = np.pad(array, odd, mode="edge")
    rows = reduce(padded[::2], padded[1::2])
    return reduce(rows[:, ::2], rows[:, 1::2])


def _mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first + second) / 2


def _doubled(
    array: Float[np.ndarray, "h w E"], axis: int
) -> Float[np.ndarray, "H W E"]:
    """Twice as many values along an axis, interpolated linearly."""
    x = np.moveaxis(array, axis, 0)
    before, after = np.concatenate([x[:1], x[:-1]]), np.concatenate([x[1:], x[-1:]])
    pairs = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=1)
    return np.moveaxis(pairs.reshape(-1, *x.shape[1:]), 0, axis)
