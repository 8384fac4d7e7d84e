"""Weight map of Eq. (2) in NumPy, float64: readable reference and test oracle."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy import ndimage

from unetjax.weight_maps import separation
from unetjax.weight_maps.settings import PAPER, WeightMapSettings, reach

_NEGLIGIBLE = 1e-9  # largest change of a weight by the cells that are left out


def label_and_weight(
    label: Integer[np.ndarray, "H W"],
    instances: Integer[np.ndarray, "H W"],
    class_weights: Float[np.ndarray, " K"] | Sequence[float],
    *,
    settings: WeightMapSettings = PAPER,
) -> tuple[Int[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Returns the label with separation borders and its weight map, Eq. (2).

    As `device.label_and_weight`, but by one exact distance transform per cell.

    Args:
      label: Class of every pixel in [0, K), 0 being background; negative: ignored.
      instances: Cell numbers, 0 where there is no cell.
      class_weights: Weight w_c of every class, background first.
      settings: Heights and widths of the border term, and the separation border.

    Returns:
      Label, int32; weight, float32.

    Example:
      >>> cells = np.array([[1, 1, 0, 0, 2]])
      >>> label, weight = label_and_weight(np.sign(cells), cells, (1.0, 1.0))
      >>> [round(float(w), 3) for w in weight[0]]
      [1.0, 1.0, 9.353, 9.353, 1.0]
    """
    border = np.zeros(label.shape)
    radius = reach(settings, tolerance=_NEGLIGIBLE)
    for k in range(1, len(class_weights)):
        d1, d2 = nearest_two(np.where(label == k, instances, 0), radius=radius)
        border += settings.w0 * np.exp(-((d1 + d2) ** 2) / (2 * settings.sigma**2))
        border += settings.near * np.exp(-(d1**2) / (2 * settings.near_sigma**2))
    separated = np.asarray(
        separation.cut_separation_border(label, instances, settings.separation_border)
    )
    weight = np.asarray(class_weights)[separated] + np.where(separated == 0, border, 0)
    return separated, np.where(label < 0, 0, weight).astype(np.float32)


def nearest_two(
    instances: Integer[np.ndarray, "H W"], *, radius: int
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Returns the distances d1 and d2 to the nearest and second nearest cell.

    Distances are Euclidean, in pixels, between pixel centres; 0 inside a cell.

    Args:
      instances: Cell numbers, 0 where there is no cell.
      radius: Distance up to which cells must be considered; the distance to a cell
        farther away may be infinite.
    """
    d1 = np.full(instances.shape, np.inf)
    d2 = np.full(instances.shape, np.inf)
    for cell, box in _boxes(instances, margin=radius):
        distance = np.asarray(ndimage.distance_transform_edt(instances[box] != cell))
        d2[box] = np.minimum(d2[box], np.maximum(d1[box], distance))
        d1[box] = np.minimum(d1[box], distance)
    return d1, d2


def _boxes(
    instances: Integer[np.ndarray, "H W"], *, margin: int
) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Yields every cell's number and its bounding box, widened by `margin` pixels."""
    cells, index = np.unique(instances, return_inverse=True)
    boxes = ndimage.find_objects(index.reshape(instances.shape) + 1)
    for cell, box in zip(cells, boxes, strict=True):
        if cell > 0:
            wide = (slice(max(s.start - margin, 0), s.stop + margin) for s in box)
            yield int(cell), tuple(wide)
