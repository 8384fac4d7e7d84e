"""The families of scores to choose from: cells, pixels, EM membranes, tracking."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from unetjax.data.examples import Example
from unetjax.evaluation import scoring
from unetjax.inference.segment import Segmentation
from unetjax.metrics.metric import Metric, merge_all
from unetjax.reporting.report import Table


class ScoreSet(NamedTuple):
    """One family of scores.

    Attributes:
      measure: From an annotated image and its prediction to their metric.
      shown: Scores worth a row in a table, with their titles.
      columns: Titles of the columns of a table of images, with their scores.
      ranking: The score by which methods are compared; larger is better.
    """

    measure: Callable[[Example, Segmentation], Metric]
    shown: dict[str, str]
    columns: dict[str, str]
    ranking: str

    def compute(
        self, examples: Iterable[Example], predictions: Iterable[Segmentation]
    ) -> dict[str, float]:
        """Returns every score of the predictions of at least one image."""
        return merge_all(map(self.measure, examples, predictions)).compute()

    def table(
        self, columns: Mapping[str, Mapping[str, float]], caption: str = ""
    ) -> Table:
        """Returns a row for each score that is shown, a column for each set of scores.

        Args:
          columns: All scores of each column, by its title.
          caption: What was scored.
        """
        rows: list[dict[str, int | float | str]] = []
        for name, title in self.shown.items():
            number = int if name.startswith("num_") else float
            values = {column: number(each[name]) for column, each in columns.items()}
            rows.append({"score": title, **values})
        return Table(["score", *columns], rows, caption)


CELLS = ScoreSet(
    scoring.measure_cells,
    shown={
        "accuracy": "pixel accuracy",
        "mean_iou": "IoU, mean of classes",
        "mean_dice": "Dice, mean of classes",
        "ap50": "AP at IoU 0.5",
        "mean_ap_pooled": "AP, mean of IoU 0.5 to 0.95",
        "separated_touching": "touching pairs separated",
        "separated_close": "pairs within 5 pixels separated",
    },
    columns={
        "mean IoU": "mean_iou",
        "mean Dice": "mean_dice",
        "AP50": "ap50",
        "mean AP": "mean_ap_pooled",
        "separated": "separated_close",
    },
    ranking="ap50",
)

PIXELS = ScoreSet(
    scoring.measure_pixels,
    shown={
        "dice": "Dice",
        "iou": "IoU",
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "precision": "precision",
        "auc": "area under the ROC curve",
        "f1": "F1 within the tolerance",
        "surface_distance": "distance of the boundaries, pixels",
        "dice_per_image": "Dice, mean of images",
        "num_empty": "images without true foreground",
    },
    columns={
        "Dice": "dice",
        "IoU": "iou",
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "F1": "f1",
    },
    ranking="dice",
)

# Scores of one foreground class; where one of them chooses the model, no cells count.
_OF_FOREGROUND = ("iou_1", "dice_1")


def suiting(best_metric: str, *, num_classes: int) -> ScoreSet:
    """Returns the family of scores to report where a score chooses the model.

    Example:
      >>> suiting("dice_1", num_classes=2) is PIXELS
      True
    """
    is_foreground = num_classes == 2 and best_metric in _OF_FOREGROUND
    return PIXELS if is_foreground else CELLS


def title(metric: str) -> str:
    """Returns the name that reports show for a metric; that of the code if none do.

    Example:
      >>> title("ap50"), title("dice_1"), title("loss")
      ('AP at IoU 0.5', 'Dice', 'loss')
    """
    return CELLS.shown.get(metric) or PIXELS.shown.get(
        metric.removesuffix("_1"), metric
    )


SCORE_SETS = {
    "cells": CELLS,
    "pixels": PIXELS,
    "em": ScoreSet(
        scoring.measure_em,
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
        ranking="v_rand",
    ),
    "tracking": ScoreSet(
        scoring.measure_tracking,
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
        ranking="seg",
    ),
}
