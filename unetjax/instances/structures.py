"""What masks show: numbered cells, several classes, or one thin or compact class."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int
from scipy import ndimage

Structure = Literal["cells", "classes", "foreground", "thin"]

# Area of a component in units of that of its largest inscribed disc. A disc has 1, an
# ellipse its ratio of axes; a line that is n times as long as wide has 1.3 n.
_THIN = 10.0


def structure(
    labels: Sequence[Int[np.ndarray, "_ _"]],
    instances: Sequence[Int[np.ndarray, "_ _"]],
    *,
    numbered: bool,
) -> Structure:
    """Returns the kind of objects that masks show.

    `cells`: numbered objects. `classes`: two or more classes of foreground. A single
    class is `thin` if most of its pixels lie in components whose area is more than 10
    times that of their largest inscribed disc, as those of vessels, cracks, roads and
    membranes; it is `foreground` otherwise.

    Args:
      labels: Class of every pixel of every image, 0 on background.
      instances: Number of the object of every pixel, which is a connected component
        where objects are not numbered.
      numbered: Whether the numbers in the masks are those of cells, not of classes.
    """
    if max((int(label.max()) for label in labels), default=0) > 1:
        return "classes"
    if numbered:
        return "cells"
    return "thin" if _share_of_thin(instances) > 0.5 else "foreground"


def _share_of_thin(instances: Sequence[Int[np.ndarray, "_ _"]]) -> float:
    """Returns the share of foreground pixels that lie in thin components."""
    thin = total = 0
    for components in instances:
        numbers, areas = np.unique_counts(components[components > 0])
        if not numbers.size:
            continue
        # Without the frame of the image, which is no boundary of a component.
        depth = ndimage.distance_transform_edt(components > 0)
        radii = ndimage.maximum(depth, components, numbers)
        thin += areas[areas > _THIN * np.pi * np.square(radii)].sum()
        total += areas.sum()
    return thin / max(total, 1)
