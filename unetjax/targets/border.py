"""Target `border`: a further class for borders between cells that (nearly) touch.

As in Caicedo et al. (2019) and in the winning entry of the Data Science Bowl 2018.
"""

import numpy as np
from jaxtyping import Bool, Integer
from scipy import ndimage
from skimage import segmentation

from unetjax.targets.cells import number

# Half width of the window that must hold two cells, in pixels, from an area on: that of
# the largest cell for pixels of background, that of its own cell for any other.
_ON_BACKGROUND = {0: 3, 4000: 6}
_ON_CELLS = {0: 1, 300: 2, 2000: 3}


def borders(instances: Integer[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Returns which pixels are border: between two cells, on background or on a cell.

    Args:
      instances: Number of the cell of every pixel, 0 or less outside of cells.

    Example:
      >>> borders(np.array([[1, 1, 1, 2, 2, 2]])).astype(int).tolist()
      [[0, 0, 1, 1, 0, 0]]
    """
    cells = number(instances)
    areas = np.bincount(cells.ravel())
    areas[0] = 0
    result = np.zeros(cells.shape, bool)
    for where, area, half_widths in (
        (cells == 0, areas.max(), _ON_BACKGROUND),
        (cells > 0, areas[cells], _ON_CELLS),
    ):
        for least, half_width in half_widths.items():
            is_wide = where & (area >= least)
            result = np.where(is_wide, _holds_two(cells, half_width), result)
    return result & _between(cells)


def _holds_two(
    cells: Integer[np.ndarray, "H W"], half_width: int
) -> Bool[np.ndarray, "H W"]:
    """Returns where a square window holds pixels of two or more cells."""
    side = 2 * half_width + 1
    none = cells.max() + 1
    largest = ndimage.maximum_filter(cells, side, mode="nearest")
    least = ndimage.minimum_filter(
        np.where(cells > 0, cells, none), side, mode="nearest"
    )
    return (least < largest) & (least < none)


def _between(cells: Integer[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Returns where cells touch, or meet when grown by 4 pixels; 7 pixels wide."""
    square = np.ones((9, 9), bool)
    grown = ndimage.binary_dilation(cells > 0, square)
    lines = grown & (
        segmentation.watershed(grown, cells, mask=grown, watershed_line=True) == 0
    )
    lines |= (cells > 0) & _holds_two(cells, 1)  # a watershed has no line there
    return ndimage.binary_dilation(lines, np.ones((7, 7), bool))
