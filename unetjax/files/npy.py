"""Reading of NumPy arrays in .npy files."""

import pathlib

import numpy as np

from unetjax.files import limits
from unetjax.files.pages import Pages

_MOST_CHANNELS = 4  # a longer last axis is the width of an image


def read(path: pathlib.Path, *, in_memory: bool = True) -> Pages:
    """Returns the images of an array [H, W], [N, H, W], or [H, W, C] with C below 5.

    Args:
      path: The file.
      in_memory: Whether to read the pixels now, and not when they are used.

    Raises:
      ValueError: If the file is damaged, too large or holds Python objects, or the
        array has another shape or no real numbers.
    """
    try:
        stored = np.lib.format.open_memmap(path, mode="r")
    except MemoryError:
        raise
    except Exception as error:  # of the tokenizer of Python, among others
        objects = "it holds Python objects, as the _seg.npy of Cellpose does"
        cause = objects if "object" in str(error) else str(error)
        raise ValueError(
            f"{path} cannot be read as an array ({cause}); save the image or the masks "
            "as TIFF or PNG."
        ) from error
    limits.check_size(path, stored.nbytes, in_memory=in_memory)
    if stored.dtype.kind not in "buif":
        raise ValueError(
            f"{path} has values of type {stored.dtype}; accepted are integers and real "
            "numbers."
        )
    if stored.ndim not in (2, 3) or not stored.size:
        shape = "x".join(map(str, stored.shape))
        raise ValueError(
            f"{path} has an array of shape {shape}; accepted are [H, W], [H, W, C] of "
            f"up to {_MOST_CHANNELS} channels, and [N, H, W]."
        )
    pixels = stored.view(np.uint8) if stored.dtype == np.bool_ else stored
    if in_memory:
        pixels = np.array(pixels, pixels.dtype.newbyteorder("="))
    if pixels.ndim == 2:
        return Pages(pixels[None, ..., None])
    if pixels.shape[-1] <= _MOST_CHANNELS:
        return Pages(pixels[None])
    return Pages(pixels[..., None])
