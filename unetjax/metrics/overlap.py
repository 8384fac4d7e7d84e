"""Confusion matrix of class maps, and accuracy, IoU, Dice and pixel error from it.

Matrices of several images add up; scores are computed from the sum.
"""

import numpy as np
from jaxtyping import Float, Int, Integer

from unetjax.metrics import metric

Numbers = np.ndarray | np.number | float | int


def confusion(
    label: Integer[np.ndarray, "*shape"],
    predicted: Integer[np.ndarray, "..."],
    *,
    num_classes: int,
) -> Int[np.ndarray, "K K"]:
    """Counts the pixels of every true class (row) and predicted class (column).

    Args:
      label: True class of every pixel, in [0, K); a negative label ignores the pixel.
      predicted: Predicted class of every pixel, in [0, K), of the same shape.
      num_classes: K.

    Returns:
      64-bit counts.

    Raises:
      ValueError: If the shapes differ or a class is not below `num_classes`.

    Example:
      >>> confusion(np.array([0, 1, 1, -1]), np.array([0, 1, 0, 1]), num_classes=2)
      array([[1, 0],
             [1, 1]])
    """
    metric.check_same_size(label=label, predicted=predicted)
    counted = label >= 0
    pairs = {"label": label[counted], "predicted": predicted[counted]}
    for name, classes in pairs.items():
        if classes.size and not 0 <= classes.min() <= classes.max() < num_classes:
            raise ValueError(
                f"{name} must have classes from 0 to {num_classes - 1}, got "
                f"{classes.min()} to {classes.max()}; is num_classes right?"
            )
    codes = pairs["label"].astype(np.int64) * num_classes + pairs["predicted"]
    counts = np.bincount(codes.astype(np.int64), minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def ratio(numerator: Numbers, denominator: Numbers) -> Float[np.ndarray, "..."]:
    """Returns the quotient in float64, NaN where it is 0 / 0."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.true_divide(numerator, denominator))


def accuracy(counts: Int[np.ndarray, "K K"]) -> float:
    """Returns the fraction of pixels with the right class; NaN without any pixel."""
    return float(ratio(np.trace(counts), counts.sum()))


def iou(counts: Int[np.ndarray, "K K"]) -> Float[np.ndarray, " K"]:
    """Returns tp / (tp + fp + fn) of every class; NaN for one that occurs nowhere.

    A class that is predicted but never true scores 0 and counts in a mean.

    Example:
      >>> iou(np.array([[2, 1], [1, 4]]))
      array([0.5       , 0.66666667])
    """
    correct = np.diagonal(counts)
    return ratio(correct, counts.sum(0) + counts.sum(1) - correct)


def dice(counts: Int[np.ndarray, "K K"]) -> Float[np.ndarray, " K"]:
    """Returns 2 tp / (2 tp + fp + fn) of every class; NaN for one that occurs nowhere.

    Example:
      >>> dice(np.array([[2, 1], [1, 4]]))
      array([0.66666667, 0.8       ])
    """
    return ratio(2 * np.diagonal(counts), counts.sum(0) + counts.sum(1))


def pixel_error(counts: Int[np.ndarray, "T 2 2"]) -> float:
    """Returns 1 minus the largest Dice of class 1 over several thresholds.

    That is what the scorer of the ISBI 2012 challenge calls by this name, at thresholds
    0, 0.1, ..., 0.9 of the probability of cells; plain disagreement is 1 - `accuracy`.
    NaN without any cell.

    Args:
      counts: A confusion matrix for each threshold, summed over slices.

    Example:
      >>> round(pixel_error(np.array([[[2, 1], [1, 4]]])), 6)
      0.2
    """
    f1 = [dice(each)[1] for each in counts]
    return float(1 - max(f1, default=np.nan))


def class_mean(scores: Float[np.ndarray, " K"]) -> float:
    """Returns the mean over the classes that occur, those that are not NaN."""
    defined = ~np.isnan(scores)
    return float(ratio(scores[defined].sum(), defined.sum()))
