"""Files of the segmentation of large images: TIFF of tiles, OME-Zarr, an overview."""

import contextlib
import logging
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Integer, Shaped

from unetjax.data import checks
from unetjax.devices import memory
from unetjax.files import folders, images, json_files, limits, tiff
from unetjax.files.names import OVERLAY, PROBS
from unetjax.inference import predict
from unetjax.inference.predict import Engine, Network
from unetjax.inference.tta import TTA
from unetjax.large import arrays, measuring, sources
from unetjax.large import segmentation as segmenting
from unetjax.large.grid import CHUNK, Grid
from unetjax.large.segmentation import LargeSegmentation, Part
from unetjax.large.sources import Fit, Source, Stack
from unetjax.reporting import pictures, records, regions

_BYTES_A_PIXEL = 100  # of an image that is segmented as a whole
_BYTES_A_STORED_PIXEL = 16  # of a stack that is read as a whole, with its results
_OVERVIEW = 2048  # pixels: longest side of the overlay
_UNITS = {short: name for name, short in sources.SPACE.items()}

_log = logging.getLogger(__name__)

Read = Callable[[slice, slice], Shaped[np.ndarray, "h w"]]


def is_large(path: pathlib.Path) -> bool:
    """Returns whether a file is segmented by blocks: a Zarr, or more than fits.

    Of a stack the largest image counts, or all of them as they are read.
    """
    if arrays.is_zarr(path):
        return True
    size = images.read_size(path)
    if size is None:
        return False
    count, height, width = size
    pixels = height * width
    needed = max(pixels * _BYTES_A_PIXEL, count * pixels * _BYTES_A_STORED_PIXEL)
    with contextlib.suppress(ValueError):  # the memory is not known
        return needed > memory.limit()
    return False


@runtime_checkable
class Record(Protocol):
    """What is noted of each image, see `prediction_record.PredictionRecord`."""

    def has(self, image: str, digest: str) -> bool:
        """Returns whether an image has all its results."""
        ...

    def begin(
        self,
        image: str,
        digest: str,
        names: Sequence[str],
        source: pathlib.Path | None = None,
    ) -> None:
        """Notes that the results of an image are about to be written."""
        ...

    def end(self, image: str) -> None:
        """Notes the contents of the results of an image."""
        ...


@dataclass(frozen=True)
class LargeFile:
    """A file whose images are segmented block by block.

    The results of a.tif are a_labels.tif (numbered cells) or a_mask.tif, a_overlay.png,
    at most 2,048 pixels wide or high, and, where they are asked for, a_probs.tif,
    a_objects.csv, a_rois.zip and a_objects.geojson. Images of a Zarr are OME-Zarr.

    Attributes:
      trained: A `TrainedModel`.
      path: TIFF, NumPy array, Zarr array or OME-Zarr image.
      name: What the names of results begin with.
      fit: Gives parts of the image the channels that the model reads.
      instances: Whether to write numbered cells instead of a mask.
      probabilities: Whether to write them as well.
      table: Whether to write the measurements of all cells.
      rois: Whether to write their outlines, see `reporting.regions`.
      others: See `segmentation.segment_large`, as for `tta` and `engines`.
      tta: Test-time augmentation.
      engines: One for each model.
      result: The name of labels or mask in the folder, instead of the usual one; the
        overlay then lies beside it.
    """

    trained: Network
    path: pathlib.Path
    name: str
    fit: Fit
    instances: bool
    probabilities: bool = False
    table: bool = False
    rois: bool = False
    others: Sequence[Network] = ()
    tta: TTA = "none"
    engines: Sequence[Engine] | None = None
    result: str = ""

    @property
    def names(self) -> list[str]:
        """The names of the results, labels or mask first."""
        return list(self._outputs.values())

    @property
    def _outputs(self) -> dict[str, str]:
        ending = "zarr" if arrays.is_zarr(self.path) else "tif"
        kind = "labels" if self.instances else "mask"
        result = pathlib.PurePath(self.result or f"{self.name}_{kind}.{ending}")
        others = {"overlay": f"{self.name}{OVERLAY}.png"}
        if self.probabilities:
            others["probs"] = f"{self.name}{PROBS}.{ending}"
        if self.table:
            others["table"] = f"{self.name}_objects.csv"
        if self.rois:
            others["rois"] = f"{self.name}_rois.zip"
            others["geojson"] = f"{self.name}_objects.geojson"
        beside = {what: str(result.parent / name) for what, name in others.items()}
        return {"result": str(result), **beside}

    @property
    def _numbers_cells(self) -> bool:
        return self.instances or self.table or self.rois

    def segment(
        self,
        folder: pathlib.Path,
        record: Record,
        *,
        start: Callable[[], None],
        origin: Mapping[str, Any],
        overwrite: bool,
    ) -> int | None:
        """Writes the results; the same call resumes an interrupted one.

        What is needed to resume lies in .a.parts until the results are there.

        Args:
          folder: Where to write, relative to which results are named.
          record: Of the folder.
          start: Called before anything is written: claims the folder, opens the record.
          origin: What the results depend on: fingerprints of models, options.
          overwrite: Whether results are replaced, whatever made them.

        Returns:
          The number of cells; None if the results were there.

        Raises:
          ValueError: If the image or an option is not fit, or has changed since its
            results were written.
          OSError: If the disk is too small.
          StoppedError: On a signal; the same call resumes.
        """
        parts = folder / f".{self.name}.parts"
        parts.mkdir(parents=True, exist_ok=True)
        try:
            stack = sources.open_stack(self.path, parts / "pixels", fit=self.fit)
            digests = [sources.digest(source) for source in stack.sources]
            digest = json_files.digest(digests)
            if not overwrite and record.has(self.name, digest):
                return None
            start()
            done = self._segment_all(stack, digests, parts, origin, overwrite=overwrite)
            record.begin(self.name, digest, self.names, self.path)
            outputs = {what: folder / name for what, name in self._outputs.items()}
            for each in outputs.values():
                _delete(each)  # of this record, or to be overwritten
            _write_overview(outputs["overlay"], stack.sources[0], done[0])
            written = (stack, done, self.trained, parts)
            _write_labels(outputs["result"], *written, instances=self.instances)
            if self.probabilities:
                _write_probabilities(outputs["probs"], *written)
            if self.table or self.rois:
                _write_objects(outputs, stack, done, self.trained)
            record.end(self.name)
            for section in parts.glob("section_*"):
                shutil.rmtree(section)
            return sum(each.num_instances for each in done)
        finally:
            (parts / "pixels").unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # what is needed to resume lies there
                parts.rmdir()

    def predict_part(
        self, folder: pathlib.Path, part: Part, *, origin: Mapping[str, Any]
    ) -> None:
        """Predicts one part of the blocks, which `segment` then finds done.

        Args:
          folder: Where `segment` will write.
          part: Which part; several processes may predict theirs at the same time.
          origin: As for `segment`.

        Raises:
          FileExistsError: If the results are there.
          ValueError: As by `segment`, as for the others.
          OSError: If the disk is too small.
          StoppedError: On a signal; the same call resumes.
        """
        result = folder / self.names[0]
        if result.exists():
            raise FileExistsError(
                f"{result} exists: no part of it is left to predict; name another "
                "--out to predict anew."
            )
        parts = folder / f".{self.name}.parts"
        parts.mkdir(parents=True, exist_ok=True)
        unpacked = parts / f"pixels_{part.index}_of_{part.count}"
        try:
            stack = sources.open_stack(self.path, unpacked, fit=self.fit)
            digests = [sources.digest(source) for source in stack.sources]
            _describe(stack, self.path, self.trained, instances=self._numbers_cells)
            for index, (source, digest) in enumerate(
                zip(stack.sources, digests, strict=True)
            ):
                # The single blocks of small images are dealt in turn.
                turn = Part((part.index - 1 - index) % part.count + 1, part.count)
                segmenting.predict_blocks(
                    source=source,
                    folder=parts / f"section_{index}",
                    origin=origin,
                    digest=digest,
                    part=turn,
                    **self._options(index, len(digests)),
                )
        finally:
            unpacked.unlink(missing_ok=True)

    def _options(self, index: int, count: int) -> dict[str, Any]:
        """Returns the arguments for one of several images that the file determines."""
        return {
            "trained": self.trained,
            "others": self.others,
            "tta": self.tta,
            "engines": self.engines,
            "instances": self._numbers_cells,
            "title": self.name if count == 1 else f"{self.name}, {index + 1}",
        }

    def _segment_all(
        self,
        stack: Stack,
        digests: Sequence[str],
        parts: pathlib.Path,
        origin: Mapping[str, Any],
        *,
        overwrite: bool,
    ) -> list[LargeSegmentation]:
        if overwrite:
            for section in parts.glob("section_*"):
                shutil.rmtree(section)
        _describe(stack, self.path, self.trained, instances=self._numbers_cells)
        return [
            segmenting.segment_large(
                source=source,
                folder=parts / f"section_{index}",
                origin=origin,
                digest=digest,
                **self._options(index, len(digests)),
            )
            for index, (source, digest) in enumerate(
                zip(stack.sources, digests, strict=True)
            )
        ]


def _describe(
    stack: Stack, path: pathlib.Path, trained: Network, *, instances: bool
) -> None:
    """Says what a segmentation will take, and refuses what a limit forbids.

    Raises:
      MemoryError: If the addresses of this process are limited to less.
    """
    source = stack.sources[0]
    grid = Grid(source.height, source.width)
    needed = segmenting.needs(grid, trained, instances=instances)
    count = len(stack.sources)
    sections = f"{count:,} images of " if count > 1 else ""
    _log.info(
        "%s: %s%s x %s pixels, in %s; takes about %s of memory and %s of disk",
        *(path.name, sections, f"{source.width:,}", f"{source.height:,}"),
        checks.counted(count * grid.num_blocks, "block"),
        *(limits.format_bytes(n) for n in (needed.memory, count * needed.disk)),
    )
    left = limits.addresses_left()
    if left is not None and needed.memory > left:
        raise MemoryError(
            f"{path} takes {limits.format_bytes(needed.memory)} of memory, and this "
            f"process may take {limits.format_bytes(left)} more; raise the limit "
            "(ulimit -v)."
        )


def _write_labels(
    path: pathlib.Path,
    stack: Stack,
    done: Sequence[LargeSegmentation],
    trained: Network,
    parts: pathlib.Path,
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

    _write(path, stack, [[reader(each)] for each in done], dtype, parts)


def _write_probabilities(
    path: pathlib.Path,
    stack: Stack,
    done: Sequence[LargeSegmentation],
    trained: Network,
    parts: pathlib.Path,
) -> None:
    model = trained.model

    def reader(each: LargeSegmentation, k: int) -> Read:
        def read(rows: slice, columns: slice) -> Shaped[np.ndarray, "h w"]:
            return predict.split(each.outputs.read(rows, columns), model).probs[..., k]

        return read

    channels = range(model.num_classes)
    readers = [[reader(each, k) for k in channels] for each in done]
    _write(path, stack, readers, np.float32, parts)


def _write_objects(
    paths: Mapping[str, pathlib.Path],
    stack: Stack,
    done: Sequence[LargeSegmentation],
    trained: Network,
) -> None:
    """Writes the measurements of all cells, and their outlines."""
    metadata = stack.metadata
    pages = [
        measuring.measure_objects(
            source,
            each,
            trained.model,
            pixel_size=metadata.pixel_size,
            unit=metadata.unit,
        )
        for source, each in zip(stack.sources, done, strict=True)
    ]
    contents: dict[str, bytes] = {}
    if "table" in paths:
        text = records.csv_of_pages(pages, is_stack=metadata.is_stack)
        contents["table"] = text.encode()
    if "rois" in paths:
        found = [
            region
            for page, (each, rows) in enumerate(zip(done, pages, strict=True))
            for region in regions.of_objects(
                rows,
                measuring.trace_objects(each, rows),
                page=page,
                has_classes=trained.model.num_classes > 2,
            )
        ]
        contents["rois"] = regions.imagej_rois(found, metadata)
        contents["geojson"] = regions.geojson(found, metadata).encode()
    for what, content in contents.items():
        with folders.write_atomically(paths[what]) as temporary:
            temporary.write_bytes(content)


def _write(
    path: pathlib.Path,
    stack: Stack,
    readers: Sequence[Sequence[Read]],
    dtype: np.typing.DTypeLike,
    parts: pathlib.Path,
) -> None:
    """Writes the channels of all images of a stack as TIFF, or as Zarr."""
    grid = Grid(stack.sources[0].height, stack.sources[0].width)
    sequence = stack.metadata.shape if stack.metadata.is_stack else ()
    axes = stack.metadata.axes if sequence else ""
    # OME-Zarr orders time, channel, space.
    place = axes.find("Z") if stack.zarr and "Z" in axes else len(axes)
    channels = (len(readers[0]),) if len(readers[0]) > 1 else ()
    shape = (*sequence[:place], *channels, *sequence[place:], grid.height, grid.width)
    axes = axes[:place] + "C" * len(channels) + axes[place:] + "YX"
    if stack.zarr is None:
        pages = [read for each in readers for read in each]
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
    temporary = parts / "result"
    if temporary.exists():  # of a killed process
        shutil.rmtree(temporary)
    temporary.mkdir()
    chunks = (*[1] * (len(shape) - 2), CHUNK, CHUNK)
    stored = arrays.create(temporary / "0", shape, chunks, dtype, zarr=stack.zarr)
    for index, each in zip(np.ndindex(*sequence), readers, strict=True):
        for channel, read in enumerate(each):
            chosen = (channel,) if channels else ()
            where = (*index[:place], *chosen, *index[place:])
            for block in grid.blocks():
                values = read(block.rows, block.columns)
                stored.write(values, *where, block.rows, block.columns)
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


def _delete(path: pathlib.Path) -> None:
    """Deletes a result that an earlier call wrote, or that may be replaced."""
    if path.is_dir() and not path.is_symlink():
        if not arrays.is_zarr(path):
            raise FileExistsError(
                f"{path} is a folder, which is not replaced; choose another name."
            )
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
