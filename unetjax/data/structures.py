"""What masks show: numbered cells, several classes, or one thin or compact class."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import ndimage

from unetjax.data.examples import Example

Structure = Literal["cells", "classes", "foreground", "thin"]

# Area of a component in units of that of its largest inscribed disc. A disc has 1, an
# ellipse its ratio of axes; a line that is n times as long as wide has 1.3 n.
_THIN = 10.0


def structure(examples: Sequence[Example], *, numbered: bool) -> Structure:
    """Returns the kind of objects that masks show.

    `cells`: numbered objects. `classes`: two or more classes of foreground. A single
    class is `thin` if most of its pixels lie in components whose area is more than 10
    times that of their largest inscribed disc, as those of vessels, cracks, roads and
    membranes; it is `foreground` otherwise.

    Args:
      examples: Annotated images.
      numbered: Whether the numbers in the masks are those of cells, not of classes.
    """
    if max((int(e.label.max()) for e in examples), default=0) > 1:
        return "classes"
    if numbered:
        return "cells"
    return "thin" if _share_of_thin(examples) > 0.5 else "foreground"


def _share_of_thin(examples: Sequence[Example]) -> float:
    """Returns the share of foreground pixels that lie in thin components."""
    thin = total = 0
    for example in examples:
        components = np.maximum(example.instances, 0)
        numbers, areas = np.unique_counts(components[components > 0])
        if not numbers.size:
            continue
        # Without the frame of the image, which is no boundary of a component.
        depth = ndimage.distance_transform_edt(components > 0)
        radii = ndimage.maximum(depth, components, numbers)
        thin += areas[areas > _THIN * np.pi * np.square(radii)].sum()
        total += areas.sum()
    return thin / max(total, 1)
