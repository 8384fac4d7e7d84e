"""Seeded watershed: touching cells are cut apart by flooding from seeds inside them."""

import numpy as np
from jaxtyping import Bool, Float, Int32
from scipy import ndimage
from skimage import morphology, segmentation

from unetjax.instances.settings import Seeds

_SMOOTHING = 2.0  # pixels: standard deviation that evens out ragged distances


def watershed_cells(
    probability: Float[np.ndarray, "H W"],
    foreground: Bool[np.ndarray, "H W"],
    *,
    seeds: Seeds,
    seed_threshold: float,
) -> Int32[np.ndarray, "H W"]:
    """Numbers cells 1, 2, ... that grow from seeds until they cover the foreground.

    Pixels are neighbours over shared edges. A component of the foreground without a
    seed is one cell, so that no cell is lost compared with connected components.

    Args:
      probability: Probability of being inside a cell.
      foreground: True on the pixels of cells.
      seeds: Where cells begin. `probability`: the connected components of pixels above
        `seed_threshold`; the highest probability is flooded first. `distance`: the
        maxima of the distance to the background, smoothed by 2 pixels; the greatest
        distance is flooded first, which cuts round cells at their waist.
      seed_threshold: Probability, in [0, 1).

    Example:
      >>> row = np.array([[0.9, 0.7, 0.6, 0.9]])
      >>> watershed_cells(row, row > 0.5, seeds="probability", seed_threshold=0.8)
      array([[1, 1, 2, 2]], dtype=int32)
    """
    if seeds == "probability":
        height = probability
        is_seed = foreground & (probability > seed_threshold)
    else:
        height = ndimage.gaussian_filter(
            ndimage.distance_transform_edt(foreground), _SMOOTHING
        )
        is_seed = foreground & morphology.local_maxima(height)
    regions, count = ndimage.label(foreground)
    seeded = np.zeros(count + 1, bool)
    seeded[regions[is_seed]] = True
    markers, _ = ndimage.label(is_seed | (foreground & ~seeded[regions]))
    return segmentation.watershed(-height, markers, mask=foreground).astype(np.int32)
