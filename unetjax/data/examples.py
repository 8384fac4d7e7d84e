"""`Example`: one annotated image. Every data set is a sequence of examples."""

import hashlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

IGNORED = -1  # label of a pixel that is not annotated; its loss weight is 0


class Example(NamedTuple):
    """One annotated image as stored, neither scaled nor converted.

    Attributes:
      image: Grey values or colours in the stored dtype.
      label: Class of every pixel in [0, K); `IGNORED` if it is not annotated.
      instances: Number of the cell that each pixel belongs to, 0 outside of cells. If
        only classes are annotated, the 4-connected components of the foreground.
      name: Name of the image in messages and reports.
      pixel_size: Height and width of a pixel, in micrometres; None if unknown.
    """

    image: Shaped[np.ndarray, "H W C"]
    label: Int[np.ndarray, "H W"]
    instances: Int[np.ndarray, "H W"]
    name: str
    pixel_size: tuple[float, float] | None = None


def content_hash(example: Example) -> str:
    """Returns a hash of the image's pixels, type and shape, whatever its name."""
    return array_hash(example.image)


def annotation_hash(example: Example) -> str:
    """Returns a hash of classes and instances, whatever the image."""
    return array_hash(np.stack([example.label, example.instances]))


def from_instances(
    image: Shaped[np.ndarray, "H W C"], instances: Int[np.ndarray, "H W"], name: str
) -> Example:
    """Returns the example of an image with numbered cells, all of them of class 1.

    Negative numbers mark pixels that are not annotated.
    """
    label = np.where(instances < 0, IGNORED, instances > 0).astype(np.int32)
    return Example(image, label, np.maximum(instances, 0).astype(np.int32), name)


def from_labels(
    image: Shaped[np.ndarray, "H W C"], label: Int[np.ndarray, "H W"], name: str
) -> Example:
    """Returns the example of an image of which only classes are annotated.

    Class 0 is background. Instances are the 4-connected components of equal foreground
    class, as the scorer of the ISBI 2012 challenge counts them.
    """
    from skimage import measure

    foreground = np.where(label > 0, label, 0)
    instances = measure.label(foreground, background=0, connectivity=1)
    return Example(image, label.astype(np.int32), instances.astype(np.int32), name)


def array_hash(array: Shaped[np.ndarray, "..."]) -> str:
    """Returns the SHA-256 of type, shape and values of an array."""
    array = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
