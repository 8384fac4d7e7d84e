"""Scores of cell segmentation: pixel accuracy, IoU, Dice, AP, separated pairs."""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer

from unetjax.metrics import matching, metric, overlap


class CellMetric(NamedTuple):
    """Counts of one image or of a whole data set, a `Metric`.

    Attributes:
      confusion: Pixels of every true class (row) and predicted class (column).
      matches: Matched cells and separated pairs, at `matching.THRESHOLDS`.
      mean_ap: Summed mean average precision of the images with any cell.
      num_images_with_cells: Number of images with a true or a predicted cell.
      num_images: Number of images.
    """

    confusion: Int[np.ndarray, "K K"]
    matches: matching.Matches
    mean_ap: float
    num_images_with_cells: int
    num_images: int

    @classmethod
    def from_image(
        cls,
        true_label: Integer[np.ndarray, "H W"],
        true_instances: Integer[np.ndarray, "H W"],
        predicted_label: Integer[np.ndarray, "h w"],
        predicted_instances: Integer[np.ndarray, "h w"],
        *,
        num_classes: int,
    ) -> "CellMetric":
        """Counts one image.

        Args:
          true_label: True class of every pixel, in [0, K); pixels with a negative label
            are ignored in all four maps.
          true_instances: Number of the true cell, 0 outside of cells.
          predicted_label: Predicted class, in [0, K).
          predicted_instances: Number of the predicted cell, 0 outside of cells.
          num_classes: K.

        Raises:
          ValueError: If sizes differ, a class is outside of [0, K), or a cell has a
            negative number.
        """
        confusion = overlap.confusion(
            true_label, predicted_label, num_classes=num_classes
        )
        ignored = true_label < 0
        matches = matching.match(
            np.where(ignored, 0, true_instances),
            np.where(ignored, 0, predicted_instances),
        )
        mean_ap = matching.mean_average_precision(matches)
        has_cells = not np.isnan(mean_ap)
        return cls(
            confusion=confusion,
            matches=matches,
            mean_ap=mean_ap if has_cells else 0.0,
            num_images_with_cells=int(has_cells),
            num_images=1,
        )

    def merge(self, other: "CellMetric") -> "CellMetric":
        """Returns the counts of both sets of images, which have the same classes."""
        return metric.add_fields(self, other)

    def compute(self) -> dict[str, float]:
        """Returns every score by its name; NaN where there was nothing to count.

        Names: `accuracy`; `iou_k` and `dice_k` of every class k with their means over
        the classes that occur; at an IoU of 0.5 `ap50`, `precision50`, `recall50`,
        `f1_50` and `matched_iou50`; the mean average precision over
        `matching.THRESHOLDS`, of the summed counts (`mean_ap_pooled`) and as the mean
        over images (`mean_ap_per_image`); the fraction of pairs of true cells that were
        separated (`separated_touching`, `separated_close`); counts (`num_...`).
        """
        iou, dice = overlap.iou(self.confusion), overlap.dice(self.confusion)
        matches = self.matches
        values = {
            "accuracy": overlap.accuracy(self.confusion),
            "mean_iou": overlap.class_mean(iou),
            "mean_dice": overlap.class_mean(dice),
            **{f"iou_{k}": value for k, value in enumerate(iou)},
            **{f"dice_{k}": value for k, value in enumerate(dice)},
            "ap50": matching.average_precision(matches)[0],
            "mean_ap_pooled": matching.mean_average_precision(matches),
            "mean_ap_per_image": overlap.ratio(
                self.mean_ap, self.num_images_with_cells
            ),
            "precision50": matching.precision(matches)[0],
            "recall50": matching.recall(matches)[0],
            "f1_50": matching.f1(matches)[0],
            "matched_iou50": matching.matched_iou(matches)[0],
            "separated_touching": overlap.ratio(
                matches.touching_separated, matches.touching
            ),
            "separated_close": overlap.ratio(matches.close_separated, matches.close),
            "num_images": self.num_images,
            "num_cells": matches.tp[0] + matches.fn[0],
            "num_touching": matches.touching,
            "num_close": matches.close,
        }
        return {name: float(value) for name, value in values.items()}


@functools.cache  # every config asks
def metric_names(num_classes: int) -> tuple[str, ...]:
    """Returns the names of all scores that can choose a best model.

    These are the scores in [0, 1] that `CellMetric.compute` returns.

    Example:
      >>> metric_names(2)[:6]
      ('accuracy', 'mean_iou', 'mean_dice', 'iou_0', 'iou_1', 'dice_0')
    """
    ignored, zero = np.full((1, 1), -1), np.zeros((1, 1), int)
    nothing = CellMetric.from_image(ignored, zero, zero, zero, num_classes=num_classes)
    return tuple(name for name in nothing.compute() if not name.startswith("num_"))
