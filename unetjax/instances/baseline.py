"""The simplest segmentation there is: what a trained network has to beat."""

import numpy as np
from jaxtyping import Int32, Real
from skimage import filters

from unetjax.instances import components, watershed


def otsu_components(
    image: Real[np.ndarray, "H W"], *, min_size: int = 0, fill_holes: bool = False
) -> Int32[np.ndarray, "H W"]:
    """Numbers the bright components of an image above Otsu's threshold.

    The threshold is the grey value that best separates the histogram into two classes
    (Otsu 1979). An image of one grey value has no cells.

    Args:
      image: Grey values in any units, bright cells on a dark ground; negate it for dark
        cells.
      min_size: See `components.label_components`.
      fill_holes: See `components.label_components`.

    Example:
      >>> otsu_components(np.array([[10, 11, 90, 10, 95]]))
      array([[0, 0, 1, 0, 2]], dtype=int32)
    """
    foreground = image > filters.threshold_otsu(image)
    return components.label_components(
        foreground, min_size=min_size, fill_holes=fill_holes
    )


def cut_by_watershed(cells: Int32[np.ndarray, "H W"]) -> Int32[np.ndarray, "H W"]:
    """Cuts components at their waists, see `watershed.watershed_cells`.

    Example:
      >>> row, column = np.indices((15, 30))
      >>> left, right = (np.hypot(row - 7, column - x) < 7 for x in (7, 19))
      >>> int(cut_by_watershed((left | right).astype(np.int32)).max())
      2
    """
    foreground = cells > 0
    return watershed.watershed_cells(
        foreground.astype(np.float32), foreground, seeds="distance", seed_threshold=0.5
    )
