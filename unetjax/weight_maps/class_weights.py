"""The class term w_c of Eq. (2), from the class frequencies of the training set."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Array, Float, Int, Integer

from unetjax.settings import check_choice, check_range

Balance = Literal["inverse", "sqrt_inverse", "none"]


def class_counts(
    labels: Iterable[Integer[Array, "..."] | Integer[np.ndarray, "..."]],
    num_classes: int,
) -> Int[np.ndarray, " K"]:
    """Returns the number of annotated pixels of every class, over all label maps.

    Args:
      labels: Class of every pixel, map by map, after the separation border is
        cut (`separation.cut_separation_border`); negative labels are not counted.
      num_classes: Number of classes K, background included.

    Raises:
      ValueError: If a label is not below `num_classes`.

    Example:
      >>> class_counts([np.array([0, 1, 1]), np.array([1, -1])], num_classes=2)
      array([1, 3])
    """
    counts = np.zeros(num_classes, np.int64)
    for position, label in enumerate(labels):
        pixels = np.asarray(label).ravel()
        of_map = np.bincount(pixels[pixels >= 0], minlength=num_classes)
        if len(of_map) > num_classes:
            raise ValueError(
                f"label map {position} has class {len(of_map) - 1}, but num_classes is "
                f"{num_classes}; set num_classes to at least {len(of_map)}."
            )
        counts += of_map
    return counts


def class_weights(
    counts: Int[np.ndarray, " K"], balance: Balance | Sequence[float] = "inverse"
) -> Float[np.ndarray, " K"]:
    r"""Returns the weight w_c of every class, with mean 1 over the counted pixels.

    .. math:: w_c(k) = \frac{\sum_j n_j}{K' n_k} \quad\text{or}\quad
              \frac{\sum_j n_j}{\sqrt{n_k} \sum_j \sqrt{n_j}}

    K' is the number of classes that occur. The paper only says that w_c balances the
    class frequencies; mean 1 is ours and keeps w_0 comparable between data sets.

    Args:
      counts: Number n_k of pixels of every class, over the whole training set.
      balance: `inverse` and `sqrt_inverse`: the formulas; a class that does not occur
        gets weight 1, that of an average pixel. `none`: 1 for every class. Or the
        weights themselves, one for each class, which are returned unchanged.

    Raises:
      ValueError: If `balance` is unknown, or is not one finite weight of at least 0
        for each class.

    Example:
      >>> class_weights(np.array([3, 1])).round(3).tolist()
      [0.667, 2.0]
    """
    if not isinstance(balance, str):
        return _explicit(balance, num_classes=len(counts))
    check_choice("class_balance", balance, Balance)
    power = {"inverse": 1.0, "sqrt_inverse": 0.5, "none": 0.0}[balance]
    weights = np.ones(len(counts))
    if counts.any():
        present = counts[counts > 0].astype(np.float64)
        scale = present.sum() / (present ** (1 - power)).sum()
        weights[counts > 0] = scale * present**-power
    return weights


def _explicit(weights: Sequence[float], num_classes: int) -> Float[np.ndarray, " K"]:
    for weight in weights:
        check_range("class_balance", weight, at_least=0)
    if len(weights) != num_classes:
        raise ValueError(
            f"class_balance must have one weight for each of the {num_classes} classes,"
            f" got {list(weights)}."
        )
    return np.asarray(weights, np.float64)
