"""Scores of a model beside those of a simple baseline."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unetjax.data.examples import Example
from unetjax.data.splits import Split
from unetjax.evaluation import scoring
from unetjax.inference.segment import Segmentation, segment
from unetjax.inference.trained_model import TrainedModel
from unetjax.instances.baseline import otsu_components
from unetjax.instances.settings import InstanceSettings
from unetjax.metrics.cells import Scores
from unetjax.reporting.report import Table

SHOWN = {  # scores worth a line, with their names for people
    "accuracy": "pixel accuracy",
    "mean_iou": "IoU, mean of classes",
    "mean_dice": "Dice, mean of classes",
    "ap50": "AP at IoU 0.5",
    "mean_ap_pooled": "AP, mean of IoU 0.5 to 0.95",
    "separated_touching": "touching pairs separated",
    "separated_close": "pairs within 5 pixels separated",
}


class Comparison(NamedTuple):
    """What the best model and the baseline make of the held-out images.

    Attributes:
      scores: Of every image.
      baseline: Of every image, by Otsu's threshold and connected components; empty
        where there are more classes than two.
      found: What the model found, image by image.
    """

    scores: list[Scores]
    baseline: list[Scores]
    found: list[Segmentation]


def compare(trained: TrainedModel, split: Split) -> Comparison:
    """Returns scores of a model and of a simple baseline on the held-out images."""
    num_classes = trained.model.num_classes
    found = [segment(trained, e.image) for e in split.validation]
    rate = functools.partial(scoring.score_example, num_classes=num_classes)
    simple = baseline(split, trained.instances) if num_classes == 2 else []
    return Comparison(
        [rate(e, f) for e, f in zip(split.validation, found, strict=True)],
        [rate(e, f) for e, f in zip(split.validation, simple, strict=False)],
        found,
    )


def baseline(split: Split, settings: InstanceSettings) -> list[Segmentation]:
    """Returns what Otsu's threshold and connected components make of held-out images.

    Args:
      split: The training images say whether cells are brighter than background.
      settings: Those of the model; size limit and hole filling are shared.
    """
    sign = 1 if _cells_are_bright(split.train) else -1
    return [_otsu(example, sign, settings) for example in split.validation]


def scores_table(comparison: Comparison, caption: str) -> Table:
    """Returns the scores of the model, beside the baseline's where there is one."""
    ours = scoring.total(comparison.scores)
    columns = ["score", "U-Net"]
    rows: list[dict[str, int | float | str]] = [
        {"score": words, "U-Net": ours[name]} for name, words in SHOWN.items()
    ]
    if comparison.baseline:
        theirs = scoring.total(comparison.baseline)
        columns.append("Otsu + components")
        for row, name in zip(rows, SHOWN, strict=True):
            row["Otsu + components"] = theirs[name]
    return Table(columns, rows, caption)


def _cells_are_bright(examples: Sequence[Example]) -> bool:
    """Whether cells are brighter than background, over the training images."""
    cells = np.concatenate([e.image[e.label == 1].ravel() for e in examples])
    rest = np.concatenate([e.image[e.label == 0].ravel() for e in examples])
    return not cells.size or not rest.size or float(cells.mean()) > float(rest.mean())


def _otsu(example: Example, sign: int, settings: InstanceSettings) -> Segmentation:
    instances = otsu_components(
        sign * example.image.mean(axis=-1),
        min_size=settings.min_size,
        fill_holes=settings.fill_holes,
    )
    label = (instances > 0).astype(np.int32)
    return Segmentation(np.eye(2, dtype=np.float32)[label], label, instances)
