"""Segmentation of large images, block by block; an interrupted one is resumed."""

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Integer

from unetjax.devices import memory as device_memory
from unetjax.files import folders, json_files
from unetjax.inference import predict
from unetjax.inference import tta as test_time
from unetjax.inference.predict import Engine, Network
from unetjax.inference.segment import check_averaged
from unetjax.inference.tta import TTA
from unetjax.large import arrays, labelling, sources
from unetjax.large.arrays import StoredArray
from unetjax.large.grid import BLOCK, CHUNK, Block, Grid
from unetjax.large.sources import Source
from unetjax.network import input_scaling
from unetjax.network.input_scaling import GreyRange
from unetjax.reporting import console

_MANIFEST, _DONE = "manifest.json", "done.jsonl"
_BATCH_VALUES = 2**24  # pixels times features: about half a gigabyte
# An estimate: with components as cells, an image of 8,192 x 8,192 pixels and a network
# of 3 features took 1.5 GiB, where this says 1.6.
_BYTES_OF_PROGRAM = 2**28
_BYTES_A_PIXEL = 120  # of a block while cells are numbered


class Part(NamedTuple):
    """One of equal parts of the blocks of an image, for one of several processes.

    Attributes:
      index: Which part, from 1.
      count: How many parts there are.
    """

    index: int
    count: int

    def has(self, number: int) -> bool:
        """Returns whether a block belongs to the part.

        Example:
          >>> [number for number in range(8) if Part(2, 3).has(number)]
          [1, 4, 7]
        """
        return number % self.count == self.index - 1

    @property
    def record(self) -> str:
        """Name of the file that lists its blocks that are done."""
        return _DONE if self.count == 1 else f"done_{self.index}_of_{self.count}.jsonl"


class LargeSegmentation(NamedTuple):
    """The segmentation of a large image, of which parts are read.

    Attributes:
      outputs: Probabilities and maps of every pixel, float32 [H, W, K].
      read_label: Returns the most probable class of some rows and columns.
      read_instances: Returns the cells of some rows and columns; None if they were not
        asked for.
      num_instances: Number of cells.
    """

    outputs: StoredArray
    read_label: Callable[[slice, slice], Integer[np.ndarray, "h w"]]
    read_instances: Callable[[slice, slice], Integer[np.ndarray, "h w"]] | None
    num_instances: int


class Needs(NamedTuple):
    """What the segmentation of an image takes, in bytes."""

    memory: int
    disk: int


def needs(grid: Grid, trained: Network, *, instances: bool, num_done: int = 0) -> Needs:
    """Returns an estimate of the memory and the disk that a segmentation takes.

    Args:
      grid: The image and its blocks.
      trained: The model.
      instances: Whether cells are numbered.
      num_done: Number of blocks whose outputs are on disk already.
    """
    pixels = grid.height * grid.width
    block = min(grid.size + 256, grid.height) * min(grid.size + 256, grid.width)
    outputs = 4 * trained.model.num_outputs
    memory = _BYTES_OF_PROGRAM + 32 * _BATCH_VALUES
    with contextlib.suppress(ValueError):  # the memory cannot be determined
        memory = min(memory, _BYTES_OF_PROGRAM + device_memory.limit())
    memory += block * (_BYTES_A_PIXEL + 3 * outputs)
    left = 1 - num_done / grid.num_blocks
    return Needs(memory, int(pixels * (outputs * left + (34 if instances else 0))))


def segment_large(
    trained: Network,
    source: Source,
    folder: pathlib.Path,
    *,
    others: Sequence[Network] = (),
    tta: TTA = "none",
    engines: Sequence[Engine] | None = None,
    instances: bool = True,
    origin: Mapping[str, Any] | None = None,
    digest: str | None = None,
    block_size: int = BLOCK,
    title: str = "segmenting",
) -> LargeSegmentation:
    """Segments an image of which only blocks are held in memory.

    Probabilities equal those of `predict` up to rounding; cells are those of `segment`,
    see `labelling`. Averages over transformations (`tta`) are those of the image
    extended by its mirror image to multiples of 2^depth.

    Args:
      trained: A `TrainedModel`. Its input scaling is measured on the whole image.
      source: The image.
      folder: Receives the outputs and intermediate arrays; a folder that does not
        exist, or one of an interrupted call, which is resumed.
      others: Further models whose outputs are averaged, see `segment`.
      tta: Rotations and reflections over which probabilities are averaged; not `rot7`.
      engines: One for each model, see `predict`; JAX by default.
      instances: Whether to number cells.
      origin: What the result depends on besides the image and the arguments, fit for
        JSON, such as fingerprints of the models.
      digest: That of the image, from `sources.digest`; computed by default.
      block_size: Side of a block, in pixels; a multiple of CHUNK.
      title: Shown with the progress.

    Raises:
      ValueError: If the folder belongs to another image or other options, or an option
        is not available for large images.
      OSError: If the disk is too small.
    """
    outputs = predict_blocks(
        trained,
        source,
        folder,
        others=others,
        tta=tta,
        engines=engines,
        instances=instances,
        origin=origin,
        digest=digest,
        block_size=block_size,
        title=title,
    )
    model, cells = trained.model, None
    if instances:
        grid = Grid(source.height, source.width, block_size)
        passes = labelling.num_passes(trained.instances)
        total = grid.num_blocks * passes
        with console.progress(f"{title}, cells", total=total, unit="block") as bar:
            cells = labelling.number_cells(
                outputs, grid, model, trained.instances, folder, advance=bar.advance
            )

    def read_label(rows: slice, columns: slice) -> Integer[np.ndarray, "h w"]:
        return predict.class_map(
            predict.split(outputs.read(rows, columns), model).probs
        )

    return LargeSegmentation(
        outputs,
        read_label,
        None if cells is None else cells.read,
        0 if cells is None else int(cells.kept.size),
    )


def predict_blocks(
    trained: Network,
    source: Source,
    folder: pathlib.Path,
    *,
    others: Sequence[Network] = (),
    tta: TTA = "none",
    engines: Sequence[Engine] | None = None,
    instances: bool = True,
    origin: Mapping[str, Any] | None = None,
    digest: str | None = None,
    block_size: int = BLOCK,
    part: Part | None = None,
    title: str = "segmenting",
) -> StoredArray:
    """Returns probabilities and maps of an image, those of a part of its blocks.

    The arguments, and what is raised, are those of `segment_large`.

    Args:
      trained: The model.
      source: The image.
      folder: Receives the outputs. Several processes may predict different parts into
        one folder at the same time.
      others: Further models.
      tta: Test-time augmentation.
      engines: One for each model.
      instances: Whether the disk must suffice for cells as well.
      origin: What the result depends on.
      digest: That of the image.
      block_size: Side of a block.
      part: Which blocks to predict; all by default.
      title: Shown with the progress.
    """
    if tta == "rot7":
        raise ValueError(
            "tta 'rot7' rotates the whole image, which does not fit into memory; use "
            "'d4'."
        )
    models = (trained, *others)
    check_averaged(trained, others)
    grid = Grid(source.height, source.width, block_size)
    folder.mkdir(parents=True, exist_ok=True)
    _agree(
        folder,
        {
            "image": digest or sources.digest(source),
            "block_size": block_size,
            "tta": tta,
            "models": len(models),
            **(origin or {}),
        },
    )
    part = part or Part(1, 1)
    done = _read_done(folder, part)
    folders.check_space(
        folder, needs(grid, trained, instances=instances, num_done=len(done)).disk
    )
    # Of whole chunks: one that a killed process left torn is then replaced, not read.
    sides = [-(-side // CHUNK) * CHUNK for side in (grid.height, grid.width)]
    num_outputs = trained.model.num_outputs
    stored = arrays.create(
        folder / "outputs",
        (*sides, num_outputs),
        (CHUNK, CHUNK, num_outputs),
        np.float32,
    )
    ranges = [
        input_scaling.measure(lambda: sources.parts(source, grid), each.input_scaling)
        for each in models
    ]
    engines = engines or [predict.jax_engine(each) for each in models]
    own = [block for block in grid.blocks() if part.has(block.number)]
    left = [block for block in own if block.number not in done]
    with console.progress(
        title, total=len(own), done=len(own) - len(left), unit="block"
    ) as bar:
        for block in left:
            parts = [
                predict_block(each, source, block, found, engine=engine, tta=tta)
                for each, found, engine in zip(models, ranges, engines, strict=True)
            ]
            # Written before it is noted, so what is noted is complete.
            stored.write(*_filled(test_time.mean(parts), block, grid, sides))
            _note_done(folder / part.record, block.number)
            bar.advance()
    return stored.crop(grid.height, grid.width)


def predict_block(
    trained: Network,
    source: Source,
    block: Block,
    measured: GreyRange | None,
    *,
    engine: Engine,
    tta: TTA = "none",
) -> Float32[np.ndarray, "h w K"]:
    """Returns probabilities and maps of a block, equal to those of the whole image.

    Blocks begin at multiples of the period of the network, so that all of them see the
    same grid of pooling.

    Args:
      trained: A `TrainedModel`.
      source: The image.
      block: Which part of it.
      measured: From `input_scaling.measure`.
      engine: From tiles to logits.
      tta: See `segment_large`.

    Raises:
      ValueError: If the block begins between two multiples.
    """
    geometry = trained.model.geometry
    if block.rows.start % geometry.period or block.columns.start % geometry.period:
        raise ValueError(
            f"blocks must begin at multiples of {geometry.period} pixels, got row "
            f"{block.rows.start} and column {block.columns.start}."
        )

    def extended(span: slice) -> slice:
        length = -(-(span.stop - span.start) // geometry.period) * geometry.period
        return slice(
            span.start - geometry.margin, span.start + length + geometry.margin
        )

    part = sources.read_mirrored(source, extended(block.rows), extended(block.columns))
    values = input_scaling.scale_part(part, trained.input_scaling, measured)
    height, width = (side - 2 * geometry.margin for side in values.shape[:2])
    outputs = predict.predict_scaled(
        trained,
        values,
        (height, width),
        engine=engine,
        tta=tta,
        max_values=_BATCH_VALUES,
    )
    return outputs[
        : block.rows.stop - block.rows.start, : block.columns.stop - block.columns.start
    ]


def _filled(
    values: Float32[np.ndarray, "h w K"], block: Block, grid: Grid, sides: Sequence[int]
) -> tuple[Float32[np.ndarray, "H W K"], slice, slice]:
    """Returns the values of a block and its place, up to the end of the last chunk."""
    rows, columns = (
        slice(span.start, side if span.stop == end else span.stop)
        for span, end, side in zip(block[1:], grid[:2], sides, strict=True)
    )
    below, right = rows.stop - block.rows.stop, columns.stop - block.columns.stop
    return np.pad(values, [(0, below), (0, right), (0, 0)]), rows, columns


def _agree(folder: pathlib.Path, origin: dict[str, Any]) -> None:
    """Notes what results are made of, and refuses those that are made of others."""
    path, origin = folder / _MANIFEST, json.loads(json.dumps(origin))
    if not path.exists():
        json_files.write(path, origin)
        return
    found = json_files.read(path)
    if found != origin:
        found = found if isinstance(found, dict) else {}
        changed = [
            f"{name}: {found.get(name)}, now {origin.get(name)}"
            for name in sorted(found.keys() | origin.keys())
            if found.get(name) != origin.get(name)
        ]
        raise ValueError(
            f"{folder} holds an interrupted segmentation of another image or with "
            f"other options ({'; '.join(changed)}); delete it, name "
            "another --out, or begin anew with --overwrite."
        )


def _read_done(folder: pathlib.Path, part: Part) -> set[int]:
    """Returns the numbers of the blocks that are complete, of all parts."""
    done = set[int]()
    for path in folder.glob("done*.jsonl"):
        content = path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if path.name == part.record:  # a killed process may have left half a line
            os.truncate(path, len(complete))
        done |= {int(line) for line in complete.split() if line.isdigit()}
    return done


def _note_done(path: pathlib.Path, number: int) -> None:
    with path.open("a", encoding="ascii") as file:
        file.write(f"{number}\n")
