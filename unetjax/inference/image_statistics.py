"""What training images look like, and whether another image looks so."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from unetjax.network import input_scaling
from unetjax.network.input_scaling import InputScaling
from unetjax.settings import check_fields

# The dark and the bright end of an image; single pixels do not count.
_PERCENTILES = (1, 50, 99.8)
_SHIFT = 0.5  # of the span of grey values, by which the median may be shifted
_STRETCH = 4.0  # by which the span may differ
_MOST_VALUES = 2**16  # of an image that are looked at


@dataclass(frozen=True)
class ImageStatistics:
    """The network input of the training images, and the size of their pixels.

    Of each image and channel, the median counts, the span, which is the 99.8th less the
    1st percentile, and the balance: where between these the median lies, from 0 to 1.
    All have one number for each channel, and none where nothing is known.

    Attributes:
      least_median: Least median of an image.
      largest_median: Largest median of an image.
      least_span: Least span of an image.
      largest_span: Largest span of an image.
      least_balance: Least balance of an image: near 0 in fluorescence.
      largest_balance: Largest balance of an image.
      pixel_size: Side of a pixel, in micrometres; None if unknown.
    """

    least_median: tuple[float, ...] = ()
    largest_median: tuple[float, ...] = ()
    least_span: tuple[float, ...] = ()
    largest_span: tuple[float, ...] = ()
    least_balance: tuple[float, ...] = ()
    largest_balance: tuple[float, ...] = ()
    pixel_size: float | None = None

    def __post_init__(self) -> None:
        """Validates all fields."""
        check_fields(self)


def measure(
    images: Iterable[Shaped[np.ndarray, "_ _ C"]],
    scaling: InputScaling,
    *,
    pixel_size: float | None = None,
) -> ImageStatistics:
    """Returns the statistics of images with equal numbers of channels.

    Args:
      images: Grey values as stored.
      scaling: From these to network input.
      pixel_size: Side of a pixel, in micrometres.
    """
    found = np.array([_describe(image, scaling) for image in images])  # [N, 3, C]
    if not found.size:
        return ImageStatistics(pixel_size=pixel_size)
    least, largest = (
        [tuple(map(float, row)) for row in end] for end in (found.min(0), found.max(0))
    )
    return ImageStatistics(
        least_median=least[0],
        largest_median=largest[0],
        least_span=least[1],
        largest_span=largest[1],
        least_balance=least[2],
        largest_balance=largest[2],
        pixel_size=pixel_size,
    )


def difference(
    image: Shaped[np.ndarray, "H W C"], scaling: InputScaling, known: ImageStatistics
) -> str:
    """Returns how far the grey values lie from those of training; "" if they do not.

    Args:
      image: Grey values as stored.
      scaling: From these to network input.
      known: The statistics of the training images.

    Example:
      >>> dark = np.arange(101).reshape(101, 1, 1) ** 3
      >>> known = measure([dark], InputScaling("minmax"))
      >>> difference(dark, InputScaling("minmax"), known)
      ''
      >>> difference(10**6 - dark, InputScaling("minmax"), known)
      'median at 0.87 of the range, 0.13 to 0.13 in training'
    """
    if len(known.least_median) != image.shape[-1]:
        return ""
    channels = zip(
        *_describe(image, scaling),
        *(known.least_median, known.largest_median, known.least_span),
        *(known.largest_span, known.least_balance, known.largest_balance),
        strict=True,
    )
    for median, span, balance, *learned in channels:
        low, high, narrow, wide, left, right = learned
        if not left - _SHIFT <= balance <= right + _SHIFT:
            text = f"median at {balance:.2g} of the range, {left:.2g} to {right:.2g}"
        elif not low - _SHIFT * wide <= median <= high + _SHIFT * wide:
            text = f"median {median:.2g} after scaling, {low:.2g} to {high:.2g}"
        elif not narrow / _STRETCH <= span <= _STRETCH * wide:
            text = f"range {span:.2g} after scaling, {narrow:.2g} to {wide:.2g}"
        else:
            continue
        return f"{text} in training"
    return ""


def _describe(
    image: Shaped[np.ndarray, "H W C"], scaling: InputScaling
) -> Float[np.ndarray, "3 C"]:
    """Returns median, span and balance of the network input of each channel."""
    values = input_scaling.scale(image, scaling).reshape(-1, image.shape[-1])
    # Every nth pixel, where n shares no factor with most widths.
    step = max(len(values) // _MOST_VALUES, 1)
    low, median, high = np.percentile(values[:: step | 1], _PERCENTILES, axis=0)
    span = high - low
    return np.stack([median, span, (median - low) / np.where(span > 0, span, 1)])
