"""Target `distances`: of every pixel to the centre and to the boundary of its cell.

As in torch-em and in the automatic segmentation of micro-SAM (Archit et al. 2025).
"""

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer
from scipy import ndimage


def center_and_boundary(
    instances: Integer[np.ndarray, "H W"],
) -> Float32[np.ndarray, "H W 2"]:
    """Returns the normalised distances to centre and boundary, both 1 outside of cells.

    The distance to the centre is divided by its largest value in the cell. The centre
    is the centroid, or the pixel deepest inside where the centroid lies in no pixel of
    the cell. The second channel is 1 at the boundary and 0 at the deepest pixels. The
    border of the image is no boundary: a cell goes on beyond it.

    Both are divided by a property of the cell, so that rotation, reflection and scaling
    leave them as they are.

    Args:
      instances: Number of the cell of every pixel, 0 or less outside of cells.

    Example:
      >>> center_and_boundary(np.array([[0, 7, 7, 7, 7, 7, 0]]))[0, :, 1].tolist()
      [1.0, 1.0, 0.5, 0.0, 0.5, 1.0, 1.0]
    """
    maps = np.ones((*instances.shape, 2), np.float32)
    numbers, cells = np.unique(np.maximum(instances, 0), return_inverse=True)
    cells = cells.reshape(instances.shape) + (numbers[0] > 0)
    for number, place in enumerate(ndimage.find_objects(cells), start=1):
        wider = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in place)
        inside = cells[wider] == number
        depth = _depth(inside)
        rows, columns = np.nonzero(inside)
        center = np.round([rows.mean(), columns.mean()]).astype(int)
        if not inside[tuple(center)]:
            center = np.array(np.unravel_index(depth.argmax(), depth.shape))
        radius = np.hypot(rows - center[0], columns - center[1])
        maps[wider][rows, columns] = np.stack(
            [
                radius / max(radius.max(), 1),
                1 - depth[rows, columns] / max(depth.max(), 1),
            ],
            axis=-1,
        )
        if depth.max() < 1:  # a cell of which every pixel is boundary
            maps[wider][rows, columns, 1] = 0
    return maps


def _depth(inside: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Returns the distance to the boundary pixels of a cell, in pixels."""
    if inside.all():  # no pixel outside to measure from
        return np.zeros(inside.shape)
    return np.maximum(np.asarray(ndimage.distance_transform_edt(inside)) - 1, 0)
