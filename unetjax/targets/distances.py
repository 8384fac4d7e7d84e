"""Target `distances`: of every pixel to the centre and to the boundary of its cell.

As in torch-em and in the automatic segmentation of micro-SAM (Archit et al. 2025).
"""

import numpy as np
from jaxtyping import Float32, Integer

from unetjax.targets.cells import boxes, distance_to_outside, number


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
    cells = number(instances)
    for cell, box in boxes(cells, margin=1):
        inside = cells[box] == cell
        # Measured from the boundary pixels, whose distance to the outside is 1.
        depth = np.maximum(distance_to_outside(inside) - 1, 0)
        rows, columns = np.nonzero(inside)
        center = np.round([rows.mean(), columns.mean()]).astype(int)
        if not inside[tuple(center)]:
            center = np.array(np.unravel_index(depth.argmax(), depth.shape))
        radius = np.hypot(rows - center[0], columns - center[1])
        maps[box][rows, columns] = np.stack(
            [
                radius / max(radius.max(), 1),
                1 - depth[rows, columns] / max(depth.max(), 1),
            ],
            axis=-1,
        )
        if depth.max() < 1:  # a cell of which every pixel is boundary
            maps[box][rows, columns, 1] = 0
    return maps
