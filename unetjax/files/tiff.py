"""Reading and writing of TIFF files by tifffile."""

import contextlib
import errno
import importlib.util
import io
import logging
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tifffile
from jaxtyping import Shaped

from unetjax.files import folders, headers, limits
from unetjax.files.pages import Metadata, Pages, turn_upright

_LOSSY = (6, 7, 34892, 33003, 33005)  # JPEG and its relatives
# Codecs of bytes: imagecodecs is told how many to return, and ignores the rest of LZMA;
# tifffile's own are not. Of JPEG the size is read before. Others have their own size.
_ZLIB, _LZMA, _JPEG = (8, 32946), (34925,), (6, 7, 34892)
_BYTE_CODECS = (1, 5, *_ZLIB, 32773, *_LZMA, 50000)
_SLACK = 2**16  # bytes by which an incompressible segment may grow, and small ones vary
_ORIENTATION = 274  # tag
_FEWEST_COLUMNS = 5  # of an image; fewer are channels


def read(path: pathlib.Path, *, unpacked: pathlib.Path | None = None) -> Pages:
    """Returns all pages of a TIFF, with the axes that the file declares.

    Args:
      path: The file.
      unpacked: New file for the pixels, which are then not held in memory.

    Raises:
      ValueError: If the file is damaged, too large, compressed with a codec that is not
        installed, or holds several axes of channels.
    """
    with _opened(path) as (file, warnings):
        series = file.series
        _check_header(series, path, in_memory=unpacked is None)
        if unpacked is not None:  # a full disk would end the process
            num_bytes = math.prod(series[0].shape) * series[0].dtype.itemsize
            folders.check_space(unpacked.parent, num_bytes)
        page = series[0].keyframe
        _check_colours(page, path)
        _check_segments(file, series[0], path)
        pixels = series[0].asarray(out=None if unpacked is None else str(unpacked))
        palette = _palette(file, page)
        orientation = _orientation(page)
        is_negative = _is_negative(file, page)
    if warnings:
        # tifffile returns what it could read of a truncated stack, and logs the rest.
        raise ValueError(
            f"{path} is damaged or truncated: {warnings[0]}; download or export it "
            "again."
        )
    if is_negative:
        pixels = _inverted(pixels, page.bitspersample, path)
    pixels = _order(pixels, series[0].axes, path)
    pixels = pixels.view(np.uint8) if pixels.dtype == np.bool_ else pixels
    return Pages(
        turn_upright(pixels, orientation, path),
        has_alpha=any(sample in (1, 2) for sample in page.extrasamples),
        palette=palette,
        is_lossy=page.compression in _LOSSY,
    )


def read_size(path: pathlib.Path) -> tuple[int, int, int]:
    """Returns how many images the header declares, and their height and width.

    Raises:
      ValueError: If the file is damaged.
    """
    with _opened(path) as (file, _):
        series = file.series[0]
        sizes = dict(zip(series.axes, series.shape, strict=True))
        height, width = sizes["Y"], sizes["X"]
        channels = math.prod(n for axis, n in sizes.items() if axis in "CS")
        return math.prod(series.shape) // (height * width * channels), height, width


def read_metadata(path: pathlib.Path) -> Metadata:
    """Returns what the header declares about sequence and pixel size.

    Raises:
      ValueError: If the file is damaged.
    """
    with _opened(path) as (file, _):
        series = file.series[0]
        sizes = dict(zip(series.axes, series.shape, strict=True))
        sequence = {a: n for a, n in sizes.items() if a not in "CSYX" and n > 1}
        pixel_size, unit = _pixel_size(file)
        orientation = _orientation(series.keyframe)
        if pixel_size and 5 <= orientation <= 8:  # rows are shown as columns
            pixel_size = pixel_size[::-1]
        return Metadata(
            "".join(sequence),
            tuple(sequence.values()),
            pixel_size,
            unit,
            _channel_names(file, sizes.get("C", 1)),
        )


def write_tiles(
    path: pathlib.Path,
    tiles: Iterator[Shaped[np.ndarray, "h w"]],
    shape: tuple[int, ...],
    dtype: np.typing.DTypeLike,
    *,
    axes: str,
    side: int,
    metadata: Metadata = Metadata(),
) -> None:
    """Writes a compressed TIFF from tiles, without holding the image in memory.

    Args:
      path: The file.
      tiles: Square tiles, row by row, page by page; those at the end may be smaller.
      shape: [..., H, W].
      dtype: Type of the values.
      axes: A letter for each axis of the shape, such as TYX.
      side: Side of a tile, in pixels; a multiple of 16.
      metadata: For the pixel size.
    """
    tifffile.imwrite(
        path,
        tiles,
        shape=shape,
        dtype=dtype,
        tile=(side, side),
        bigtiff=math.prod(shape) * np.dtype(dtype).itemsize >= 2**31,
        photometric="minisblack",
        compression="zlib",
        metadata={"axes": axes},
        **_scale(metadata, can_be_imagej=False),
    )


def write(
    path: pathlib.Path,
    image: Shaped[np.ndarray, "*N H W C"],
    *,
    ome: bool,
    metadata: Metadata = Metadata(),
) -> None:
    """Writes a compressed TIFF that declares its axes: grey, RGB or channels as pages.

    Where the pixel size has a unit that the tags of TIFF lack, such as micrometres, the
    file is one of ImageJ, if that has such values.

    Args:
      path: The file.
      image: An image, or a stack of images.
      ome: Whether to write OME metadata, without the pixel size.
      metadata: Axes of the stack and pixel size.

    Raises:
      ValueError: If OME metadata have no name for the dtype.
    """
    if ome and image.dtype in (np.int64, np.uint64, np.float16):
        raise ValueError(
            f"OME-TIFF cannot hold {image.dtype} without loss; write .tif instead."
        )
    is_rgb = image.shape[-1] == 3 and image.dtype in (np.uint8, np.uint16)
    if is_rgb:
        axes = "YXS"
    elif image.shape[-1] == 1:
        axes, image = "YX", image[..., 0]
    else:
        axes, image = "CYX", np.moveaxis(image, -1, -3)
    if image.ndim > len(axes):
        is_known = metadata.axes in ("T", "Z", "TZ") and (
            math.prod(metadata.shape) == len(image)
        )
        axes = (metadata.axes if is_known else "T") + axes
        if is_known:
            image = image.reshape(*metadata.shape, *image.shape[1:])
    can_be_imagej = image.dtype in (np.uint8, np.uint16, np.float32) and not (
        ome or (is_rgb and image.dtype != np.uint8)
    )
    scale = _scale(metadata, can_be_imagej=can_be_imagej)
    tifffile.imwrite(
        path,
        image,
        ome=ome,
        **scale,
        bigtiff=image.nbytes >= 2**31,  # offsets of 32 bits end at 4 GiB
        photometric="rgb" if is_rgb else "minisblack",
        compression="zlib",
        metadata={"axes": axes, "unit": metadata.unit}
        if "imagej" in scale
        else {"axes": axes},
    )


def _orientation(page: tifffile.TiffPage) -> int:
    value = page.tags.valueof(_ORIENTATION, default=1)
    if not isinstance(value, int):
        raise ValueError("its orientation is no single number")
    return value


def _pixel_size(file: tifffile.TiffFile) -> tuple[tuple[float, float] | None, str]:
    """Returns height and width of a pixel, and their unit, as far as they are known."""
    if file.is_ome and file.ome_metadata:
        image = tifffile.xml2dict(file.ome_metadata)["OME"].get("Image", {})
        image = image[0] if isinstance(image, list) else image
        found = image.get("Pixels", {})
        size = [found.get(f"PhysicalSize{axis}") for axis in "YX"]
        unit = found.get("PhysicalSizeXUnit", "\u00b5m")
        if all(size) and unit == found.get("PhysicalSizeYUnit", "\u00b5m"):
            return (float(size[0]), float(size[1])), unit.replace("\u00b5", "u")
        return None, ""
    tags = file.pages.first.tags
    ratios = [tags.valueof(tag) for tag in (283, 282)]  # pixels per unit, y and x
    if not all(ratio and ratio[0] and ratio[1] for ratio in ratios):
        return None, ""
    size = (ratios[0][1] / ratios[0][0], ratios[1][1] / ratios[1][0])
    if file.is_imagej:
        unit = str((file.imagej_metadata or {}).get("unit", ""))
        unit = unit.replace("\\u00B5", "u").replace("\u00b5", "u")
        return (size, unit) if unit and unit != "pixel" else (None, "")
    unit = {2: "inch", 3: "cm"}.get(tags.valueof(296, default=2), "")
    return (size, unit) if unit else (None, "")


def _channel_names(file: tifffile.TiffFile, count: int) -> tuple[str, ...]:
    """Returns the names of the channels, as far as OME or ImageJ metadata have them."""
    if file.is_ome and file.ome_metadata:
        image = tifffile.xml2dict(file.ome_metadata)["OME"].get("Image", {})
        image = image[0] if isinstance(image, list) else image
        found = image.get("Pixels", {}).get("Channel", [])
        found = found if isinstance(found, list) else [found]
        names = [str(each.get("Name", "")) for each in found]
    else:
        names = list(map(str, (file.imagej_metadata or {}).get("Labels", [])))
    return tuple(names) if len(names) == count and any(names) else ()


def _scale(metadata: Metadata, *, can_be_imagej: bool) -> dict[str, Any]:
    """Returns the options by which tifffile writes the pixel size."""
    if metadata.pixel_size is None:
        return {}
    height, width = metadata.pixel_size
    if metadata.unit not in ("inch", "cm") and can_be_imagej:
        return {"imagej": True, "resolution": (1 / width, 1 / height)}
    factor = {"um": 1e-4, "micron": 1e-4, "nm": 1e-7, "mm": 0.1, "cm": 1, "inch": 1}
    if metadata.unit not in factor:
        return {}
    to_tag = factor[metadata.unit]
    return {
        "resolution": (1 / (to_tag * width), 1 / (to_tag * height)),
        "resolutionunit": "INCH" if metadata.unit == "inch" else "CENTIMETER",
    }


def _check_header(
    series: Sequence[tifffile.TiffPageSeries], path: pathlib.Path, *, in_memory: bool
) -> None:
    if len(series) != 1:
        raise ValueError(
            f"{path} holds {len(series)} images of different kinds; save the one to "
            "use as a separate file."
        )
    dtype = np.dtype(series[0].dtype)
    if dtype.kind not in "buif":
        raise ValueError(
            f"{path} has values of type {dtype}; accepted are integers and real "
            "numbers."
        )
    largest = max(math.prod(series[0].shape), math.prod(series[0].keyframe.chunks))
    limits.check_size(path, largest * dtype.itemsize, in_memory=in_memory)
    segment = math.prod(series[0].keyframe.chunks) * dtype.itemsize
    limits.check_size(path, segment)  # is unpacked in memory


def _check_segments(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: pathlib.Path
) -> None:
    """Refuses strips and tiles that would unpack to more than the header declares."""
    page = series.keyframe
    if page.compression not in (*_BYTE_CODECS, *_JPEG):
        name = getattr(page.compression, "name", page.compression)
        raise ValueError(
            f"{path} is compressed by {name}, whose size in memory is not known before "
            "it is unpacked; save it with deflate or LZW."
        )
    expected = math.prod(page.chunks) * np.dtype(page.dtype).itemsize
    message = (
        f"{path} is damaged: a strip or tile is larger than its header declares; "
        "download or export it again."
    )
    unbounded = _LZMA if importlib.util.find_spec("imagecodecs") else (*_LZMA, *_ZLIB)
    for each in filter(None, series.pages):
        for offset, count in zip(each.dataoffsets, each.databytecounts, strict=False):
            if count > 2 * expected + _SLACK:
                raise ValueError(message)
            if page.compression in _JPEG:
                file.filehandle.seek(offset)
                segment = io.BytesIO(file.filehandle.read(count))
                height, width, components = headers.jpeg_size(segment, path)
                if height * width * components > 2 * expected + _SLACK:
                    raise ValueError(message)
            elif page.compression in unbounded:
                file.filehandle.seek(offset)
                headers.check_unpacked(file.filehandle.read(count), expected, path)


def _check_colours(page: tifffile.TiffPage, path: pathlib.Path) -> None:
    """Refuses colours that are neither grey values nor RGB nor a palette."""
    kinds = tifffile.PHOTOMETRIC
    accepted = {kinds.MINISWHITE, kinds.MINISBLACK, kinds.RGB, kinds.PALETTE}
    if page.compression in _LOSSY:
        accepted.add(kinds.YCBCR)  # tifffile converts it to RGB
    if page.photometric in accepted:
        return
    name = getattr(page.photometric, "name", f"type {page.photometric}")
    name = {"SEPARATED": "CMYK", "CFA": "a mosaic of a colour filter"}.get(name, name)
    raise ValueError(
        f"{path} stores colours as {name}; accepted are grey values, RGB and palettes: "
        "convert it to one of these."
    )


def _is_negative(file: tifffile.TiffFile, page: tifffile.TiffPage) -> bool:
    """Returns whether 0 is white, so that the shown values are not the stored ones.

    ImageJ shows and measures the stored values, and marks its masks, in which 255 is
    foreground, with an inverting colour table.
    """
    declared = page.tags.valueof(262) == tifffile.PHOTOMETRIC.MINISWHITE
    return declared and not file.is_imagej


def _inverted(
    pixels: Shaped[np.ndarray, "..."], bits: int, path: pathlib.Path
) -> Shaped[np.ndarray, "..."]:
    if pixels.dtype == np.bool_:
        return np.logical_not(pixels, out=pixels)
    if pixels.dtype.kind != "u":
        raise ValueError(
            f"{path} declares that 0 is white, which says nothing about values of type "
            f"{pixels.dtype}; save it with 0 as black."
        )
    return np.subtract(pixels.dtype.type(2**bits - 1), pixels, out=pixels)


def _palette(
    file: tifffile.TiffFile, page: tifffile.TiffPage
) -> Shaped[np.ndarray, "n 3"] | None:
    """Returns the colours of palette indices; in files of ImageJ they are for display.

    Colours have 16 bits; those that an 8-bit palette was widened from are uint8.
    """
    if page.photometric != tifffile.PHOTOMETRIC.PALETTE or file.is_imagej:
        return None
    colours = np.asarray(page.colormap).T
    for factor in (257, 256):
        if not (colours % factor).any():
            return (colours // factor).astype(np.uint8)
    return colours


def _order(
    pixels: Shaped[np.ndarray, "..."], axes: str, path: pathlib.Path
) -> Shaped[np.ndarray, "N H W C"]:
    """Moves the axes to [N, H, W, C]; C and S are channels, all others are in N."""
    named = "".join(a for a, size in zip(axes, pixels.shape, strict=True) if size > 1)
    channels = [a for a in named if a in "CS"]
    sequence = [a for a in named if a not in "CSYX"]
    shape = "x".join(str(size) for size in pixels.shape)
    if not {"Y", "X"} <= set(axes) or len(channels) > 1:
        raise ValueError(
            f"{path} has axes {axes} of size {shape}; accepted are Y and X, one axis "
            "of channels and sequences of images; save each image as its own file."
        )
    width = pixels.shape[axes.index("X")]
    if axes == "QYX" and width < _FEWEST_COLUMNS < pixels.shape[1]:
        raise ValueError(
            f"{path} holds {pixels.shape[0]} images of {pixels.shape[1]}x{width}, "
            f"which looks like {width} channels on the last axis; save it with "
            "axes YXC or CYX in its metadata."
        )
    target = [*sequence, "Y", "X", *channels]
    kept = [a for a in axes if a in target]
    pixels = pixels.reshape(
        [n for a, n in zip(axes, pixels.shape, strict=True) if a in target]
    ).transpose([kept.index(a) for a in target])
    num_images = math.prod(pixels.shape[: len(sequence)])
    pixels = pixels.reshape(num_images, *pixels.shape[len(sequence) :])
    return pixels if channels else pixels[..., None]


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[tuple[tifffile.TiffFile, list[str]]]:
    """Opens a TIFF; yields it, and the warnings of tifffile so far.

    Raises:
      ValueError: If the file is damaged, in the block as well.
    """
    headers.check_tiff(path)
    with (
        _collect_warnings() as warnings,
        _as_value_error(path),
        # Other files that OME metadata may refer to stay closed.
        tifffile.TiffFile(path, _multifile=False) as file,
    ):
        yield file, warnings


class _Collector(logging.Handler):
    """Keeps the messages that are logged."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one."""
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def _collect_warnings() -> Iterator[list[str]]:
    """Collects the warnings that tifffile logs instead of raising."""
    collector = _Collector(logging.WARNING)
    logger = logging.getLogger("tifffile")
    logger.addHandler(collector)
    propagated, logger.propagate = logger.propagate, False
    try:
        yield collector.messages
    finally:
        logger.propagate = propagated
        logger.removeHandler(collector)


@contextlib.contextmanager
def _as_value_error(path: pathlib.Path) -> Iterator[None]:
    """Turns whatever tifffile raises for a damaged file into one sentence."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if str(path) in str(error):  # a sentence of ours
            raise
        # EINVAL: a damaged offset. Others are the system's.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise OSError(error.errno, error.strerror, str(path)) from error
        message = (
            f"{path} cannot be read as TIFF ({error}); download or export it again."
        )
        if "imagecodecs" in str(error):
            codec = str(error).split(":")[0].rpartition(".")[2]
            message = (
                f"{path} is {codec}-compressed, which needs imagecodecs: "
                'pip install "unetjax[codecs]".'
            )
        raise ValueError(message) from error
