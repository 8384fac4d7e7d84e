"""Input scaling: from grey values as stored to network input of about unit range."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from unetjax.settings import check_fields, check_finite

Scaling = Literal["unit", "minmax", "percentile", "zscore", "none"]
# None is no bound.
Clip = tuple[float | int | None, float | int | None]


@dataclass(frozen=True)
class InputScaling:
    """How stored grey values become network input, for each channel on its own.

    Attributes:
      method: `unit`: integers divided by the largest value of their type; floating
        values must lie in [0, 1] already. Independent of what the image shows.
        `minmax`: least value to 0, largest to 1; a constant image to 0
        (jakeret/tf_unet).
        `percentile`: the 1st percentile to 0, the 99.8th to 1, without clipping; for
        images whose exposure differs (CSBDeep).
        `zscore`: zero mean, unit variance.
        `none`: the values as they are.
      clip: Least and largest grey value, as stored; values beyond are set to the bound
        before anything is measured. None is no bound.

    Raises:
      ValueError: On construction, if the method is unknown or the bounds are no
        interval.
    """

    method: Scaling = "unit"
    clip: Clip = (None, None)

    def __post_init__(self) -> None:
        """Validates all fields."""
        check_fields(self)
        numbers = [bound for bound in self.clip if bound is not None]
        if len(self.clip) != 2 or sorted(set(numbers)) != numbers:
            raise ValueError(
                "clip must be a least grey value and a larger one, each of which may "
                f"be None, got {self.clip}."
            )


def scale(
    image: Shaped[np.ndarray, "H W C"], scaling: InputScaling
) -> Float[np.ndarray, "H W C"]:
    """Returns the network input for one whole image, float32.

    Args:
      image: Stored grey values, of any integer or floating type.
      scaling: Method and bounds.

    Raises:
      ValueError: If a value is not finite, or the method `unit` meets floating values
        outside [0, 1].

    Example:
      >>> white = np.full((1, 1, 1), 255, np.uint8)
      >>> float(scale(white, InputScaling("unit"))[0, 0, 0])
      1.0
    """
    values = image.astype(np.float32)
    if scaling.clip != (None, None):
        values = np.clip(values, *scaling.clip)
    check_finite("image", values)
    if scaling.method == "none":
        return values
    if scaling.method == "unit":
        return _unit(image.dtype, values)
    low, high = _range(values, scaling.method)
    span = high - low
    return (values - low) / np.where(span > 0, span, 1).astype(np.float32)


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
            "input scaling 'unit' accepts floating values in [0, 1] only, got "
            f"[{low:.6g}, {high:.6g}]; use 'minmax' or 'percentile'."
        )
    return values


def _range(
    values: Float[np.ndarray, "H W C"], method: Scaling
) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " C"]]:
    """The grey values of every channel that become 0 and 1."""
    if method == "zscore":
        mean = values.mean(axis=(0, 1), dtype=np.float64)
        deviation = values.std(axis=(0, 1), dtype=np.float64)
        low, high = mean, mean + deviation
    elif method == "percentile":
        low, high = np.percentile(values, (1, 99.8), axis=(0, 1))
        # Nearly empty images have equal percentiles: fall back on the extremes.
        high = np.where(high > low, high, values.max(axis=(0, 1)))
    else:
        low, high = values.min(axis=(0, 1)), values.max(axis=(0, 1))
    return np.asarray(low, np.float32), np.asarray(high, np.float32)
