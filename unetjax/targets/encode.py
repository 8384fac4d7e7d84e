"""From numbered cells to the maps that a network learns."""

import numpy as np
from jaxtyping import Float32, Integer

from unetjax.targets.border import borders
from unetjax.targets.distances import center_and_boundary
from unetjax.targets.neighbours import cell_and_neighbour
from unetjax.targets.target import MAPS, TargetName


def encode(
    instances: Integer[np.ndarray, "H W"], target: TargetName
) -> Float32[np.ndarray, "H W E"]:
    """Returns the maps of a target for one whole image, named in `target.MAPS`.

    They are computed once from the whole image, and tiles read them under the
    displacement of the image. A cell at the edge of a tile so keeps the distances of
    the whole cell, and a training step costs no more than one of classes. Rotation,
    reflection and scaling change no normalised distance; an elastic field moves it
    with its pixel.

    Args:
      instances: Number of the cell of every pixel, 0 or less outside of cells.
      target: Which maps.
    """
    if target == "distances":
        return center_and_boundary(instances)
    if target == "neighbours":
        return cell_and_neighbour(instances)
    if target == "border":
        return borders(instances)[..., np.newaxis].astype(np.float32)
    return np.zeros((*instances.shape, len(MAPS[target])), np.float32)
