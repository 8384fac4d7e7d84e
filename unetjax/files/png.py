"""Reading of PNG, JPEG, BMP and GIF files by Pillow, and writing of PNG."""

import contextlib
import math
import pathlib
import warnings
from collections.abc import Iterator

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from unetjax.files import headers, limits
from unetjax.files.pages import Pages, turn_upright

_FORMATS = ("PNG", "JPEG", "BMP", "GIF")

_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I")
_ORIENTATION = 0x0112  # tag of Exif


def read(path: pathlib.Path) -> Pages:
    """Returns the one image of a file with its stored values, upright.

    Raises:
      ValueError: If the file is damaged, too large or animated, or of a kind that
        Pillow would convert (16-bit colour, CMYK).
    """
    _check_structure(path)
    depth = _verified_depth(path)
    with contextlib.ExitStack() as stack:
        with _as_value_error(path):
            image = stack.enter_context(Image.open(path, formats=_FORMATS))
        num_samples = math.prod(image.size) * len(image.getbands())
        limits.check_size(path, num_samples * max(depth // 8, 1))
        with _as_value_error(path):
            # Exif data may follow the pixels of a PNG, so this decodes them.
            problem, pixels = _problem(image), np.asarray(image)
            orientation = image.getexif().get(_ORIENTATION, 1)
    if problem:
        raise ValueError(f"{path} {problem}")
    mode = image.mode
    if mode == "L" and depth in (2, 4):
        pixels = pixels // (255 // (2**depth - 1))  # Pillow scales them to 0..255
    elif mode in ("1", "I"):
        pixels = pixels.astype(np.uint8 if mode == "1" else np.uint16)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    colours = np.array(image.getpalette() or (), np.uint8).reshape(-1, 3)
    return Pages(
        turn_upright(pixels[None], orientation, path),
        has_alpha=mode.endswith("A"),
        palette=colours if mode == "P" else None,
        is_lossy=image.format in ("JPEG", "MPO"),
    )


def write(path: pathlib.Path, image: Shaped[np.ndarray, "H W C"]) -> None:
    """Writes uint8 grey or RGB, or uint16 grey.

    Raises:
      ValueError: If PNG, as written here, cannot hold the image without loss.
    """
    kind = (image.dtype.name, image.shape[-1])
    if kind not in (("uint8", 1), ("uint8", 3), ("uint16", 1)):
        raise ValueError(
            f"PNG cannot hold {kind[1]} channels of {kind[0]} without loss; accepted "
            "are 1 or 3 of uint8 and 1 of uint16; write .tif instead."
        )
    Image.fromarray(image[..., 0] if kind[1] == 1 else image).save(path, format="PNG")


def _check_structure(path: pathlib.Path) -> None:
    """Refuses files in which Pillow would look for an image for hours."""
    with path.open("rb") as file:
        start = file.read(4)
        if start[:2] == b"\xff\xd8":
            file.seek(0)
            headers.jpeg_size(file, path)
    if start == b"\x89PNG":
        headers.check_png(path)
    elif start == b"GIF8":
        headers.check_gif(path)


def _verified_depth(path: pathlib.Path) -> int:
    """Returns the bits of a sample, after checking every checksum of a PNG."""
    with _as_value_error(path), Image.open(path, formats=_FORMATS) as image:
        kind = image.format
        if kind == "PNG":
            image.verify()  # loading the pixels would not check their chunks
    if kind != "PNG":
        return 8
    with path.open("rb") as file:
        depth, colour = file.read(26)[24:]
    if depth == 16 and colour != 0:
        raise ValueError(
            f"{path} is a PNG of 16-bit colours, of which Pillow reads 8 bits only; "
            "save it as TIFF."
        )
    return depth


@contextlib.contextmanager
def _as_value_error(path: pathlib.Path) -> Iterator[None]:
    """Turns what Pillow raises for a damaged or huge file into one sentence."""
    try:
        with warnings.catch_warnings():
            # Sizes are bounded by files.limits.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except Image.DecompressionBombError:
        raise ValueError(
            f"{path} has more pixels than are read from PNG and JPEG; save it as TIFF."
        ) from None
    except (OSError, SyntaxError, IndexError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged or not an image ({error}); download or export it again."
        ) from error


def _problem(image: Image.Image) -> str:
    """Returns why an image is not accepted; empty if it is."""
    if image.mode not in _MODES:
        return (
            f"stores colours as {image.mode}; accepted are grey values, RGB and "
            "palettes: convert it to one of these."
        )
    # MPO: a JPEG with previews behind it.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        return "is an animation; save its images as files or as one TIFF stack."
    return ""
