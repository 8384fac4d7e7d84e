"""From stored grey values to network input."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from unetjax.settings import check_choice, check_finite

Scaling = Literal["unit", "minmax", "percentile", "zscore", "none"]
# None is no bound; whole numbers are numbers.
Clip = tuple[float | int | None, float | int | None]


def scale(
    image: Shaped[np.ndarray, "H W C"],
    scaling: Scaling,
    clip: Clip = (None, None),
) -> Float[np.ndarray, "H W C"]:
    """Returns network input of about unit range, float32, for one whole image.

    Args:
      image: Stored grey values, of any integer or floating type.
      scaling: How, for each channel on its own:
        `unit`: integers divided by the largest value of their type; floating values
        must lie in [0, 1] already. Independent of what the image shows.
        `minmax`: least value to 0, largest to 1; a constant image to 0
        (jakeret/tf_unet).
        `percentile`: the 1st percentile to 0, the 99.8th to 1, nothing clipped; for
        images whose exposure differs (CSBDeep).
        `zscore`: zero mean, unit variance.
        `none`: the values as they are.
      clip: Least and largest grey value, as stored; what lies beyond becomes the bound
        before anything is measured.

    Raises:
      ValueError: If the scaling is unknown, the bounds are no interval, a value is not
        finite, or `unit` meets floating values outside of [0, 1].

    Example:
      >>> float(scale(np.full((1, 1, 1), 255, np.uint8), "unit")[0, 0, 0])
      1.0
    """
    check_choice("scaling", scaling, Scaling)
    check_clip(clip)
    values = image.astype(np.float32)
    if clip != (None, None):
        values = np.clip(values, *clip)
    check_finite("image", values)
    if scaling == "none":
        return values
    if scaling == "unit":
        return _unit(image.dtype, values)
    low, high = _range(values, scaling)
    span = high - low
    return (values - low) / np.where(span > 0, span, 1).astype(np.float32)


def check_clip(clip: Clip) -> None:
    """Refuses bounds that are no interval.

    Raises:
      ValueError: FileNaming the bounds.
    """
    numbers = [bound for bound in clip if bound is not None]
    are_numbers = all(isinstance(bound, float | int) for bound in numbers)
    if len(clip) != 2 or not are_numbers or sorted(set(numbers)) != numbers:
        raise ValueError(
            "clip must be a least grey value and a larger one, each of which may be "
            f"None, got {clip}."
        )


def _unit(
    dtype: np.dtype, values: Float[np.ndarray, "H W C"]
) -> Float[np.ndarray, "H W C"]:
    if dtype == np.bool_:
        return values
    if np.issubdtype(dtype, np.integer):
        return values / np.float32(np.iinfo(dtype).max)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise ValueError(
            "scaling 'unit' accepts floating values in [0, 1] only, got "
            f"[{low:.6g}, {high:.6g}]; use scaling 'minmax' or 'percentile'."
        )
    return values


def _range(
    values: Float[np.ndarray, "H W C"], scaling: Scaling
) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " C"]]:
    """The grey values of every channel that become 0 and 1."""
    if scaling == "zscore":
        mean = values.mean(axis=(0, 1), dtype=np.float64)
        deviation = values.std(axis=(0, 1), dtype=np.float64)
        low, high = mean, mean + deviation
    elif scaling == "percentile":
        low, high = np.percentile(values, (1, 99.8), axis=(0, 1))
        # Nearly empty images have equal percentiles: fall back on the extremes.
        high = np.where(high > low, high, values.max(axis=(0, 1)))
    else:
        low, high = values.min(axis=(0, 1)), values.max(axis=(0, 1))
    return np.asarray(low, np.float32), np.asarray(high, np.float32)
