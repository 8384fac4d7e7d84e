"""Input scaling: from grey values as stored to network input of about unit range."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt32

from unetjax.settings import check_fields, check_finite

Scaling = Literal["unit", "minmax", "percentile", "zscore", "none"]
# None is no bound.
Clip = tuple[float | int | None, float | int | None]
PERCENTILES = (1, 99.8)  # of the grey values, by `percentile`


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


class GreyRange(NamedTuple):
    """The grey values of every channel that become 0 and 1."""

    low: Float[np.ndarray, " C"]
    high: Float[np.ndarray, " C"]


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
    values = _clipped(image, scaling)
    if scaling.method == "none":
        return values
    if scaling.method == "unit":
        return _unit(image.dtype, values)
    return _within(values, _range(values, scaling.method))


def measure(
    parts: Callable[[], Iterable[Shaped[np.ndarray, "h w C"]]], scaling: InputScaling
) -> GreyRange | None:
    """Returns the grey values that become 0 and 1, of an image that is read in parts.

    They are those of the whole image, up to the rounding of float32: percentiles are
    found exactly, by counting the values by their upper and then their lower 16 bits.

    Args:
      parts: Yields parts that together hold every pixel once; called twice.
      scaling: Method and bounds.

    Returns:
      None where the method does not depend on the image.

    Raises:
      ValueError: If a value is not finite.
    """
    if scaling.method in ("none", "unit"):
        return None

    def values() -> Iterator[Float[np.ndarray, "n C"]]:
        for part in parts():
            yield _clipped(part, scaling).reshape(-1, part.shape[-1])

    count, total = 0, np.zeros(1)
    least, largest = np.full((2, 1), [[np.inf], [-np.inf]], np.float32)
    upper = np.zeros((1, 2**16), np.int64)
    for part in values():
        count += len(part)
        total = total + part.sum(0, dtype=np.float64)
        least = np.minimum(least, part.min(0))
        largest = np.maximum(largest, part.max(0))
        upper = upper + _histogram(_ordered(part) >> 16)
    if not count:
        raise ValueError("image must have at least one pixel, got none.")
    if scaling.method == "minmax":
        return GreyRange(least, largest)
    if scaling.method == "zscore":
        mean = total / count
        squares = np.zeros(1)
        for part in values():
            squares = squares + ((part - mean) ** 2).sum(0)
        return _as_range(mean, mean + np.sqrt(squares / count))
    low, high = _percentiles(values, upper, count)
    return _as_range(low, np.where(high > low, high, largest))


def scale_part(
    part: Shaped[np.ndarray, "h w C"],
    scaling: InputScaling,
    measured: GreyRange | None,
) -> Float[np.ndarray, "h w C"]:
    """Returns the network input for a part of an image, see `measure` and `scale`."""
    return (
        scale(part, scaling)
        if measured is None
        else _within(_clipped(part, scaling), measured)
    )


def _clipped(
    image: Shaped[np.ndarray, "H W C"], scaling: InputScaling
) -> Float[np.ndarray, "H W C"]:
    values = image.astype(np.float32)
    if scaling.clip != (None, None):
        values = np.clip(values, *scaling.clip)
    check_finite("image", values)
    return values


def _within(
    values: Float[np.ndarray, "H W C"], measured: GreyRange
) -> Float[np.ndarray, "H W C"]:
    span = measured.high - measured.low
    return (values - measured.low) / np.where(span > 0, span, 1).astype(np.float32)


def _ordered(values: Float[np.ndarray, "n C"]) -> UInt32[np.ndarray, "n C"]:
    """Returns integers in the order of float32 values: the sign decides how to read."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _values(ordered: UInt32[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Returns the float32 values of integers from `_ordered`."""
    bits = np.where(ordered >> 31, ordered & np.uint32(2**31 - 1), ~ordered)
    return bits.astype(np.uint32).view(np.float32)


def _histogram(indices: UInt32[np.ndarray, "n C"]) -> Int[np.ndarray, "C bins"]:
    return np.stack([np.bincount(column, minlength=2**16) for column in indices.T])


def _percentiles(
    values: Callable[[], Iterable[Float[np.ndarray, "n C"]]],
    upper: Int[np.ndarray, "C bins"],
    count: int,
) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " C"]]:
    """Returns the percentiles of `PERCENTILES` of every channel."""
    positions = np.array(PERCENTILES) / 100 * (count - 1)
    ranks = np.floor(positions).astype(int)
    # The values between which a percentile lies are those of two ranks.
    wanted = np.stack([ranks, np.minimum(ranks + 1, count - 1)], axis=1).ravel()
    below = np.cumsum(upper, axis=1)
    bins = np.stack([np.searchsorted(each, wanted, "right") for each in below])
    lower = np.zeros((*bins.shape, 2**16), np.int64)
    for part in values():
        keys = _ordered(part)
        for channel, column in enumerate(keys.T):
            for i, each in enumerate(bins[channel]):
                inside = column[column >> 16 == each] & 0xFFFF
                lower[channel, i] += np.bincount(inside, minlength=2**16)
    found = np.empty(bins.shape)
    for channel, i in np.ndindex(*bins.shape):
        each = bins[channel, i]
        rank = wanted[i] - (below[channel, each] - upper[channel, each])
        last = np.searchsorted(np.cumsum(lower[channel, i]), rank, "right")
        found[channel, i] = _values(np.array(each << 16 | last, np.uint32))
    first, second = found[:, 0::2], found[:, 1::2]
    low, high = (first + (second - first) * (positions - ranks)).T
    return low, high


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


def _range(values: Float[np.ndarray, "H W C"], method: Scaling) -> GreyRange:
    """The grey values of every channel that become 0 and 1."""
    if method == "zscore":
        mean = values.mean(axis=(0, 1), dtype=np.float64)
        deviation = values.std(axis=(0, 1), dtype=np.float64)
        low, high = mean, mean + deviation
    elif method == "percentile":
        low, high = np.percentile(values, PERCENTILES, axis=(0, 1))
        # Nearly empty images have equal percentiles: fall back on the extremes.
        high = np.where(high > low, high, values.max(axis=(0, 1)))
    else:
        low, high = values.min(axis=(0, 1)), values.max(axis=(0, 1))
    return _as_range(low, high)


def _as_range(low: Float[np.ndarray, " C"], high: Float[np.ndarray, " C"]) -> GreyRange:
    return GreyRange(np.asarray(low, np.float32), np.asarray(high, np.float32))
