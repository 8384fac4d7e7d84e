"""Files of the segmentation of large images: TIFF of tiles, OME-Zarr, an overview."""

import contextlib
import logging
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer, Shaped

from unetjax.devices import memory
from unetjax.files import folders, images, json_files, limits, tiff
from unetjax.files.names import OVERLAY, PROBS
from unetjax.inference import predict
from unetjax.inference.predict import Engine, Network
from unetjax.inference.tta import TTA
from unetjax.large import arrays, sources
from unetjax.large import segmentation as segmenting
from unetjax.large.grid import CHUNK, Grid
from unetjax.large.segmentation import LargeSegmentation
from unetjax.large.sources import Fit, Source, Stack
from unetjax.reporting import pictures

_BYTES_A_PIXEL = 100  # of an image that is segmented as a whole
_OVERVIEW = 2048  # pixels: longest side of the overlay
_FINISHED = "finished.json"
_UNITS = {"um": "micrometer", "nm": "nanometer", "mm": "millimeter", "cm": "centimeter"}

_log = logging.getLogger(__name__)

Read = Callable[[slice, slice], Shaped[np.ndarray, "h w"]]


def is_large(path: pathlib.Path) -> bool:
    """Returns whether a file is segmented by blocks: a Zarr, or more than fits."""
    if arrays.is_zarr(path):
        return True
    size = images.read_size(path)
    if size is None:
        return False
    with contextlib.suppress(ValueError):  # the memory is not known
        return size[1] * size[2] * _BYTES_A_PIXEL > memory.limit()
    return False


def segment_file(
    trained: Network,
    path: pathlib.Path,
    folder: pathlib.Path,
    name: str,
    *,
    fit: Fit,
    instances: bool,
    probabilities: bool = False,
    others: Sequence[Network] = (),
    tta: TTA = "none",
    engines: Sequence[Engine] | None = None,
    origin: Mapping[str, Any],
    overwrite: bool = False,
    result: pathlib.Path | None = None,
) -> bool:
    """Segments the images of a large file; the same call resumes an interrupted one.

    The folder receives a_overlay.png, at most 2,048 pixels wide or high, and
    a_labels.tif (numbered cells) or a_mask.tif, and a_probs.tif; of a Zarr these are
    OME-Zarr. What is needed to resume lies in the folder .a.parts, which keeps a small
    record at the end.

    Args:
      trained: A `TrainedModel`.
      path: TIFF, NumPy array, Zarr array or OME-Zarr image.
      folder: Where to write; created if absent.
      name: What the names of results begin with.
      fit: Gives parts of the image the channels that the model reads.
      instances: Whether to write numbered cells instead of a mask.
      probabilities: Whether to write them as well.
      others: See `segmentation.segment_large`, as for `tta` and `engines`.
      tta: Test-time augmentation.
      engines: One for each model.
      origin: What the results depend on: fingerprints of models, options.
      overwrite: Whether results are replaced, whatever made them.
      result: The name of labels or mask, instead of one in the folder.

    Returns:
      Whether anything was computed; False if the same call had finished before.

    Raises:
      FileExistsError: If a result exists that this call has not written.
      ValueError: If the image or an option is not fit, or the record is that of others.
      OSError: If the disk is too small.
      StoppedError: On a signal; the same call resumes.
    """
    parts = folder / f".{name}.parts"
    with folders.claim(folder):
        parts.mkdir(exist_ok=True)
        folders.remove_temporaries(folder)
        stack = sources.open_stack(path, parts / "pixels", fit=fit)
        ending = "zarr" if stack.zarr else "tif"
        kind = "labels" if instances else "mask"
        outputs = [
            result or folder / f"{name}_{kind}.{ending}",
            folder / f"{name}{OVERLAY}.png",
            *([folder / f"{name}{PROBS}.{ending}"] if probabilities else []),
        ]
        digest = json_files.digest({**origin, "results": [p.name for p in outputs]})
        finished = _finished(parts / _FINISHED)
        if finished.get("origin") == digest and not overwrite:
            if all(each.exists() for each in outputs):
                _check_pixels(stack, finished, path, folder)
                return False
        elif not overwrite:
            for each in outputs:
                folders.check_new(each)
        if overwrite:
            for each in parts.iterdir():
                _delete(each)
        _describe(stack, path, trained, instances=instances)
        done = [
            segmenting.segment_large(
                trained,
                source,
                parts / f"section_{index}",
                others=others,
                tta=tta,
                engines=engines,
                instances=instances,
                origin=origin,
                title=name if len(stack.sources) == 1 else f"{name}, {index + 1}",
            )
            for index, source in enumerate(stack.sources)
        ]
        for each in outputs:
            if overwrite or finished.get("origin") == digest:
                _delete(each)
        _write_labels(outputs[0], stack, done, trained, instances=instances)
        _write_overview(outputs[1], stack.sources[0], done[0])
        if probabilities:
            _write_probabilities(outputs[2], stack, done, trained)
        record = {"origin": digest, "images": [each.digest for each in done]}
        for each in parts.iterdir():
            _delete(each)
        json_files.write(parts / _FINISHED, record)
    return True


def _check_pixels(
    stack: Stack, finished: dict[str, Any], path: pathlib.Path, folder: pathlib.Path
) -> None:
    """Refuses an image that has changed since its results were written."""
    if finished.get("images") != [sources.digest(each) for each in stack.sources]:
        raise ValueError(
            f"{path} has other pixels than those of which {folder} has the results; "
            "name another --out folder, or replace them with --overwrite."
        )


def _describe(
    stack: Stack, path: pathlib.Path, trained: Network, *, instances: bool
) -> None:
    """Says what a segmentation will take."""
    source = stack.sources[0]
    grid = Grid(source.height, source.width)
    needed = segmenting.needs(grid, trained, instances=instances)
    count = len(stack.sources)
    sections = f"{count:,} images of " if count > 1 else ""
    _log.info(
        "%s: %s%s x %s pixels, in %s blocks; takes about %s of memory and %s of disk",
        *(path.name, sections, f"{source.width:,}", f"{source.height:,}"),
        f"{count * grid.num_blocks:,}",
        *(limits.format_bytes(n) for n in (needed.memory, count * needed.disk)),
    )


def _write_labels(
    path: pathlib.Path,
    stack: Stack,
    done: Sequence[LargeSegmentation],
    trained: Network,
    *,
    instances: bool,
) -> None:
    num_classes = trained.model.num_classes
    largest = max(each.num_instances for each in done) if instances else num_classes - 1
    scale = 255 if not instances and num_classes == 2 else 1
    types = (np.uint8, np.uint16, np.uint32, np.uint64)
    dtype = next(t for t in types if scale * largest <= np.iinfo(t).max)

    def reader(each: LargeSegmentation) -> Read:
        read = each.read_instances if instances else each.read_label
        assert read is not None
        return lambda rows, columns: (scale * read(rows, columns)).astype(dtype)

    _write(path, stack, [[reader(each)] for each in done], dtype)


def _write_probabilities(
    path: pathlib.Path,
    stack: Stack,
    done: Sequence[LargeSegmentation],
    trained: Network,
) -> None:
    model = trained.model

    def reader(each: LargeSegmentation, k: int) -> Read:
        def read(rows: slice, columns: slice) -> Shaped[np.ndarray, "h w"]:
            return predict.split(each.outputs.read(rows, columns), model).probs[..., k]

        return read

    channels = range(model.num_classes)
    readers = [[reader(each, k) for k in channels] for each in done]
    _write(path, stack, readers, np.float32)


def _write(
    path: pathlib.Path,
    stack: Stack,
    readers: Sequence[Sequence[Read]],
    dtype: np.typing.DTypeLike,
) -> None:
    """Writes the channels of all images of a stack as TIFF, or as Zarr."""
    grid = Grid(stack.sources[0].height, stack.sources[0].width)
    num_channels = len(readers[0])
    sequence = stack.metadata.shape if stack.metadata.is_stack else ()
    shape = (*sequence, *([num_channels] if num_channels > 1 else []))
    axes = (stack.metadata.axes if sequence else "") + ("C" if num_channels > 1 else "")
    shape, axes = (*shape, grid.height, grid.width), f"{axes}YX"
    pages = [read for channels in readers for read in channels]
    if stack.zarr is None:
        with folders.write_atomically(path) as temporary:
            tiff.write_tiles(
                temporary,
                _tiles(pages, grid),
                shape,
                dtype,
                axes=axes,
                side=CHUNK,
                metadata=stack.metadata,
            )
        return
    temporary = path.with_name(f".{path.name}.parts")
    _delete(temporary)
    temporary.mkdir()
    chunks = (*[1] * (len(shape) - 2), CHUNK, CHUNK)
    stored = arrays.create(temporary / "0", shape, chunks, dtype, zarr=stack.zarr)
    for index, read in zip(np.ndindex(*shape[:-2]), pages, strict=True):
        for block in grid.blocks():
            values = read(block.rows, block.columns)
            stored.write(values, *index, block.rows, block.columns)
    _write_attributes(temporary, axes, stack)
    temporary.rename(path)
    folders.sync(path.parent)


def _tiles(pages: Sequence[Read], grid: Grid) -> Iterator[Shaped[np.ndarray, "h w"]]:
    for read in pages:
        for tile in Grid(grid.height, grid.width, CHUNK).blocks():
            yield read(tile.rows, tile.columns)


def _write_attributes(folder: pathlib.Path, axes: str, stack: Stack) -> None:
    """Makes a folder of arrays an OME-Zarr image (version 0.4, or 0.5 of Zarr 3)."""
    size, unit = stack.metadata.pixel_size, _UNITS.get(stack.metadata.unit)
    kinds = {"T": "time", "C": "channel"}
    described = [
        {"name": a.lower(), "type": kinds.get(a, "space")}
        | ({"unit": unit} if unit and a in "YX" else {})
        for a in axes
    ]
    scale = [1.0] * (len(axes) - 2) + list(size if size and unit else (1.0, 1.0))
    dataset = {
        "path": "0",
        "coordinateTransformations": [{"type": "scale", "scale": scale}],
    }
    image: dict[str, Any] = {"axes": described, "datasets": [dataset]}
    if stack.zarr == 3:
        attributes = {"ome": {"version": "0.5", "multiscales": [image]}}
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        json_files.write(folder / "zarr.json", group)
        return
    json_files.write(folder / ".zgroup", {"zarr_format": 2})
    image["version"] = "0.4"
    json_files.write(folder / ".zattrs", {"multiscales": [image]})


def _write_overview(
    path: pathlib.Path, source: Source, done: LargeSegmentation
) -> None:
    """Writes a reduced image with the outlines of cells, or of the foreground."""
    step = -(-max(source.height, source.width) // _OVERVIEW)
    read: Callable[[slice, slice], Integer[np.ndarray, "h w"]] = (
        done.read_instances or done.read_label
    )
    grid = Grid(source.height, source.width)
    rows = []
    for top in range(0, grid.height, grid.size):
        columns = []
        for left in range(0, grid.width, grid.size):
            # Each block begins with the first of its pixels that is shown.
            place = tuple(
                slice(-(-start // step) * step, min(start + grid.size, side))
                for start, side in ((top, grid.height), (left, grid.width))
            )
            if any(each.start >= each.stop for each in place):
                continue
            columns.append(
                (
                    source.read(*place)[::step, ::step],
                    read(*place)[::step, ::step],
                )
            )
        if columns:
            rows.append(
                [np.concatenate(each, axis=1) for each in zip(*columns, strict=True)]
            )
    image, labels = (np.concatenate(each) for each in zip(*rows, strict=True))
    drawn = pictures.outlines(pictures.grey(image), labels.astype(np.int64))
    images.write_image(path, drawn)


def _finished(path: pathlib.Path) -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError, json_files.CorruptFilesError):
        found = json_files.read(path)
        return found if isinstance(found, dict) else {}
    return {}


def _delete(path: pathlib.Path) -> None:
    """Deletes what an earlier call wrote, or `overwrite` allows to replace.

    A folder is deleted only if it is a Zarr, or parts of an interrupted call.
    """
    if path.is_dir() and not path.is_symlink():
        if not (arrays.is_zarr(path) or ".parts" in "".join(path.parts[-2:])):
            raise FileExistsError(
                f"{path} is a folder, which is not replaced; choose another name."
            )
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
