"""The order of results: the worst first, by scores, confidence or uncertainty."""

import contextlib
import functools
import math
import pathlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unetjax.annotations import reading
from unetjax.data import mask_formats
from unetjax.data.mask_formats import MaskFormat, MaskType
from unetjax.evaluation import scored_files
from unetjax.files import images
from unetjax.metrics.cells import CellMetric
from unetjax.metrics.metric import merge_all
from unetjax.viewer.layers import is_large, read_table
from unetjax.viewer.results import Result

Compute = Callable[[], float | None]

_MOST = 2**27  # pixels of masks from which their meaning is inferred


class Ranked(NamedTuple):
    """How far the ranking has come.

    Attributes:
      measure: Name of the numbers; empty where results have none.
      ascending: Whether small numbers are the worst.
      values: The number of each result; None where it has none, or none yet.
      problems: Why a result has no number, one sentence; empty where there is none.
      done: Whether all results have been looked at.
    """

    measure: str
    ascending: bool
    values: list[float | None]
    problems: list[str]
    done: bool

    @property
    def order(self) -> list[int]:
        """The numbers of the results, the worst first; those without a value last."""
        sign = 1 if self.ascending else -1

        def key(index: int) -> tuple[bool, float, int]:
            value = self.values[index]
            return value is None, sign * (value or 0.0), index

        return sorted(range(len(self.values)), key=key)


class Ranking:
    """Computes a number for each result in a thread, while results are looked at.

    With truth: AP at IoU 0.5 of cells, IoU of foreground, or mean IoU of classes.
    Else the mean confidence of the cells, if there are tables, or the mean uncertainty.

    Args:
      results: The results.
    """

    def __init__(self, results: Sequence[Result]) -> None:
        self._results = results
        self._values: list[float | None] = [None] * len(results)
        self._problems = [""] * len(results)
        self._measure, self._ascending, self._done = "", True, False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begins to compute."""
        self._thread.start()

    def wait(self) -> Ranked:
        """Returns the ranking when it is complete."""
        self._thread.join()
        return self.state

    @property
    def state(self) -> Ranked:
        """How far it has come."""
        done = self._done  # first, as the others may change until then
        return Ranked(
            *(self._measure, self._ascending),
            *(list(self._values), list(self._problems), done),
        )

    def _run(self) -> None:
        try:
            self._measure, self._ascending, tasks = _tasks(self._results)
            for index, compute in tasks.items():
                with self._noting(index):
                    self._values[index] = compute()
        except (ValueError, OSError, MemoryError) as error:  # the same for all
            self._problems = [str(error)] * len(self._results)
        finally:
            self._done = True

    @contextlib.contextmanager
    def _noting(self, index: int) -> Iterator[None]:
        try:
            yield
        except (ValueError, OSError, MemoryError) as error:
            self._problems[index] = str(error)


def _tasks(results: Sequence[Result]) -> tuple[str, bool, dict[int, Compute]]:
    """Returns the name of the numbers, whether small ones are bad, how to compute."""
    partial = functools.partial
    pairs = {
        index: (each.truth, each.prediction)
        for index, each in enumerate(results)
        if each.truth is not None and each.prediction is not None
    }
    if pairs:
        formats = _formats(list(pairs.values()))
        measure = "AP50" if formats[0].mask_type == "instances" else "IoU"
        return (
            measure,
            True,
            {i: partial(_score, *p, *formats) for i, p in pairs.items()},
        )
    tables = {i: each.table for i, each in enumerate(results) if each.table}
    if tables:
        means = {i: partial(_mean_confidence, path) for i, path in tables.items()}
        return "confidence", True, means
    maps = {i: each.uncertainty for i, each in enumerate(results) if each.uncertainty}
    if maps:
        return (
            "uncertainty",
            False,
            {i: partial(_mean, path) for i, path in maps.items()},
        )
    return "", True, {}


def _formats(
    pairs: Sequence[tuple[pathlib.Path, pathlib.Path]],
) -> tuple[MaskFormat, MaskFormat]:
    """Returns how the numbers of truth and predictions are read.

    They are inferred from all files, or the first ones where all would be too large.
    """
    true, masks, num_pixels = list[np.ndarray](), list[np.ndarray](), 0
    for truth, prediction in pairs:
        if num_pixels > _MOST:
            break
        if not is_large(prediction):
            true += scored_files.read_truth(truth, prediction)
            masks += list(images.read_label_stack(prediction))
            num_pixels = sum(mask.size for mask in (*true, *masks))
    outlined = any(reading.is_annotation(truth) for truth, _ in pairs)
    true_type: MaskType = "instances" if outlined else "auto"
    return scored_files.infer_formats(
        true,
        masks,
        "auto",
        true_type,
        ignore=None,
        truth=str(pairs[0][0].parent),
        predicted=str(pairs[0][1].parent),
    )


def _score(
    truth: pathlib.Path, prediction: pathlib.Path, known: MaskFormat, own: MaskFormat
) -> float | None:
    """Returns the score of an image; that of all sections of a stack."""
    if is_large(prediction):
        raise ValueError(
            f"{prediction.name} is too large to be scored here; use  unetjax evaluate."
        )
    true = scored_files.read_truth(truth, prediction)
    masks = images.read_label_stack(prediction)
    if len(true) != len(masks):
        raise ValueError(
            f"{truth} has {len(true)} sections, {prediction} has {len(masks)}; both "
            "must have the same number."
        )
    num_classes = max(known.num_classes, own.num_classes)
    metrics = list[CellMetric]()
    for each, mask in zip(true, masks, strict=True):
        example = mask_formats.to_example(each[..., None], each, "", known)
        found = scored_files.to_segmentation(mask, own, num_classes)
        metrics.append(
            CellMetric.from_image(
                example.label,
                example.instances,
                found.label,
                found.instances,
                num_classes=num_classes,
            )
        )
    scores = merge_all(metrics).compute()
    if known.mask_type == "instances":
        value = scores["ap50"]
    else:
        value = scores["iou_1" if num_classes == 2 else "mean_iou"]
    return value if math.isfinite(value) else None


def _mean_confidence(path: pathlib.Path) -> float | None:
    """Returns the mean confidence of the cells in a table."""
    values = [row["confidence"] for row in read_table(path) if "confidence" in row]
    return float(np.mean(values)) if values else None


def _mean(path: pathlib.Path) -> float:
    """Returns the mean of an image."""
    return float(images.read_stack(path).mean())
