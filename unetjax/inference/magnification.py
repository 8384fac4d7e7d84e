"""Prediction at another magnification than that of the training images."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float32, Integer

from unetjax.instances.settings import InstanceSettings

# Ratio of object sizes below which a network needs no other magnification.
TOLERATED = 1.25
_LARGEST = 8.0  # factor of enlargement or reduction that is chosen automatically


def resize(
    image: Float[np.ndarray, "H W C"], shape: tuple[int, int]
) -> Float32[np.ndarray, "h w C"]:
    """Returns a linearly interpolated image, smoothed before it is made smaller."""
    from skimage import transform

    if image.shape[:2] == shape:
        return image.astype(np.float32)
    smaller = shape[0] < image.shape[0]
    resized = transform.resize(
        image, shape, order=1, mode="edge", anti_aliasing=smaller, preserve_range=True
    )
    return resized.astype(np.float32)


def scaled_shape(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    """Returns height and width after scaling, of at least one pixel.

    Example:
      >>> scaled_shape((30, 41), 0.5)
      (15, 20)
    """
    height, width = (max(round(side * scale), 1) for side in shape[:2])
    return height, width


def scaled_settings(settings: InstanceSettings, scale: float) -> InstanceSettings:
    """Returns the settings for maps of the size of the image, not of the network input.

    Example:
      >>> scaled_settings(InstanceSettings(min_size=40), 2.0).min_size
      10
    """
    return replace(
        settings,
        min_size=round(settings.min_size / scale**2),
        smoothing=settings.smoothing / scale,
    )


def object_diameter(*instances: Integer[np.ndarray, "_ _"]) -> float | None:
    """Returns the median diameter of the objects of images; None without any.

    In pixels, of the disc of equal area; negative numbers and 0 are no objects.

    Example:
      >>> round(object_diameter(np.array([[1, 1, 0, 2]])), 3)
      1.382
    """
    counts = [np.unique_counts(each[each > 0]).counts for each in instances]
    areas = np.concatenate(counts)
    return float(2 * np.sqrt(np.median(areas) / np.pi)) if areas.size else None


def proposed_scale(found: float | None, learned: float | None) -> float:
    """Returns the factor that gives objects the size of those of the training images.

    Args:
      found: Diameter of the objects in an image, in pixels; None if there are none.
      learned: Diameter of those of the training images; None if it is unknown.

    Returns:
      At least 1/8 and at most 8; 1 where a diameter is not known or the ratio is so
      small that a network tolerates it.

    Example:
      >>> proposed_scale(10.0, 30.0), proposed_scale(30.0, 31.0)
      (3.0, 1.0)
    """
    if not found or not learned:
        return 1.0
    ratio = learned / found
    if 1 / TOLERATED <= ratio <= TOLERATED:
        return 1.0
    return float(np.clip(ratio, 1 / _LARGEST, _LARGEST))
