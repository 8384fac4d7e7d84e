"""Interpretation of the pixels of a file: as an image, or as labels."""

import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Shaped

from unetjax.settings import check_finite


class Pages(NamedTuple):
    """All pixels of a file, and what its metadata declare about the channels.

    Attributes:
      pixels: The stored values, booleans as 0 and 1.
      has_alpha: Whether the last channel is opacity.
      is_indexed: Whether the values are palette indices.
    """

    pixels: Shaped[np.ndarray, "N H W C"]
    has_alpha: bool = False
    is_indexed: bool = False


def as_image(pages: Pages, path: pathlib.Path) -> Shaped[np.ndarray, "N H W c"]:
    """Returns the pixels as an image, without an alpha channel that is opaque.

    Raises:
      ValueError: If the values are palette indices, the alpha channel is not opaque, or
        pixels are NaN or infinite.
    """
    if pages.is_indexed:
        raise ValueError(
            f"{path} stores palette indices, not grey values or colours; convert it to "
            "grey values or RGB."
        )
    pixels = _without_alpha(pages, path)
    check_finite(str(path), pixels)
    return pixels


def as_labels(pages: Pages, path: pathlib.Path) -> Int32[np.ndarray, "N H W"]:
    """Returns an integer for each pixel; RGB with equal channels counts as grey.

    Raises:
      ValueError: If the file is in colour, or has a value that is not an integer or
        exceeds 32 bits with sign.
    """
    pixels = _without_alpha(pages, path)
    if pixels.shape[-1] != 1 and (pixels != pixels[..., :1]).any():
        raise ValueError(
            f"{path} has {pixels.shape[-1]} different channels, expected one integer "
            "for each pixel; save it as grey values or with a palette."
        )
    values = pixels[..., 0]
    limits = np.iinfo(np.int32)
    if np.issubdtype(values.dtype, np.floating) and (values != np.rint(values)).any():
        raise ValueError(
            f"{path} has values like {_a_fraction(values)}, expected integers; save it "
            "with an integer type."
        )
    low, high = values.min().item(), values.max().item()
    if low < limits.min or high > limits.max:
        raise ValueError(
            f"{path} has labels from {low} to {high}, the largest accepted is "
            f"{limits.max}; number instances from 1."
        )
    return values.astype(np.int32)


def _without_alpha(pages: Pages, path: pathlib.Path) -> Shaped[np.ndarray, "N H W c"]:
    if not pages.has_alpha:
        return pages.pixels
    alpha = pages.pixels[..., -1]
    opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1
    if (alpha != opaque).any():
        raise ValueError(
            f"{path} is partly transparent; save it without an alpha channel."
        )
    return pages.pixels[..., :-1]


def _a_fraction(values: Shaped[np.ndarray, "N H W"]) -> float:
    return float(values[values != np.rint(values)][0])
