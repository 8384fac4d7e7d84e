"""Images that are read in parts: TIFF, NumPy arrays, Zarr and OME-Zarr."""

import hashlib
import math
import mmap
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from unetjax.files import images, pages
from unetjax.files.pages import Metadata
from unetjax.inference import tiles
from unetjax.large import arrays
from unetjax.large.arrays import StoredArray
from unetjax.large.grid import Grid
from unetjax.settings import check_finite

Part = Shaped[np.ndarray, "h w C"]

SPACE = {  # units of OME-Zarr, and how TIFF names them
    "micrometer": "um",
    "nanometer": "nm",
    "millimeter": "mm",
    "centimeter": "cm",
}


class Source(NamedTuple):
    """One image, of which parts are read.

    Attributes:
      height: Its height, in pixels.
      width: Its width.
      read: Returns the grey values of some rows and columns.
    """

    height: int
    width: int
    read: Callable[[slice, slice], Part]


class Stack(NamedTuple):
    """The images of a file.

    Attributes:
      sources: The images, which have the same size.
      metadata: Axes of the stack and pixel size.
      zarr: Version of the format of a Zarr, which results are written in; None of
        other files.
    """

    sources: Sequence[Source]
    metadata: Metadata
    zarr: int | None = None


Fit = Callable[[Shaped[np.ndarray, "N h w c"]], Shaped[np.ndarray, "N h w C"]]


def open_stack(path: pathlib.Path, unpacked: pathlib.Path, *, fit: Fit) -> Stack:
    """Opens the images of a file without reading them.

    Args:
      path: A TIFF, NumPy array, Zarr array or OME-Zarr image.
      unpacked: New file for the pixels of a TIFF.
      fit: Gives parts the channels that a model reads.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is damaged or has other axes.
    """
    if arrays.is_zarr(path):
        return _open_zarr(path, fit)
    found = images.open_pages(path, unpacked)

    def reader(index: int) -> Callable[[slice, slice], Part]:
        def read(rows: slice, columns: slice) -> Part:
            part = found.pixels[index : index + 1, rows, columns]
            part = np.array(part, part.dtype.newbyteorder("="))
            _release(found.pixels)
            return fit(pages.as_image(found._replace(pixels=part), path))[0]

        return read

    count, height, width, _ = found.pixels.shape
    sources = [Source(height, width, reader(index)) for index in range(count)]
    return Stack(sources, images.read_metadata(path))


def _release(pixels: Shaped[np.ndarray, "..."]) -> None:
    """Gives back the memory of the pages of a mapped file that were read."""
    base: object = pixels
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def read_mirrored(source: Source, rows: slice, columns: slice) -> Part:
    """Returns rows and columns of an image that is mirrored at its border."""
    first = tiles.mirror_index(rows.start, rows.stop, size=source.height)
    second = tiles.mirror_index(columns.start, columns.stop, size=source.width)
    top, left = first.min(), second.min()
    part = source.read(
        slice(int(top), int(first.max()) + 1), slice(int(left), int(second.max()) + 1)
    )
    return part[np.ix_(first - top, second - left)]


def parts(source: Source, grid: Grid) -> Iterator[Part]:
    """Yields all blocks of an image."""
    for block in grid.blocks():
        yield source.read(block.rows, block.columns)


def digest(source: Source) -> str:
    """Returns the SHA-256 of type, size and pixels, whatever the blocks of a run."""
    hashed = hashlib.sha256(f"{source.height} {source.width} ".encode())
    for part in parts(source, Grid(source.height, source.width)):
        hashed.update(f"{part.dtype} {part.shape} ".encode())
        hashed.update(part.tobytes())
    return hashed.hexdigest()


def _open_zarr(path: pathlib.Path, fit: Fit) -> Stack:
    image = _multiscale(arrays.read_attributes(path), path)
    if image is None and not arrays.is_array(path):
        raise ValueError(
            f"{path} is a Zarr group that holds several images, or none; name one of "
            f"them, such as {path / '0'}."
        )
    folder = path if image is None else _inside(path, _dataset(image, path))
    stored = arrays.open_array(folder)
    if 0 in stored.shape:
        shape = "x".join(map(str, stored.shape))
        raise ValueError(f"{path} is empty: its array has the size {shape}.")
    axes = _axes(image, stored, path)
    order = [axes.index(a) for a in axes if a not in "yxc"]
    shape = tuple(stored.shape[i] for i in order)
    height, width = (stored.shape[axes.index(a)] for a in "yx")

    def reader(index: tuple[int, ...]) -> Callable[[slice, slice], Part]:
        place = dict(zip(order, index, strict=True))

        def read(rows: slice, columns: slice) -> Part:
            where = [
                rows if a == "y" else columns if a == "x" else slice(None) for a in axes
            ]
            part = stored.read(*(place.get(i, each) for i, each in enumerate(where)))
            left = [a for a in axes if a in "yxc"]
            part = part.transpose([left.index(a) for a in "yxc" if a in left])
            part = part if "c" in left else part[..., np.newaxis]
            part = part.astype(np.uint8) if part.dtype == np.bool_ else part
            check_finite(str(path), part)
            return fit(part[np.newaxis])[0]

        return read

    sources = [Source(height, width, reader(index)) for index in np.ndindex(*shape)]
    names = "".join(axes[i].upper() for i in order)
    size, unit = _pixel_size(image)
    return Stack(sources, Metadata(names, shape, size, unit), zarr=arrays.version(path))


def _multiscale(attributes: dict[str, Any], path: pathlib.Path) -> dict | None:
    """Returns the description of an OME-Zarr image; None of a plain array."""
    ome = attributes.get("ome", attributes)  # inside it since version 0.5
    found = ome.get("multiscales") if isinstance(ome, dict) else None
    if found is None:
        return None
    if not (isinstance(found, list) and found and isinstance(found[0], dict)):
        raise ValueError(f"{path} is damaged: its multiscales are no list of images.")
    return found[0]


def _dataset(image: dict, path: pathlib.Path) -> str:
    """Returns the name of the array of full resolution, which comes first."""
    try:
        name = image["datasets"][0]["path"]
    except (KeyError, IndexError, TypeError):
        name = None
    if not isinstance(name, str):
        raise ValueError(f"{path} is damaged: it names no array of full resolution.")
    return name


def _inside(path: pathlib.Path, name: str) -> pathlib.Path:
    folder = path / name
    if not folder.resolve().is_relative_to(path.resolve()):
        raise ValueError(f"{path} is damaged: {name!r} lies outside of it.")
    return folder


def _axes(image: dict | None, stored: StoredArray, path: pathlib.Path) -> str:
    """Returns a letter for each axis: those of OME-Zarr, or yx, cyx, tcyx, tczyx."""
    rank = len(stored.shape)
    named = (image or {}).get("axes")
    if named is None:
        axes = {2: "yx", 3: "cyx", 4: "tcyx", 5: "tczyx"}.get(rank, "")
    else:
        named = named if isinstance(named, list) else [named]
        found = [a.get("name") if isinstance(a, dict) else a for a in named]
        axes = "".join(str(each).lower() for each in found)
    if len(axes) != rank or len(set(axes)) != rank or not {"y", "x"} <= set(axes):
        shape = "x".join(map(str, stored.shape))
        raise ValueError(
            f"{path} has axes {axes or 'without names'} of size {shape}; accepted are "
            "y and x, one axis of channels, and sequences of images, each named by one "
            "letter."
        )
    return axes


def _pixel_size(image: dict | None) -> tuple[tuple[float, float] | None, str]:
    """Returns height and width of a pixel, and their unit, as far as they are known."""
    try:
        named = [a for a in (image or {})["axes"] if a.get("type") == "space"][-2:]
        (scale,) = [
            each["scale"][-2:]
            for each in (image or {})["datasets"][0]["coordinateTransformations"]
            if each.get("type") == "scale"
        ]
        units = {a.get("unit") for a in named}
        height, width = map(float, scale)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None, ""
    (unit,) = units if len(units) == 1 else ("",)
    known = SPACE.get(str(unit), "")
    is_size = all(math.isfinite(each) and each > 0 for each in (height, width))
    return ((height, width), known) if known and is_size else (None, "")
