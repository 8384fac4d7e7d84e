"""Numbered cells as the connected components of a foreground."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int32, Integer
from scipy import ndimage

from unetjax.instances import watershed
from unetjax.instances.watershed import Seeds

Method = Literal["components", "watershed"]


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
    """Turns cells of less than `min_size` pixels into background; numbers the rest.

    Example:
      >>> remove_small(np.array([[1, 0, 3, 3]]), 2)
      array([[0, 0, 1, 1]], dtype=int32)
    """
    cells = relabel(instances)
    cells[np.bincount(cells.ravel())[cells] < min_size] = 0
    return relabel(cells)


def relabel(instances: Integer[np.ndarray, "H W"]) -> Int32[np.ndarray, "H W"]:
    """Numbers cells 1, 2, ... without gaps, in the order of their old numbers.

    Args:
      instances: Any numbers, 0 being the background; every other value is one cell.

    Example:
      >>> relabel(np.array([[0, 70_000, 256, 70_000]]))
      array([[0, 2, 1, 2]], dtype=int32)
    """
    foreground = instances != 0
    _, index = np.unique(instances[foreground], return_inverse=True)
    cells = np.zeros(instances.shape, np.int32)
    cells[foreground] = index + 1
    return cells


def instances_from_probs(
    probs: Float[np.ndarray, "H W K"],
    *,
    threshold: float = 0.5,
    method: Method = "components",
    seeds: Seeds = "probability",
    seed_threshold: float = 0.8,
    min_size: int = 0,
    fill_holes: bool = False,
) -> Int32[np.ndarray, "H W"]:
    """Numbers the cells of a prediction, class 0 being the background.

    A pixel is foreground where 1 - probs[..., 0] exceeds `threshold`, and then belongs
    to the most probable class of cells. Cells are the 4-connected components of equal
    class, or what a watershed makes of those.

    Args:
      probs: Probability of every class, after the softmax.
      threshold: Foreground probability, in [0, 1), above which a pixel is a cell.
      method: Whether components are cells as they are, or are cut by a watershed.
      seeds: Of the watershed, see `watershed.watershed_cells`.
      seed_threshold: Foreground probability above which its seeds are.
      min_size: Pixels below which a cell becomes background.
      fill_holes: Whether background enclosed by cells becomes foreground, of its most
        probable class.

    Raises:
      ValueError: If there are fewer than two classes, `threshold` is not in [0, 1), or
        another option is not accepted.
    """
    num_classes = probs.shape[-1]
    if num_classes < 2:
        raise ValueError(
            "probs must have background and at least one class of cells along its last "
            f"axis, got {num_classes} in all."
        )
    if not 0 <= threshold < 1:
        raise ValueError(
            f"threshold must be at least 0 and below 1, got {threshold}; "
            "it is a probability, not a grey value."
        )
    if method not in get_args(Method):
        accepted = " or ".join(get_args(Method))
        raise ValueError(f"method must be {accepted}, got {method!r}.")
    probability = 1 - probs[..., 0]
    foreground = probability > threshold
    if fill_holes:
        foreground = _fill_holes(foreground, connectivity=1)
    best = 1 + np.argmax(probs[..., 1:], axis=-1)
    instances = np.zeros(foreground.shape, np.int32)
    for k in range(1, num_classes):
        of_class = foreground & (best == k)
        if method == "components":
            cells = label_components(of_class, min_size=min_size)
        else:
            cells = watershed.watershed_cells(
                probability, of_class, seeds=seeds, seed_threshold=seed_threshold
            )
            cells = remove_small(cells, min_size)
        instances += np.where(cells > 0, cells + instances.max(initial=0), 0)
    return instances


def _fill_holes(
    foreground: Bool[np.ndarray, "H W"], *, connectivity: int
) -> Bool[np.ndarray, "H W"]:
    """Fills what a component encloses: regions connected by the other connectivity."""
    structure = ndimage.generate_binary_structure(2, 3 - connectivity)
    return np.asarray(ndimage.binary_fill_holes(foreground, structure))
