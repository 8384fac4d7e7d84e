"""Reading and writing of images and label images, without any silent conversion."""

import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int32, Integer, Shaped

from unetjax.files import folders, limits, microscopes, names, npy, pages, png, tiff
from unetjax.files.pages import Metadata

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".npy")
_TIFF = (".tif", ".tiff")
_STARTS = {  # of the content of files, whatever their names
    b"II*\0": tiff.read,
    b"MM\0*": tiff.read,
    b"II+\0": tiff.read,
    b"MM\0+": tiff.read,
    b"\x89PNG": png.read,
    b"\xff\xd8\xff": png.read,
    b"BM": png.read,
    b"GIF8": png.read,
    b"\x93NUMPY": npy.read,
}

_UNREAD = {  # endings of files that are not read, and what to do with these
    ".czi .nd2 .lif": (
        "a microscope's own format: export it as TIFF, or read it by "
        "pip install 'unetjax[microscopes]'"
    ),
    ".oib .oif .ims .vsi .svs .ndpi .mrxs": (
        "a microscope's own format: export it as TIFF"
    ),
    ".zarr .n5 .h5 .hdf5 .mat .npz": "an array container: export the image as TIFF",
    ".dcm .nii .nii.gz .mha .mhd .nrrd": "a medical format: export its slices as TIFF",
    ".webp .heic .heif .avif .jp2 .jxl .psd .dng .nef .cr2": (
        "a format of photographs that is not read: export it as TIFF"
    ),
    ".avi .mp4 .mov .mkv": "a video: export its frames as TIFF",
    ".roi .zip": (
        "regions of ImageJ, or an archive: draw the regions in ImageJ as a label image"
    ),
    ".geojson": "annotations of QuPath: export a label image from there",
    ".json .xml": "annotations of another program: export a label image from there",
}

Path = str | os.PathLike[str]


def is_image(path: Path) -> bool:
    """Returns whether a file name has the suffix of an image format that can be read.

    Those of microscopes can where bioio is installed.

    Example:
      >>> is_image("a.ome.TIF"), is_image("a.csv")
      (True, False)
    """
    suffix = pathlib.Path(path).suffix.lower()
    return suffix in SUFFIXES or (
        suffix in microscopes.SUFFIXES and microscopes.is_installed()
    )


def explain_unread(path: pathlib.Path) -> str:
    """Returns the name of what is not read as an image, and what it is, if known.

    Example:
      >>> explain_unread(pathlib.Path("in/a.avi")), explain_unread(pathlib.Path("b.x"))
      ('a.avi (a video: export its frames as TIFF)', 'b.x')
    """
    meaning = _meaning(path)
    if not meaning and path.is_symlink() and not path.exists():
        meaning = "a link to nothing"
    elif not meaning and path.exists() and not (path.is_file() or path.is_dir()):
        meaning = "a pipe or device"
    return f"{path.name} ({meaning})" if meaning else path.name


def read_metadata(path: Path) -> Metadata:
    """Returns what a file declares about its images, without reading the pixels.

    Of a file that cannot be read nothing is known; `read_stack` says why.
    """
    path = pathlib.Path(path)
    try:
        with path.open("rb") as file:
            reader = _reader(path, file.read(8))
        if reader is tiff.read:
            return tiff.read_metadata(path)
        if reader is microscopes.read:
            return microscopes.read_metadata(path)
        if reader is npy.read and (count := len(_read(path).pixels)) > 1:
            return Metadata("T", (count,))
    except (ValueError, OSError):
        pass
    return Metadata()


def read_image(path: Path) -> Shaped[np.ndarray, "H W C"]:
    """Returns the one image of a file with the type it is stored in.

    Grey values have one channel, booleans become uint8, and an alpha channel that is
    opaque everywhere is dropped.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If the file is unreadable, too large, holds several images, or has
        pixels that are NaN or infinite.
    """
    return _single(read_stack(path), path, "read_stack")


def read_stack(
    path: Path, *, channels: Sequence[str] = ()
) -> Shaped[np.ndarray, "N H W C"]:
    """Returns all images of a file, such as the pages of a TIFF; see `read_image`.

    Args:
      path: The file.
      channels: The channels to return, in this order: each a number, counted from 0, or
        a name that the metadata of the file have. All channels by default.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: As by `read_image`, and if the file lacks a channel.
    """
    path = pathlib.Path(path)
    stack = pages.as_image(_read(path), path)
    if not channels:
        return stack
    names = read_metadata(path).channels
    return stack[..., pages.find_channels(channels, stack.shape[-1], names, str(path))]


def read_size(path: Path) -> tuple[int, int, int] | None:
    """Returns how many images a TIFF or an array declares, their height and width.

    None for other formats, which are always read whole, and for what cannot be read.
    """
    path = pathlib.Path(path)
    try:
        reader = _check(path)
        if reader is tiff.read:
            return tiff.read_size(path)
        if reader is npy.read:
            count, height, width, _ = npy.read(path, in_memory=False).pixels.shape
            return count, height, width
    except (ValueError, OSError, KeyError):
        pass
    return None


def open_pages(path: Path, unpacked: pathlib.Path) -> pages.Pages:
    """Returns the images of a file, whose pixels stay on disk where that is possible.

    Parts of `pixels` are made images by `pages.as_image`.

    Args:
      path: The file.
      unpacked: New file for the pixels of a TIFF.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If the file is unreadable.
    """
    path = pathlib.Path(path)
    reader = _check(path)
    if reader is tiff.read:
        return tiff.read(path, unpacked=unpacked)
    if reader is npy.read:
        return npy.read(path, in_memory=False)
    return reader(path)


def read_labels(path: Path) -> Int32[np.ndarray, "H W"]:
    """Returns the one label image of a file: an integer for each pixel.

    Of a palette with colours these are the indices. RGB is accepted if the three
    channels are equal, floating-point values if all of them are integers.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If the file is unreadable, too large, holds several images, or is
        lossy (JPEG), in colour, not integral or beyond 32 bits.
    """
    return _single(read_label_stack(path), path, "read_label_stack")


def read_label_stack(path: Path) -> Int32[np.ndarray, "N H W"]:
    """Returns all label images of a file; see `read_labels`."""
    path = pathlib.Path(path)
    return pages.as_labels(_read(path), path)


def write_image(
    path: Path,
    image: Shaped[np.ndarray, "*N H W C"],
    metadata: Metadata = Metadata(),
) -> None:
    """Writes an image as compressed TIFF or PNG, by suffix; booleans become uint8.

    A stack [N, H, W, C] becomes a TIFF of N pages. A TIFF keeps the metadata.

    Raises:
      FileExistsError: If the file exists.
      ValueError: If the suffix is not accepted, or the format cannot hold the values.
    """
    path = pathlib.Path(path)
    suffix = path.suffix.lower()
    if suffix not in (*_TIFF, ".png"):
        raise ValueError(
            f"{path} cannot be written: accepted are .tif, .tiff and .png, which keep "
            "every value."
        )
    if image.dtype.kind not in "buif":
        raise ValueError(
            f"{path} cannot hold values of type {image.dtype}; accepted are integers "
            "and real numbers."
        )
    image = image.astype(np.uint8) if image.dtype == np.bool_ else image
    with folders.write_atomically(path) as temporary:
        if suffix in _TIFF:
            ome = path.stem.lower().endswith(".ome")
            tiff.write(temporary, image, ome=ome, metadata=metadata)
        elif image.ndim == 4:
            raise ValueError(f"{path} cannot hold a stack; write .tif instead.")
        else:
            png.write(temporary, image)


def write_labels(
    path: Path,
    instances: Integer[np.ndarray, "*N H W"],
    metadata: Metadata = Metadata(),
) -> None:
    """Writes instance numbers in the smallest of uint8, uint16 and uint32.

    A stack [N, H, W] becomes a TIFF of N pages.

    Raises:
      FileExistsError: If the file exists.
      ValueError: If a number is negative or beyond 32 bits, or beyond 16 bits in PNG.
    """
    path = pathlib.Path(path)
    low, high = int(instances.min()), int(instances.max())
    if low < 0 or high > np.iinfo(np.uint32).max:
        raise ValueError(
            f"{path} cannot hold instance numbers from {low} to {high}; accepted are 0 "
            f"to {np.iinfo(np.uint32).max}."
        )
    types = (np.uint8, np.uint16, np.uint32)
    dtype = next(each for each in types if high <= np.iinfo(each).max)
    if dtype == np.uint32 and path.suffix.lower() == ".png":
        raise ValueError(
            f"{path} cannot hold instance number {high}, PNG holds up to 65,535; write "
            ".tif instead."
        )
    write_image(path, instances.astype(dtype)[..., None], metadata)


def _read(path: pathlib.Path) -> pages.Pages:
    found = _check(path)(path)
    if not found.pixels.size:
        raise ValueError(f"{path} has no pixels; download or export it again.")
    return found


def _check(path: pathlib.Path) -> Callable[[pathlib.Path], pages.Pages]:
    """Returns the function that reads a file, if it is a file and may be an image."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if not is_image(path):
        accepted = ", ".join(SUFFIXES)
        kind = _meaning(path) or "not an image"
        raise ValueError(f"{path} is {kind}; accepted are {accepted}.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; pass the path of an image.")
    names.check_names([path])
    if limits.check_regular(path) == 0:
        raise ValueError(f"{path} is empty (0 bytes); download or export it again.")
    with path.open("rb") as file:
        start = file.read(8)
    return _reader(path, start)


def _reader(path: pathlib.Path, start: bytes) -> Callable[[pathlib.Path], pages.Pages]:
    """Returns the function that reads a file of which the first bytes are given."""
    for magic, read in _STARTS.items():
        if start.startswith(magic):
            return read
    suffix = path.suffix.lower()
    if suffix in microscopes.SUFFIXES:
        return microscopes.read
    return (tiff if suffix in _TIFF else npy if suffix == ".npy" else png).read


def _meaning(path: pathlib.Path) -> str:
    """Returns what a file that is not read is by its name; empty if that is unknown."""
    for endings, meaning in _UNREAD.items():
        if path.name.lower().endswith(tuple(endings.split())):
            return meaning
    return ""


def _single(
    stack: Shaped[np.ndarray, "N ..."], path: Path, name: str
) -> Shaped[np.ndarray, "..."]:
    if len(stack) != 1:
        raise ValueError(
            f"{path} holds {len(stack)} images, expected one, and does not declare an "
            f"axis of channels; use {name} for a stack, or save the file with axes CYX."
        )
    return stack[0]
