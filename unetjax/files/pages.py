"""What the pixels of a file mean: an image, or the labels of one."""

import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Shaped

from unetjax.settings import check_finite


class Pages(NamedTuple):
    """Everything a file holds, and what its metadata say about the channels.

    Attributes:
      pixels: The stored values, booleans as 0 and 1.
      has_alpha: Whether the last channel is opacity.
      is_indexed: Whether the values are places in a palette of colours.
    """

    pixels: Shaped[np.ndarray, "N H W C"]
    has_alpha: bool = False
    is_indexed: bool = False


def as_image(pages: Pages, path: pathlib.Path) -> Shaped[np.ndarray, "N H W c"]:
    """Returns the pixels as an image: opacity that says nothing is dropped.

    Raises:
      ValueError: If the values are places in a palette, opacity varies, or pixels are
        NaN or infinite.
    """
    if pages.is_indexed:
        raise ValueError(
            f"{path} stores places in a palette, not grey values or colours; convert "
            "it to grey values or RGB."
        )
    pixels = _without_alpha(pages, path)
    check_finite(str(path), pixels)
    return pixels


def as_labels(pages: Pages, path: pathlib.Path) -> Int32[np.ndarray, "N H W"]:
    """Returns the pixels as one integer each; grey values stored as RGB count as one.

    Raises:
      ValueError: If the file is in colour, has a value that is not an integer, or one
        that 32 bits with a sign cannot hold.
    """
    pixels = _without_alpha(pages, path)
    if pixels.shape[-1] != 1 and (pixels != pixels[..., :1]).any():
        raise ValueError(
            f"{path} has {pixels.shape[-1]} different channels, a mask has one number "
            "for each pixel; save it as grey values or with a palette."
        )
    values = pixels[..., 0]
    limits = np.iinfo(np.int32)
    if np.issubdtype(values.dtype, np.floating) and (values != np.rint(values)).any():
        raise ValueError(
            f"{path} has values like {_a_fraction(values)}, a mask has integers; save "
            "it as an integer type."
        )
    low, high = values.min().item(), values.max().item()
    if low < limits.min or high > limits.max:
        raise ValueError(
            f"{path} has labels from {low} to {high}, the largest accepted is "
            f"{limits.max}; number the cells from 1."
        )
    return values.astype(np.int32)


def _without_alpha(pages: Pages, path: pathlib.Path) -> Shaped[np.ndarray, "N H W c"]:
    if not pages.has_alpha:
        return pages.pixels
    alpha = pages.pixels[..., -1]
    opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1
    if (alpha != opaque).any():
        raise ValueError(
            f"{path} is partly transparent, which has no meaning here; save it without "
            "an alpha channel."
        )
    return pages.pixels[..., :-1]


def _a_fraction(values: Shaped[np.ndarray, "N H W"]) -> float:
    return float(values[values != np.rint(values)][0])
