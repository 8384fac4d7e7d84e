"""Touching cells cut apart by flooding from a seed inside of each."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int32
from scipy import ndimage
from skimage import morphology, segmentation

Seeds = Literal["probability", "distance"]

_SMOOTHING = 2.0  # pixels: standard deviation that evens out ragged distances


def watershed_cells(
    probability: Float[np.ndarray, "H W"],
    foreground: Bool[np.ndarray, "H W"],
    *,
    seeds: Seeds = "probability",
    seed_threshold: float = 0.8,
) -> Int32[np.ndarray, "H W"]:
    """Numbers cells 1, 2, ... that grow from seeds until they cover the foreground.

    Pixels are neighbours over shared edges. A component of the foreground without a
    seed is one cell: nothing is lost to connected components.

    Args:
      probability: Of being inside of a cell.
      foreground: True on the pixels of cells.
      seeds: Where cells begin. `probability`: the connected components of what exceeds
        `seed_threshold`; the highest probability is flooded first. `distance`: the
        maxima of the distance to the background, smoothed by 2 pixels; the greatest
        distance is flooded first, which cuts round cells at their waist.
      seed_threshold: Probability, in [0, 1).

    Raises:
      ValueError: If `seeds` is neither of the two or `seed_threshold` not in [0, 1).

    Example:
      >>> row = np.array([[0.9, 0.7, 0.6, 0.9]])
      >>> watershed_cells(row, row > 0.5)
      array([[1, 1, 2, 2]], dtype=int32)
    """
    if not 0 <= seed_threshold < 1:
        raise ValueError(
            f"seed_threshold must be at least 0 and below 1, got {seed_threshold}; "
            "it is a probability, not a grey value."
        )
    if seeds == "probability":
        height = probability
        begun = foreground & (probability > seed_threshold)
    elif seeds == "distance":
        height = ndimage.gaussian_filter(
            ndimage.distance_transform_edt(foreground), _SMOOTHING
        )
        begun = foreground & morphology.local_maxima(height)
    else:
        raise ValueError(f"seeds must be probability or distance, got {seeds!r}.")
    regions, count = ndimage.label(foreground)
    seeded = np.zeros(count + 1, bool)
    seeded[regions[begun]] = True
    markers, _ = ndimage.label(begun | (foreground & ~seeded[regions]))
    return segmentation.watershed(-height, markers, mask=foreground).astype(np.int32)
