"""Numbered cells one by one: consecutive numbers, boxes, distances within a cell."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage
from skimage import segmentation

Box = tuple[slice, slice]


def number(instances: Integer[np.ndarray, "H W"]) -> Int[np.ndarray, "H W"]:
    """Numbers cells 1, 2, ... without a gap; 0 and negative numbers are no cells."""
    return segmentation.relabel_sequential(np.maximum(instances, 0))[0].astype(int)


def boxes(cells: Int[np.ndarray, "H W"], *, margin: int) -> Iterator[tuple[int, Box]]:
    """Yields every number, and the box of its cell with a margin within the image."""
    for cell, box in enumerate(ndimage.find_objects(cells), start=1):
        yield cell, grow(box, margin)


def grow(box: tuple[slice, ...], margin: int) -> Box:
    """Returns a box that is larger on each side, within the image, in pixels."""
    rows, columns = (slice(max(s.start - margin, 0), s.stop + margin) for s in box)
    return rows, columns


def distance_to_outside(
    inside: Bool[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w"]:
    """Returns the distance to the nearest pixel outside of a cell, in pixels.

    The border of the array is not outside. It is 1 everywhere where no pixel is.
    """
    if inside.all():
        return np.ones(inside.shape)
    return np.asarray(ndimage.distance_transform_edt(inside))
