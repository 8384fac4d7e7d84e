"""PNG and JPEG through Pillow."""

import math
import pathlib
import warnings
import zlib

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from unetjax.files import limits
from unetjax.files.pages import Pages

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I")
_ORIENTATION = 0x0112  # tag of Exif


def read(path: pathlib.Path) -> Pages:
    """Returns the one image of a PNG or JPEG with its stored values.

    Raises:
      ValueError: If the file is damaged, too large, animated, turned by its Exif data,
        or of a kind that Pillow would convert (16-bit colour, CMYK).
    """
    depth = _png_depth(path) if path.suffix.lower() == ".png" else 8
    try:
        with warnings.catch_warnings():
            # Sizes are bounded by files.limits.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                num_samples = math.prod(image.size) * len(image.getbands())
                limits.check_size(path, num_samples * max(depth // 8, 1))
                _check_kind(image, path)
                pixels = np.asarray(image)
                mode = image.mode
    except Image.DecompressionBombError:
        raise ValueError(
            f"{path} has more pixels than are read from PNG and JPEG; save it as TIFF."
        ) from None
    except (OSError, SyntaxError) as error:  # Pillow's words for a damaged file
        raise ValueError(
            f"{path} cannot be read as an image ({error}); get the file anew."
        ) from error
    if mode == "L" and depth in (2, 4):
        pixels = pixels // (255 // (2**depth - 1))  # Pillow stretches them to 0..255
    elif mode in ("1", "I"):
        pixels = pixels.astype(np.uint8 if mode == "1" else np.uint16)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return Pages(pixels[None], has_alpha=mode.endswith("A"), is_indexed=mode == "P")


def write(path: pathlib.Path, image: Shaped[np.ndarray, "H W C"]) -> None:
    """Writes uint8 grey or RGB, or uint16 grey.

    Raises:
      ValueError: If PNG, as written here, cannot hold the image without a loss.
    """
    kind = (image.dtype.name, image.shape[-1])
    if kind not in (("uint8", 1), ("uint8", 3), ("uint16", 1)):
        raise ValueError(
            f"PNG cannot hold {kind[1]} channels of {kind[0]} without a loss; accepted "
            "are 1 or 3 of uint8 and 1 of uint16; write .tif instead."
        )
    Image.fromarray(image[..., 0] if kind[1] == 1 else image).save(path, format="PNG")


def _png_depth(path: pathlib.Path) -> int:
    """Returns the bits of a sample, after a look at every checksum.

    Pillow looks at the checksums of some chunks only, so that a flipped bit can pass.
    """
    data = path.read_bytes()
    if not data.startswith(_SIGNATURE):
        raise ValueError(f"{path} is not a PNG; name it by what it is.")
    position, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        length = int.from_bytes(data[position : position + 4])
        chunk = data[position + 4 : position + 12 + length]
        kind, checksum = chunk[:4], int.from_bytes(chunk[-4:])
        if len(chunk) < 8 + length or zlib.crc32(chunk[:-4]) != checksum:
            raise ValueError(
                f"{path} is damaged or cut short at byte {position}; get the file anew."
            )
        position += 12 + length
    depth, colour = data[24], data[25]
    if depth == 16 and colour != 0:
        raise ValueError(
            f"{path} is a PNG of 16-bit colours, of which only 8 bits would be read; "
            "save it as TIFF."
        )
    return depth


def _check_kind(image: Image.Image, path: pathlib.Path) -> None:
    if image.mode not in _MODES:
        raise ValueError(
            f"{path} stores colours as {image.mode}; accepted are grey values, RGB and "
            "palettes."
        )
    if getattr(image, "n_frames", 1) > 1:
        raise ValueError(
            f"{path} is an animation; save its images as files or as one TIFF stack."
        )
    if image.getexif().get(_ORIENTATION, 1) != 1:
        raise ValueError(
            f"{path} is marked as turned or mirrored (Exif orientation), which a mask "
            "would not follow; save it upright."
        )
