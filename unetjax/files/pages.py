"""Interpretation of the pixels of a file: as an image, or as labels."""

import logging
import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Shaped

from unetjax.settings import check_finite

_log = logging.getLogger(__name__)


_MICROMETRES = {  # in units as files name them; an inch is that of a print
    **dict.fromkeys(("um", "micron", "microns", "micrometer", "micrometre"), 1.0),
    **{"nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6},
}


class Pages(NamedTuple):
    """All pixels of a file, and what its metadata declare about the channels.

    Attributes:
      pixels: The stored values, booleans as 0 and 1, upright.
      has_alpha: Whether the last channel is opacity.
      palette: The colours of which the only channel holds the indices, or None.
      is_lossy: Whether the compression changes values, as that of JPEG does.
    """

    pixels: Shaped[np.ndarray, "N H W C"]
    has_alpha: bool = False
    palette: Shaped[np.ndarray, "n 3"] | None = None
    is_lossy: bool = False


class Metadata(NamedTuple):
    """What a file says about its images, besides their values.

    Attributes:
      axes: The axes of a sequence of images, such as "TZ"; "" for one image.
      shape: Their lengths.
      pixel_size: Height and width of a pixel; None if unknown.
      unit: Unit of these, such as "um", "inch" or "cm".
      channels: Names of the channels; empty if unknown.
    """

    axes: str = ""
    shape: tuple[int, ...] = ()
    pixel_size: tuple[float, float] | None = None
    unit: str = ""
    channels: tuple[str, ...] = ()

    @property
    def is_stack(self) -> bool:
        """Whether there are several images."""
        return math.prod(self.shape) > 1

    @property
    def micrometres(self) -> tuple[float, float] | None:
        """Height and width of a pixel; None if unknown, or if in dots per inch.

        Example:
          >>> Metadata(pixel_size=(500.0, 500.0), unit="nm").micrometres
          (0.5, 0.5)
        """
        factor = _MICROMETRES.get(self.unit)
        if self.pixel_size is None or factor is None:
            return None
        height, width = self.pixel_size
        return height * factor, width * factor


def find_channels(
    chosen: Sequence[str], count: int, names: Sequence[str], where: str
) -> list[int]:
    """Returns the numbers of channels, counted from 0.

    Args:
      chosen: Each a number, counted from 0, or a name.
      count: How many channels there are.
      names: Their names, or none.
      where: The file, for messages.

    Raises:
      ValueError: If a channel does not exist.

    Example:
      >>> find_channels(["2", "DAPI"], 3, ["GFP", "DAPI", "RFP"], "a.tif")
      [2, 1]
    """
    names = names if len(names) == count else []
    known = {str(i): i for i in reversed(range(count))}
    known = {name: i for i, name in enumerate(names) if name} | known
    for name in chosen:
        if name not in known:
            listed = ", ".join(
                f"{i} ({names[i]})" if names and names[i] else str(i)
                for i in range(count)
            )
            raise ValueError(
                f"{where} has no channel {name!r}; its channels are {listed}, counted "
                "from 0."
            )
    return [known[name] for name in chosen]


def turn_upright(
    pixels: Shaped[np.ndarray, "N H W C"], orientation: int, path: pathlib.Path
) -> Shaped[np.ndarray, "N h w C"]:
    """Returns the pixels as the orientation tag of TIFF and Exif says to show them.

    Args:
      pixels: The pixels as stored.
      orientation: Value of the tag: 1 is upright, as is any value above 8.
      path: The file, for a warning that it is shown otherwise elsewhere.
    """
    if not 2 <= orientation <= 8:
        return pixels
    _log.warning(
        "%s is turned upright, as its orientation tag says; programs that ignore the "
        "tag show it otherwise, and a mask drawn there does not fit.",
        path,
    )
    if orientation >= 5:  # the stored rows are columns
        pixels = pixels.swapaxes(1, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, :, ::-1]
    return pixels


def as_image(pages: Pages, path: pathlib.Path) -> Shaped[np.ndarray, "N H W c"]:
    """Returns the pixels as an image, without an alpha channel that is opaque.

    Palette indices become their colours, or grey values if all colours are grey.

    Raises:
      ValueError: If the alpha channel is not opaque, pixels are NaN or infinite, or a
        colour is not in the palette.
    """
    if pages.palette is not None:
        colours = _colours(pages.palette, pages.pixels, path)
        return colours[..., :1] if _is_grey(pages.palette) else colours
    pixels = _without_alpha(pages, path)
    check_finite(str(path), pixels)
    return pixels


def as_labels(pages: Pages, path: pathlib.Path) -> Int32[np.ndarray, "N H W"]:
    """Returns an integer for each pixel; RGB with equal channels counts as grey.

    Of a palette with colours the labels are the indices. A palette of grey values alone
    is how some programs store a grey image: there the labels are the grey values.

    Raises:
      ValueError: If the file is in colour or its compression changes values, or it has
        a value that is not an integer or exceeds 32 bits with sign.
    """
    if pages.is_lossy:
        raise ValueError(
            f"{path} is JPEG-compressed, which changes the labels at every edge; "
            "export the mask as .png or .tif without such compression from the program "
            "that made it."
        )
    pixels = _without_alpha(pages, path)
    if pages.palette is not None and _is_grey(pages.palette):
        pixels = _colours(pages.palette, pixels, path)[..., :1]
    if pixels.shape[-1] != 1 and (pixels != pixels[..., :1]).any():
        raise ValueError(
            f"{path} has {pixels.shape[-1]} different channels, expected one integer "
            "for each pixel; save it as grey values or with a palette, and several "
            "label images as pages (axes TYX)."
        )
    values = pixels[..., 0]
    limits = np.iinfo(np.int32)
    if np.issubdtype(values.dtype, np.floating) and (values != np.rint(values)).any():
        raise ValueError(
            f"{path} has values like {_a_fraction(values):.3g}, expected integers; "
            "save labels with an integer type, and apply a threshold to probabilities."
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
            f"{path} is partly transparent by its last channel; save it without an "
            "alpha channel or, if that channel is a measurement, as TIFF with axes CYX."
        )
    return pages.pixels[..., :-1]


def _is_grey(palette: Shaped[np.ndarray, "n 3"]) -> bool:
    return bool((palette == palette[:, :1]).all())


def _colours(
    palette: Shaped[np.ndarray, "n 3"],
    indices: Shaped[np.ndarray, "N H W 1"],
    path: pathlib.Path,
) -> Shaped[np.ndarray, "N H W 3"]:
    if indices.max(initial=0) >= len(palette):
        raise ValueError(
            f"{path} is damaged: it uses colour {indices.max()} of a palette of "
            f"{len(palette)}; export it again."
        )
    return palette[indices[..., 0]]


def _a_fraction(values: Shaped[np.ndarray, "N H W"]) -> float:
    return float(values[values != np.rint(values)][0])
