"""From class probabilities to instances: connected components, small ones removed."""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int32, Integer
from scipy import ndimage
from skimage import segmentation

from unetjax.instances import fragments, watershed
from unetjax.instances.settings import InstanceSettings
from unetjax.targets.target import TargetName

Mask = Bool[np.ndarray, "H W"]


def label_components(
    foreground: Bool[np.ndarray, "H W"],
    *,
    connectivity: int = 1,
    min_size: int = 0,
    fill_holes: bool = False,
) -> Int32[np.ndarray, "H W"]:
    """Numbers the connected components of the foreground 1, 2, ..., background 0.

    Args:
      foreground: True on the pixels of cells.
      connectivity: 1 joins pixels that share an edge, 2 also those that share a corner.
      min_size: Pixels below which a component becomes background.
      fill_holes: Whether background enclosed by a component becomes part of it, before
        sizes are compared; a region that reaches the border of the image is no hole.

    Raises:
      ValueError: If `connectivity` is neither 1 nor 2.

    Example:
      >>> label_components(np.array([[True, False, True, True]]), min_size=2)
      array([[0, 0, 1, 1]], dtype=int32)
    """
    if connectivity not in (1, 2):
        raise ValueError(
            "connectivity must be 1 (shared edges) or 2 (shared corners as well), got "
            f"{connectivity}."
        )
    structure = ndimage.generate_binary_structure(2, connectivity)
    if fill_holes:
        foreground = _fill_holes(foreground, connectivity=connectivity)
    cells = np.zeros(foreground.shape, np.int32)
    ndimage.label(foreground, structure, output=cells)
    return remove_small(cells, min_size)


def remove_small(
    instances: Integer[np.ndarray, "H W"], min_size: int
) -> Int32[np.ndarray, "H W"]:
    """Turns cells of fewer than `min_size` pixels into background; numbers the rest.

    Example:
      >>> remove_small(np.array([[1, 0, 3, 3]]), 2)
      array([[0, 0, 1, 1]], dtype=int32)
    """
    # Not `morphology.remove_small_objects`, which warns of images with a single cell.
    cells = segmentation.relabel_sequential(instances)[0]
    cells[np.bincount(cells.ravel())[cells] < min_size] = 0
    return segmentation.relabel_sequential(cells)[0].astype(np.int32)


def instances_from_probs(
    probs: Float[np.ndarray, "H W K"],
    settings: InstanceSettings = InstanceSettings(),
    *,
    maps: Float[np.ndarray, "H W E"] | None = None,
    target: TargetName = "classes",
) -> Int32[np.ndarray, "H W"]:
    """Numbers the cells of a prediction, class 0 being the background.

    A pixel is foreground where 1 - probs[..., 0] exceeds the threshold, and then
    belongs to the most probable of the other classes. Cells are the 4-connected
    components of equal class, or the parts into which a watershed cuts those.

    Args:
      probs: Probability of every class, after the softmax.
      settings: Threshold, method, size limit.
      maps: Maps of the target, for `seeds="maps"`.
      target: What the network learned. Of `border` the foreground is that of cells and
        borders.

    Raises:
      ValueError: If there are fewer than two classes, or no maps where they are needed.
    """
    foreground, best = foreground_classes(probs, settings, maps=maps, target=target)
    if settings.fill_holes:
        foreground = _fill_holes(foreground, connectivity=1)
    cut = _cutter(probs, settings, maps, target)
    instances = np.zeros(foreground.shape, np.int32)
    for k in range(1, probs.shape[-1]):
        cells = cut(foreground & (best == k))
        cells = remove_small(cells, settings.min_size)
        instances += np.where(cells > 0, cells + instances.max(initial=0), 0)
    return instances


def foreground_classes(
    probs: Float[np.ndarray, "H W K"],
    settings: InstanceSettings,
    *,
    maps: Float[np.ndarray, "H W E"] | None,
    target: TargetName,
) -> tuple[Bool[np.ndarray, "H W"], Integer[np.ndarray, "H W"]]:
    """Returns the foreground, and the most probable class of cells of every pixel.

    Holes are not filled yet; the arguments are those of `instances_from_probs`.

    Raises:
      ValueError: If there are fewer than two classes.
    """
    num_classes = probs.shape[-1]
    if num_classes < 2:
        raise ValueError(
            "probs must have background and at least one class of cells along its last "
            f"axis, got {num_classes} in all."
        )
    covered = 1 - probs[..., 0]
    if maps is not None and target == "border":
        covered = covered + maps[..., 0]
    return covered > settings.threshold, 1 + np.argmax(probs[..., 1:], axis=-1)


def seeding(
    probs: Float[np.ndarray, "H W K"],
    settings: InstanceSettings,
    *,
    maps: Float[np.ndarray, "H W E"] | None,
    target: TargetName,
) -> Callable[[Mask], tuple[Float[np.ndarray, "H W"], Mask]]:
    """Returns the function from a foreground to the height and seeds of a watershed.

    Raises:
      ValueError: If there are no maps where they are needed.
    """
    probability = 1 - probs[..., 0]
    if settings.seeds != "maps":
        return functools.partial(
            watershed.seeds_of,
            probability,
            seeds=settings.seeds,
            seed_threshold=settings.seed_threshold,
        )
    if maps is None or target == "classes":
        raise ValueError(
            "instances.seeds 'maps' needs a network that learned maps, got target "
            f"{target!r}; use 'probability' or 'distance'."
        )

    def seeds_of(foreground: Mask) -> tuple[Float[np.ndarray, "H W"], Mask]:
        score, height = watershed.seed_score(
            probability,
            maps,
            target,
            foreground,
            deviation=settings.smoothing,
            relative=settings.relative_smoothing,
        )
        return height, score > settings.seed_threshold

    return seeds_of


def _cutter(
    probs: Float[np.ndarray, "H W K"],
    settings: InstanceSettings,
    maps: Float[np.ndarray, "H W E"] | None,
    target: TargetName,
) -> Callable[[Mask], Int32[np.ndarray, "H W"]]:
    """Returns the function that numbers the cells of a foreground."""
    if settings.method == "components":
        return label_components
    seeds_of = seeding(probs, settings, maps=maps, target=target)

    def cut(foreground: Mask) -> Int32[np.ndarray, "H W"]:
        height, is_seed = seeds_of(foreground)
        cells = watershed.flood(height, is_seed, foreground)
        if settings.merge_solidity:
            cells = fragments.merge(cells, height, min_solidity=settings.merge_solidity)
        return cells

    return cut


def _fill_holes(
    foreground: Bool[np.ndarray, "H W"], *, connectivity: int
) -> Bool[np.ndarray, "H W"]:
    """Fills what a component encloses: regions connected by the other connectivity."""
    structure = ndimage.generate_binary_structure(2, 3 - connectivity)
    return np.asarray(ndimage.binary_fill_holes(foreground, structure))
