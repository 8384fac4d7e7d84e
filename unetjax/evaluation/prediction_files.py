"""Files of predictions: overlay, mask or label image, and probabilities."""

import contextlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from unetjax import signals
from unetjax.evaluation.prediction_record import PredictionRecord, hash_of
from unetjax.files import folders, images
from unetjax.inference.segment import Segmentation
from unetjax.reporting import console, pictures

Image = Shaped[np.ndarray, "H W C"]


class _Files(NamedTuple):
    overlay: pathlib.Path
    result: pathlib.Path
    probs: pathlib.Path | None

    @property
    def names(self) -> list[str]:
        return [path.name for path in self if path is not None]


def write_all(
    segment: Callable[[Image], Segmentation],
    inputs: Sequence[tuple[str, Image | Callable[[], Image]]],
    folder: pathlib.Path,
    *,
    instances: bool,
    probabilities: bool,
    origin: Mapping[str, Any],
    overwrite: bool = False,
) -> int:
    """Segments images and writes the results; the same call resumes an interrupted one.

    The image a becomes a_overlay.png, a_mask.png (0 and 255; the classes, if there are
    more than two) or a_labels.tif (numbered cells), and a_probs.tif. A record in the
    folder, `predictions.jsonl`, says from what each result was made: an image is
    skipped if its pixels, the model and the options are those of the record, and its
    results are as they were written. No other file is overwritten, unless requested.

    Args:
      segment: From an image to its segmentation, such as `unetjax.segment` of a model.
      inputs: Name and image, or name and a function that reads the image.
      folder: Where to write; created if absent.
      instances: Whether to write numbered cells instead of a mask.
      probabilities: Whether to write them as well: float32, one channel per class.
      origin: What results depend on besides the image, fit for JSON: model, options.
      overwrite: Whether results of these images are replaced, whatever made them.

    Returns:
      How many images had their results already.

    Raises:
      FileExistsError: If an output file exists that is not of the record, or has been
        changed since; nothing is segmented then.
      ValueError: If two images have the same name, if the folder has results of
        another model or other options or of other pixels, or if `segment` raises it.
      StoppedError: On a signal; all files are whole.
    """
    names = [name for name, _ in inputs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"several images are called {', '.join(twice)}; segment them into separate "
            "folders."
        )
    outputs = {
        name: _Files(
            folder / f"{name}_overlay.png",
            folder / (f"{name}_labels.tif" if instances else f"{name}_mask.png"),
            folder / f"{name}_probs.tif" if probabilities else None,
        )
        for name in names
    }
    origin = {**origin, "instances": instances, "probabilities": probabilities}
    record = PredictionRecord(folder, origin)
    files = {name: each.names for name, each in outputs.items()}
    if not overwrite:
        record.check(files)
    num_skipped = num_done = 0
    with (
        contextlib.ExitStack() as stack,
        console.progress("segmenting", total=len(inputs), unit="image") as bar,
    ):
        try:
            for name, image in inputs:
                pixels = image() if callable(image) else image
                digest, cells = hash_of(pixels), {}
                if not overwrite and record.has(name, digest):
                    num_skipped += 1
                else:
                    try:
                        prediction = segment(pixels)
                    except ValueError as error:
                        raise ValueError(f"{name}: {error}") from None
                    if num_done == num_skipped:  # the first that is written
                        stack.enter_context(folders.claim(folder))
                        record.open(overwrite=overwrite)
                    record.begin(name, digest, files[name])
                    _write(pixels, prediction, outputs[name], instances=instances)
                    record.end(name)
                    cells = {"cells": int(prediction.instances.max(initial=0))}
                num_done += 1
                bar.advance(**cells)
        except signals.StoppedError as stop:
            raise signals.StoppedError(
                stop.signum,
                f"stopped after {num_done} of {len(inputs)} images; run the same "
                "command again to resume.",
            ) from None
    return num_skipped


def _write(
    image: Image, prediction: Segmentation, files: _Files, *, instances: bool
) -> None:
    picture = pictures.outlines(pictures.grey(image), prediction.instances)
    for path in filter(None, files):
        path.unlink(missing_ok=True)  # of this record, or to be overwritten
    pictures.write_png(files.overlay, picture)
    if instances:
        images.write_labels(files.result, prediction.instances)
    else:
        scale = 255 if prediction.probs.shape[-1] == 2 else 1
        mask = (scale * prediction.label[..., np.newaxis]).astype(np.uint8)
        images.write_image(files.result, mask)
    if files.probs is not None:
        images.write_image(files.probs, prediction.probs)
