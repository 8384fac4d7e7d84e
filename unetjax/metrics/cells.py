"""A named set of scores over many images: sums first, one division at the end."""

import operator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int, Integer

from unetjax.metrics import matching, overlap


class Scores(NamedTuple):
    """What is counted of one image or, added up, of a whole data set.

    Attributes:
      confusion: Pixels of every true class (row) and predicted class (column).
      matches: Matched cells and separated pairs, at `matching.THRESHOLDS`.
      mean_ap: Summed mean average precision of the images with any cell.
      num_images_with_cells: Number of those images: a true or a predicted cell.
      num_images: Number of images.
    """

    confusion: Int[np.ndarray, "K K"]
    matches: matching.Matches
    mean_ap: float
    num_images_with_cells: int
    num_images: int


def score(
    truth_label: Integer[np.ndarray, "H W"],
    truth_instances: Integer[np.ndarray, "H W"],
    predicted_label: Integer[np.ndarray, "h w"],
    predicted_instances: Integer[np.ndarray, "h w"],
    *,
    num_classes: int,
) -> Scores:
    """Counts one image.

    Args:
      truth_label: True class of every pixel, in [0, K); pixels with a negative label
        are removed from all four maps.
      truth_instances: Number of the true cell, 0 outside of cells.
      predicted_label: Predicted class, in [0, K).
      predicted_instances: Number of the predicted cell, 0 outside of cells.
      num_classes: K.

    Raises:
      ValueError: If sizes differ, a class is outside of [0, K), or a cell has a
        negative number.
    """
    confusion = overlap.confusion(truth_label, predicted_label, num_classes=num_classes)
    ignored = truth_label < 0
    matches = matching.match(
        np.where(ignored, 0, truth_instances),
        np.where(ignored, 0, predicted_instances),
    )
    mean_ap = matching.mean_average_precision(matches)
    has_cells = not np.isnan(mean_ap)
    return Scores(
        confusion=confusion,
        matches=matches,
        mean_ap=mean_ap if has_cells else 0.0,
        num_images_with_cells=int(has_cells),
        num_images=1,
    )


def metric_names(num_classes: int) -> tuple[str, ...]:
    """Returns the names of all metrics that can choose a best model.

    Example:
      >>> metric_names(2)[:6]
      ('accuracy', 'mean_iou', 'mean_dice', 'iou_0', 'iou_1', 'dice_0')
    """
    classes = range(num_classes)
    return (
        *("accuracy", "mean_iou", "mean_dice"),
        *(f"iou_{k}" for k in classes),
        *(f"dice_{k}" for k in classes),
        *("ap50", "mean_ap_pooled", "mean_ap_per_image"),
        *("precision50", "recall50", "f1_50", "matched_iou50"),
        *("separated_touching", "separated_close"),
    )


def add(scores: Scores, others: Scores) -> Scores:
    """Adds the counts of two sets of images; `functools.reduce` adds those of many."""
    return jax.tree.map(operator.add, scores, others)


def summary(scores: Scores) -> dict[str, float]:
    """Returns every score by its name; NaN where there was nothing to count.

    Names: `accuracy`; `iou_k` and `dice_k` of every class k with their means over the
    classes that occur; at an IoU of 0.5 `ap50`, `precision50`, `recall50`, `f1_50` and
    `matched_iou50`; the mean average precision over `matching.THRESHOLDS`, of the
    summed counts (`mean_ap_pooled`) and as mean over images (`mean_ap_per_image`); the
    fraction of pairs of true cells that were told apart (`separated_touching`,
    `separated_close`); what was counted (`num_...`).
    """
    iou, dice = overlap.iou(scores.confusion), overlap.dice(scores.confusion)
    matches = scores.matches
    values = {
        "accuracy": overlap.accuracy(scores.confusion),
        "mean_iou": overlap.class_mean(iou),
        "mean_dice": overlap.class_mean(dice),
        **{f"iou_{k}": value for k, value in enumerate(iou)},
        **{f"dice_{k}": value for k, value in enumerate(dice)},
        "ap50": matching.average_precision(matches)[0],
        "mean_ap_pooled": matching.mean_average_precision(matches),
        "mean_ap_per_image": overlap.ratio(
            scores.mean_ap, scores.num_images_with_cells
        ),
        "precision50": matching.precision(matches)[0],
        "recall50": matching.recall(matches)[0],
        "f1_50": matching.f1(matches)[0],
        "matched_iou50": matching.matched_iou(matches)[0],
        "separated_touching": overlap.ratio(
            matches.touching_separated, matches.touching
        ),
        "separated_close": overlap.ratio(matches.close_separated, matches.close),
        "num_images": scores.num_images,
        "num_cells": matches.tp[0] + matches.fn[0],
        "num_touching": matches.touching,
        "num_close": matches.close,
    }
    return {name: float(value) for name, value in values.items()}
