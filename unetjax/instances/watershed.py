"""Seeded watershed: touching cells are cut apart by flooding from seeds inside them."""

import functools

import numpy as np
from jaxtyping import Bool, Float, Int32
from scipy import ndimage
from skimage import morphology, segmentation

from unetjax.instances import smoothing
from unetjax.instances.settings import Seeds
from unetjax.targets.target import TargetName

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
    height, is_seed = seeds_of(
        probability, foreground, seeds=seeds, seed_threshold=seed_threshold
    )
    return flood(height, is_seed, foreground)


def seeds_of(
    probability: Float[np.ndarray, "H W"],
    foreground: Bool[np.ndarray, "H W"],
    *,
    seeds: Seeds,
    seed_threshold: float,
) -> tuple[Float[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]:
    """Returns the height that is flooded, and where; see `watershed_cells`."""
    if seeds == "distance":
        height = ndimage.gaussian_filter(
            ndimage.distance_transform_edt(foreground), _SMOOTHING
        )
        return height, morphology.local_maxima(height).astype(bool)
    return probability, probability > seed_threshold


def flood(
    height: Float[np.ndarray, "H W"],
    is_seed: Bool[np.ndarray, "H W"],
    foreground: Bool[np.ndarray, "H W"],
) -> Int32[np.ndarray, "H W"]:
    """Numbers the cells that grow from seeds downhill until they cover the foreground.

    Args:
      height: The highest pixels are flooded first.
      is_seed: Each 4-connected component of these pixels is a cell.
      foreground: True on the pixels of cells. A component without a seed is one cell.
    """
    is_seed = is_seed & foreground
    regions, count = ndimage.label(foreground)
    seeded = np.zeros(count + 1, bool)
    seeded[regions[is_seed]] = True
    markers, _ = ndimage.label(is_seed | (foreground & ~seeded[regions]))
    return segmentation.watershed(-height, markers, mask=foreground).astype(np.int32)


def seed_score(
    probability: Float[np.ndarray, "H W"],
    maps: Float[np.ndarray, "H W E"],
    target: TargetName,
    foreground: Bool[np.ndarray, "H W"],
    *,
    deviation: float,
    relative: float,
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Returns how far inside its cell each pixel is, as a seed score and as a height.

    `distances`: one minus the larger of both distances, and one minus that to the
    boundary. `neighbours`: cell distance less the tangent of the squared neighbour
    distance, and the cell distance (Scherr et al. 2020). `border`: the probability of
    cells without borders, for both.

    Args:
      probability: Probability of being inside a cell, without borders.
      maps: The maps of the target, see `targets.target.MAPS`.
      target: Which maps these are; not `classes`.
      foreground: True on the pixels of cells.
      deviation: Standard deviation of a Gaussian filter of the maps, in pixels.
      relative: The same relative to the radius of cells, where that is larger; see
        `smoothing.smooth`.
    """
    smooth = functools.partial(
        smoothing.smooth,
        foreground=foreground,
        deviation=deviation,
        relative=relative,
    )
    if target == "border":
        probability = smooth(probability)
        return probability, probability
    first, second = np.moveaxis(smooth(maps), -1, 0)
    if target == "distances":
        return 1 - np.maximum(first, second), 1 - second
    barrier = np.tan(second.clip(0, 1) ** 2).clip(0, 1)
    return first - np.where(barrier < 0.05, 0, barrier), first
