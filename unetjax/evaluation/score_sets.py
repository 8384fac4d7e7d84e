"""Families of scores to choose from: cells, membranes, the Cell Tracking Challenge."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from unetjax.data.examples import Example
from unetjax.data.splits import Split
from unetjax.evaluation import comparison, scoring
from unetjax.inference.segment import Segmentation
from unetjax.inference.segment import segment as segment_trained
from unetjax.inference.trained_model import TrainedModel
from unetjax.metrics import cells, em, tracking
from unetjax.reporting.report import Table

Image = Shaped[np.ndarray, "H W C"]


class ScoreSet(NamedTuple):
    """One family of scores.

    Attributes:
      score: Counts of one image.
      add: Adds the counts of two sets of images.
      summary: From counts to scores by name.
      shown: Scores worth a line, with their names for people.
      columns: Scores worth a column for each image, by a short name.
    """

    score: Callable[[Example, Segmentation], Any]
    add: Callable[[Any, Any], Any]
    summary: Callable[[Any], dict[str, float]]
    shown: dict[str, str]
    columns: dict[str, str]


def total(score_set: ScoreSet, counts: Sequence[Any]) -> dict[str, float]:
    """Returns every score of a set of at least one image, from its summed counts."""
    return score_set.summary(functools.reduce(score_set.add, counts))


def compare(
    score_set: ScoreSet,
    trained: TrainedModel,
    split: Split,
    *,
    segment: Callable[[Image], Segmentation] | None = None,
) -> Table:
    """Returns the scores of a model on held-out images, beside those of no model.

    What costs nothing is the floor: Otsu's threshold, where there are two classes, and
    cell everywhere.

    Args:
      score_set: Which scores.
      trained: The model.
      split: The images of the run.
      segment: How the model segments, such as averaged over versions and with others;
        `evaluation.segment` by default.
    """
    if segment is None:
        segment = functools.partial(segment_trained, trained)
    images = split.validation
    found = {"U-Net": [segment(example.image) for example in images]}
    if trained.model.num_classes == 2:
        found["Otsu + components"] = comparison.baseline(split, trained.instances)
    found["cell everywhere"] = [everywhere(example) for example in images]
    scores = {
        name: total(score_set, list(map(score_set.score, images, each)))
        for name, each in found.items()
    }
    return beside(score_set, scores)


def beside(score_set: ScoreSet, scores: dict[str, dict[str, float]]) -> Table:
    """Returns a table of a line a score and a column for each thing that is scored."""
    rows: list[dict[str, int | float | str]] = []
    for name, words in score_set.shown.items():
        counted = int if name.startswith("num_") else float
        values = {column: counted(each[name]) for column, each in scores.items()}
        rows.append({"score": words, **values})
    return Table(["score", *scores], rows, "")


def everywhere(example: Example) -> Segmentation:
    """Returns the prediction of cell at every pixel of an image."""
    label = np.ones(example.label.shape, np.int32)
    return Segmentation(np.eye(2, dtype=np.float32)[label], label, label)


def _cells(example: Example, found: Segmentation) -> cells.Scores:
    classes = max(found.probs.shape[-1], 1 + int(example.label.max()))
    return scoring.score_example(example, found, num_classes=classes)


def _em(example: Example, found: Segmentation) -> em.Scores:
    # Rounding may have made the sum of several classes larger than 1.
    probability = np.minimum(found.probs[..., 1:].sum(axis=-1), 1)
    return em.score(example.label, probability)


def _tracking(example: Example, found: Segmentation) -> tracking.Scores:
    known = example.label >= 0
    cells = (np.where(known, x, 0) for x in (example.instances, found.instances))
    return tracking.score(*cells)


SCORE_SETS = {
    "cells": ScoreSet(
        _cells,
        cells.add,
        cells.summary,
        shown=comparison.SHOWN,
        columns={
            "mean IoU": "mean_iou",
            "mean Dice": "mean_dice",
            "AP50": "ap50",
            "mean AP": "mean_ap_pooled",
            "separated": "separated_close",
        },
    ),
    "em": ScoreSet(
        _em,
        em.add,
        em.summary,
        shown={
            "v_rand": "V_rand, borders thinned",
            "v_info": "V_info, borders thinned",
            "warping_error": "warping error",
            "rand_error": "Rand error",
            "pixel_error": "pixel error",
        },
        columns={
            "V_rand": "v_rand",
            "V_info": "v_info",
            "warping": "warping_error",
            "Rand": "rand_error",
            "pixel": "pixel_error",
        },
    ),
    "tracking": ScoreSet(
        _tracking,
        tracking.add,
        tracking.summary,
        shown={
            "seg": "SEG",
            "det": "DET",
            "op_csb": "OP_CSB",
            "num_cells": "reference cells",
            "num_missed": "missed",
            "num_splits": "to be split",
            "num_extra": "extra",
        },
        columns={"SEG": "seg", "DET": "det", "OP_CSB": "op_csb"},
    ),
}
