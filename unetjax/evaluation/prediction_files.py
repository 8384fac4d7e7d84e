"""Files of predictions: overlay, mask or label image, and probabilities."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from unetjax import signals
from unetjax.data.examples import array_hash
from unetjax.evaluation.prediction_record import PredictionRecord
from unetjax.files import folders, images
from unetjax.files.names import OVERLAY, PROBS, UNCERTAINTY
from unetjax.files.pages import Metadata
from unetjax.inference.segment import Segmentation
from unetjax.instances import measurements, outlines
from unetjax.large.files import LargeFile
from unetjax.reporting import console, pictures, records, regions

Image = Shaped[np.ndarray, "H W C"]
Images = Shaped[np.ndarray, "*N H W C"]
Variance = Float[np.ndarray, "H W"]
Uncertain = tuple[Segmentation, Variance]


class Input(NamedTuple):
    """What is segmented.

    Attributes:
      name: What the names of its results begin with.
      image: The image, or a stack of images, or a function that reads it.
      metadata: What its file says about it; results keep pixel size and axes.
      source: Its file, which the record names.
    """

    name: str
    image: Images | Callable[[], Images]
    metadata: Metadata = Metadata()
    source: pathlib.Path | None = None


class Written(NamedTuple):
    """What became of the images.

    Attributes:
      num_skipped: How many had their results already.
      failures: A sentence for each that could not be read or segmented.
    """

    num_skipped: int
    failures: list[str]


class _UnusableError(Exception):
    """An image cannot be read or segmented; the others are."""


class _Files(NamedTuple):
    overlay: pathlib.Path
    result: pathlib.Path
    probs: pathlib.Path | None
    uncertainty: pathlib.Path | None
    table: pathlib.Path | None
    rois: pathlib.Path | None
    geojson: pathlib.Path | None

    @property
    def names(self) -> list[str]:
        return [path.name for path in self if path is not None]


def chosen_results(
    *, instances: bool, probabilities: bool, table: bool, rois: bool, uncertainty: bool
) -> dict[str, bool]:
    """Returns which results are written, as the record of a folder states it."""
    options = {"instances": instances, "probabilities": probabilities, "table": table}
    # Records of earlier versions lack these.
    further = {"rois": rois, "uncertainty": uncertainty}
    return options | {name: True for name, chosen in further.items() if chosen}


def write_all(
    segment: Callable[[Image], Segmentation | Uncertain],
    inputs: Sequence[Input],
    folder: pathlib.Path,
    *,
    instances: bool,
    probabilities: bool,
    table: bool = False,
    rois: bool = False,
    uncertainty: bool = False,
    large: Sequence[LargeFile] = (),
    inspect: Callable[[str, Images, Sequence[Segmentation]], object] | None = None,
    origin: Mapping[str, Any],
    overwrite: bool = False,
) -> Written:
    """Segments images and writes the results; the same call resumes an interrupted one.

    The image a becomes a_overlay.png, a_mask.png (0 and 255; the classes, if there are
    more than two) or a_labels.tif (numbered cells), and a_probs.tif. Results of a stack
    are TIFFs of as many pages. An image that cannot be read or segmented stops nothing,
    nor does one of which the folder has results of other pixels.

    A record in the folder, `predictions.jsonl`, says from what each result was made: an
    image is skipped if its pixels, the model and the options are those of the record,
    and its results are as they were written. No other file is overwritten, unless
    requested.

    Args:
      segment: From an image to its segmentation, such as `unetjax.segment` of a model.
      inputs: The images.
      folder: Where to write; created if absent.
      instances: Whether to write numbered cells instead of a mask.
      probabilities: Whether to write them as well: float32, one channel per class.
      table: Whether to write a_objects.csv, a row for each cell, see
        `instances.measurements.measure_objects`.
      rois: Whether to write the outline of each cell, as a_rois.zip for ImageJ and
        a_objects.geojson for QuPath, see `reporting.regions`.
      uncertainty: Whether `segment` returns a variance as well, which is written as
        a_uncertainty.tif, float32; see `inference.segment.segment_with_variance`.
      large: Files that are segmented block by block, after the others.
      inspect: Called with name, images and predictions of each of the others.
      origin: What results depend on besides the image, fit for JSON: model, options.
      overwrite: Whether results of these images are replaced, whatever made them.

    Raises:
      FileExistsError: If an output file exists that is not of the record, or has been
        changed since; nothing is segmented then.
      ValueError: If two images have the same name, if the folder has results of
        another model or other options, or if no image can be read and segmented.
      ModuleNotFoundError: If ROI sets are to be written and roifile is not installed.
      StoppedError: On a signal; all files are whole.
    """
    names = [each.name for each in (*inputs, *large)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"several images are called {', '.join(twice)}; segment them into separate "
            "folders."
        )
    if rois:
        regions.check_imagej()
    options = chosen_results(
        instances=instances,
        probabilities=probabilities,
        table=table,
        rois=rois,
        uncertainty=uncertainty,
    )
    outputs = {each.name: _outputs(folder, each, **options) for each in inputs}
    record = PredictionRecord(folder, {**origin, **options})
    if not overwrite:
        record.check({name: each.names for name, each in outputs.items()})
        record.check({each.name: each.names for each in large})

    def start() -> None:
        if not record.is_open:
            stack.enter_context(folders.claim(folder))
            record.open(overwrite=overwrite)

    def do(given: Input) -> int | None:
        """Returns the number of cells written; None if the results are there."""
        pixels = _read(given)
        digest = array_hash(pixels)
        if not overwrite and _has(record, given.name, digest):
            return None
        pages = pixels if given.metadata.is_stack else pixels[np.newaxis]
        predictions, variances = _segment(segment, pages, given.name)
        if inspect is not None:
            inspect(given.name, pages, predictions)
        start()
        files = outputs[given.name]
        record.begin(given.name, digest, files.names, given.source)
        _write(pages, predictions, files, instances=instances, metadata=given.metadata)
        if files.uncertainty is not None:
            stack = np.stack(variances)[..., np.newaxis]
            pixels = stack if given.metadata.is_stack else stack[0]
            images.write_image(files.uncertainty, pixels, given.metadata)
        record.end(given.name)
        return sum(int(prediction.instances.max()) for prediction in predictions)

    def do_large(given: LargeFile) -> int | None:
        try:
            return given.segment(
                folder, record, start=start, origin=record.origin, overwrite=overwrite
            )
        except ValueError as error:
            raise _UnusableError(str(error)) from error

    num_skipped = num_done = 0
    failures = list[str]()

    def attempt(action: Callable[[], int | None]) -> int | None:
        """Returns the number of cells written, and counts what became of an image."""
        nonlocal num_skipped, num_done
        try:
            cells = action()
        except signals.StoppedError as stop:
            raise signals.StoppedError(
                stop.signum,
                f"stopped after {num_done} of {len(names)} images; run the same "
                "command again to resume.",
            ) from None
        except _UnusableError as error:
            failures.append(str(error))
            return None
        num_done += 1
        num_skipped += cells is None
        return cells

    with contextlib.ExitStack() as stack:
        if inputs:
            with console.progress("segmenting", total=len(inputs), unit="image") as bar:
                for given in inputs:
                    cells = attempt(functools.partial(do, given))
                    bar.advance(**({} if cells is None else {"cells": cells}))
        for each in large:  # each shows its own progress
            attempt(functools.partial(do_large, each))
    if failures and not num_done:
        raise ValueError("\n".join(failures))
    return Written(num_skipped, failures)


def _outputs(
    folder: pathlib.Path,
    given: Input,
    *,
    instances: bool,
    probabilities: bool,
    table: bool,
    rois: bool = False,
    uncertainty: bool = False,
) -> _Files:
    name, ending = given.name, "tif" if given.metadata.is_stack else "png"
    return _Files(
        overlay=folder / f"{name}{OVERLAY}.{ending}",
        result=folder
        / (f"{name}_labels.tif" if instances else f"{name}_mask.{ending}"),
        probs=folder / f"{name}{PROBS}.tif" if probabilities else None,
        uncertainty=folder / f"{name}{UNCERTAINTY}.tif" if uncertainty else None,
        table=folder / f"{name}_objects.csv" if table else None,
        rois=folder / f"{name}_rois.zip" if rois else None,
        geojson=folder / f"{name}_objects.geojson" if rois else None,
    )


def _read(given: Input) -> Images:
    try:
        return given.image() if callable(given.image) else given.image
    except (ValueError, OSError) as error:
        raise _UnusableError(str(error)) from error


def _has(record: PredictionRecord, name: str, digest: str) -> bool:
    try:
        return record.has(name, digest)
    except ValueError as error:
        raise _UnusableError(str(error)) from error


def _segment(
    segment: Callable[[Image], Segmentation | Uncertain],
    pages: Images,
    name: str,
) -> tuple[list[Segmentation], list[Variance]]:
    """Returns the segmentations of images, and the variances that came with them."""
    try:
        found = [segment(page) for page in pages]
    except ValueError as error:
        raise _UnusableError(f"{name}: {error}") from error
    alone = [each if isinstance(each, Segmentation) else each[0] for each in found]
    variances = [each[1] for each in found if not isinstance(each, Segmentation)]
    return alone, variances


def _write(
    pages: Shaped[np.ndarray, "N H W C"],
    predictions: Sequence[Segmentation],
    files: _Files,
    *,
    instances: bool,
    metadata: Metadata,
) -> None:
    def collect(values: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(values) if metadata.is_stack else values[0]

    overlays = [
        pictures.outlines(pictures.grey(page), prediction.instances)
        for page, prediction in zip(pages, predictions, strict=True)
    ]
    for path in filter(None, files):
        path.unlink(missing_ok=True)  # of this record, or to be overwritten
    images.write_image(files.overlay, collect(overlays), metadata)
    if instances:
        labels = collect([prediction.instances for prediction in predictions])
        images.write_labels(files.result, labels, metadata)
    else:
        masks = collect([_mask(prediction) for prediction in predictions])
        images.write_image(files.result, masks, metadata)
    if files.probs is not None:
        probs = collect([prediction.probs for prediction in predictions])
        images.write_image(files.probs, probs, metadata)
    if files.table is None and files.rois is None:
        return
    rows = [
        measurements.measure_objects(
            image,
            prediction.instances,
            prediction.label,
            prediction.probs,
            pixel_size=metadata.pixel_size,
            unit=metadata.unit,
        )
        for image, prediction in zip(pages, predictions, strict=True)
    ]
    if files.table is not None:
        with folders.write_atomically(files.table) as temporary:
            text = records.csv_of_pages(rows, is_stack=metadata.is_stack)
            temporary.write_text(text, "utf-8")
    if files.rois is not None and files.geojson is not None:
        found = [
            region
            for page, (prediction, measured) in enumerate(
                zip(predictions, rows, strict=True)
            )
            for region in regions.of_objects(
                measured,
                outlines.trace_objects(prediction.instances),
                page=page,
                has_classes=prediction.probs.shape[-1] > 2,
            )
        ]
        with folders.write_atomically(files.rois) as temporary:
            temporary.write_bytes(regions.imagej_rois(found, metadata))
        with folders.write_atomically(files.geojson) as temporary:
            temporary.write_text(regions.geojson(found, metadata), "utf-8")


def _mask(prediction: Segmentation) -> Shaped[np.ndarray, "H W 1"]:
    """Returns 0 and 255, or the classes, of more than 256 as uint16."""
    num_classes = prediction.probs.shape[-1]
    scale = 255 if num_classes == 2 else 1
    dtype = np.uint8 if num_classes <= 256 else np.uint16
    return (scale * prediction.label[..., np.newaxis]).astype(dtype)
