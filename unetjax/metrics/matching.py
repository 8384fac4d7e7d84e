"""Matching of instances by IoU: average precision, F1, separated pairs of cells."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import sparse
from scipy.sparse import csgraph

from unetjax.metrics import metric, overlap

# k / 20 and not arange(0.5, 1, 0.05), whose sixth number is 0.7500000000000002.
THRESHOLDS = tuple(k / 20 for k in range(10, 20))
TOUCHING = 2  # squared distance in pixels: by an edge or a corner
_CLOSE = 5**2


class Matches(NamedTuple):
    """Counts of matched cells; those of several images add up field by field.

    Attributes:
      tp: Matched pairs, for every threshold of the IoU.
      fp: Predicted cells without a partner.
      fn: True cells without a partner.
      iou_sum: Summed IoU of the matched pairs.
      touching: Pairs of true cells that touch by an edge or a corner.
      touching_separated: Those whose cells both have a partner at IoU 0.5.
      close: Pairs of true cells whose nearest pixel centres are at most 5 pixels apart;
        the touching ones are among them.
      close_separated: Those whose cells both have a partner at IoU 0.5.
    """

    tp: Int[np.ndarray, " T"]
    fp: Int[np.ndarray, " T"]
    fn: Int[np.ndarray, " T"]
    iou_sum: Float[np.ndarray, " T"]
    touching: int
    touching_separated: int
    close: int
    close_separated: int


class Overlaps(NamedTuple):
    """Every pair of a true and a predicted cell that share a pixel.

    Attributes:
      true: True cell of each pair, counted from 0.
      predicted: Predicted cell of each pair, counted from 0.
      intersection: Pixels in both.
      union: Pixels in either.
    """

    true: Int[np.ndarray, " P"]
    predicted: Int[np.ndarray, " P"]
    intersection: Int[np.ndarray, " P"]
    union: Int[np.ndarray, " P"]


def match(
    truth: Integer[np.ndarray, "H W"],
    predicted: Integer[np.ndarray, "h w"],
    thresholds: Sequence[float] = THRESHOLDS,
) -> Matches:
    """Matches predicted to true cells, one to one, at every threshold of their IoU.

    Args:
      truth: Number of the cell every pixel belongs to, 0 outside of cells; the
        numbering is irrelevant.
      predicted: The same for the prediction.
      thresholds: IoU in (0, 1] from which a pair may match, that value included. They
        are read as fractions: 0.55 means 11/20.

    Raises:
      ValueError: If the sizes differ, a cell has a negative number, or a threshold is
        outside of (0, 1].

    Example:
      >>> truth = np.array([[1, 1, 2, 2]])
      >>> matches = match(truth, np.array([[1, 1, 1, 1]]), [0.5])
      >>> matches.tp, matches.touching, matches.touching_separated
      (array([1]), 1, 0)
    """
    metric.check_same_size(truth=truth, predicted=predicted)
    true_cells = number_cells(truth, "truth")
    predicted_cells = number_cells(predicted, "predicted")
    num_true, num_predicted = true_cells.max(initial=0), predicted_cells.max(initial=0)
    overlaps = find_overlaps(true_cells, predicted_cells)

    pairs = [assign(overlaps, threshold) for threshold in thresholds]
    tp = np.array([len(chosen) for chosen in pairs], np.int64)
    iou = overlaps.intersection / overlaps.union
    matched = np.zeros(num_true + 1, bool)
    matched[overlaps.true[assign(overlaps, 0.5)] + 1] = True
    touching = neighbours(true_cells, TOUCHING)
    close = neighbours(true_cells, _CLOSE)
    return Matches(
        tp=tp,
        fp=num_predicted - tp,
        fn=num_true - tp,
        iou_sum=np.array([iou[chosen].sum() for chosen in pairs]),
        touching=len(touching),
        touching_separated=int(np.count_nonzero(matched[touching].all(axis=1))),
        close=len(close),
        close_separated=int(np.count_nonzero(matched[close].all(axis=1))),
    )


def number_cells(
    instances: Integer[np.ndarray, "H W"], name: str
) -> Int[np.ndarray, "H W"]:
    """Numbers cells 1, 2, ... by their first pixels.

    The input's numbers then cannot decide a tie between two matchings.

    Raises:
      ValueError: If a cell has a negative number; `name` is that of the argument.
    """
    if instances.min(initial=0) < 0:
        raise ValueError(
            f"{name} must number cells from 1 up with 0 outside of them, got "
            f"{instances.min()}; set pixels that do not count to 0 in both images."
        )
    foreground = instances != 0
    _, first, index = np.unique(
        instances[foreground], return_index=True, return_inverse=True
    )
    rank = np.empty_like(first)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    cells = np.zeros(instances.shape, np.int64)
    cells[foreground] = rank[index]
    return cells


def find_overlaps(
    true_cells: Int[np.ndarray, "H W"], predicted_cells: Int[np.ndarray, "H W"]
) -> Overlaps:
    """Returns all overlapping pairs of two maps whose cells are numbered 1, 2, ..."""
    true_areas = np.bincount(true_cells.ravel())[1:]
    predicted_areas = np.bincount(predicted_cells.ravel())[1:]
    both = (true_cells > 0) & (predicted_cells > 0)
    codes = (true_cells[both] - 1) * len(predicted_areas) + predicted_cells[both] - 1
    codes, intersection = np.unique(codes, return_counts=True)
    true, predicted = np.divmod(codes, len(predicted_areas))
    union = true_areas[true] + predicted_areas[predicted] - intersection
    return Overlaps(true, predicted, intersection, union)


def assign(overlaps: Overlaps, threshold: float) -> Int[np.ndarray, " M"]:
    """Returns the overlaps that form the best one-to-one matching, by their index.

    As many pairs of IoU >= `threshold` as possible; among such matchings, the largest
    sum of IoU. From 0.5 up greedy matching by descending IoU finds the same; below, a
    greedy choice can lose pairs.

    Raises:
      ValueError: If `threshold` is outside of (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(
            f"thresholds must be above 0 and at most 1, got {threshold}; "
            "half an overlap is 0.5."
        )
    # In integers, so that no rounding decides about an IoU equal to the threshold.
    t = Fraction(threshold).limit_denominator(1000)
    admissible = t.denominator * overlaps.intersection >= t.numerator * overlaps.union
    (candidates,) = np.nonzero(admissible)
    true, predicted, intersection, union = (x[candidates] for x in overlaps)

    # Most pairs compete with no other; only the rest needs an assignment.
    contested = np.bincount(true)[true] + np.bincount(predicted)[predicted] > 2
    chosen = ~contested
    chosen[contested] = _largest_matching(
        true[contested], predicted[contested], (intersection / union)[contested]
    )
    return candidates[chosen]


def average_precision(matches: Matches) -> Float[np.ndarray, " T"]:
    """Returns tp / (tp + fp + fn) at every threshold; NaN without any cell."""
    return overlap.ratio(matches.tp, matches.tp + matches.fp + matches.fn)


def mean_average_precision(matches: Matches) -> float:
    """Returns the mean over thresholds of the average precision; NaN without any cell.

    Of one image this is the score of the Data Science Bowl 2018; of the summed counts
    of a data set, the pooled score.
    """
    return float(average_precision(matches).mean())


def precision(matches: Matches) -> Float[np.ndarray, " T"]:
    """Returns tp / (tp + fp), the fraction of the predicted cells that are correct."""
    return overlap.ratio(matches.tp, matches.tp + matches.fp)


def recall(matches: Matches) -> Float[np.ndarray, " T"]:
    """Returns tp / (tp + fn), the fraction of the true cells that have a match."""
    return overlap.ratio(matches.tp, matches.tp + matches.fn)


def f1(matches: Matches) -> Float[np.ndarray, " T"]:
    """Returns 2 tp / (2 tp + fp + fn), the harmonic mean of precision and recall."""
    return overlap.ratio(2 * matches.tp, 2 * matches.tp + matches.fp + matches.fn)


def matched_iou(matches: Matches) -> Float[np.ndarray, " T"]:
    """Returns the mean IoU of the matched pairs; NaN where nothing matched."""
    return overlap.ratio(matches.iou_sum, matches.tp)


def _largest_matching(
    true: Int[np.ndarray, " P"],
    predicted: Int[np.ndarray, " P"],
    iou: Float[np.ndarray, " P"],
) -> Bool[np.ndarray, " P"]:
    """Marks the pairs of an optimal assignment: most pairs first, then most IoU.

    Every true cell also gets an empty partner of its own: the sparse solver needs a
    full matching. Any real partner gains more than an empty one.
    """
    if not len(iou):
        return np.zeros(0, bool)
    true = np.unique(true, return_inverse=True)[1]
    predicted = np.unique(predicted, return_inverse=True)[1]
    num_true, num_predicted = true.max() + 1, predicted.max() + 1
    empty = np.arange(num_true)
    gain = np.concatenate(
        [2 + iou / (2 * min(num_true, num_predicted)), np.ones(num_true)]
    )
    rows = np.concatenate([true, empty])
    columns = np.concatenate([predicted, num_predicted + empty])
    graph = sparse.csr_array((gain, (rows, columns)))
    _, partner = csgraph.min_weight_full_bipartite_matching(graph, maximize=True)
    return partner[true] == predicted


def neighbours(
    cells: Int[np.ndarray, "H W"], squared_distance: int
) -> Int[np.ndarray, "N 2"]:
    """Returns the pairs of cells whose nearest pixel centres are within a distance.

    The nearest pixels of two cells lie on their rims: any other pixel has, among its
    four neighbours, one of the same cell that is nearer.

    Args:
      cells: Number of the cell of every pixel, 0 outside of cells.
      squared_distance: In square pixels; `TOUCHING` is an edge or a corner.

    Example:
      >>> neighbours(np.array([[1, 1, 0, 3], [0, 0, 2, 0]]), TOUCHING).tolist()
      [[1, 2], [2, 3]]
    """
    reach = math.isqrt(squared_distance)
    padded = np.pad(cells, reach)
    shifts = [
        dy * padded.shape[1] + dx
        for dy in range(reach + 1)
        for dx in range(-reach, reach + 1)
        if (dy, dx) > (0, 0) and dy**2 + dx**2 <= squared_distance
    ]
    steps = (1, -1, padded.shape[1], -padded.shape[1])
    flat = padded.ravel()
    pixels = np.flatnonzero(flat)
    rim = pixels[np.any([flat[pixels + s] != flat[pixels] for s in steps], axis=0)]
    codes = [np.zeros(0, np.int64)]  # low * base + high, one number for each pair
    base = cells.max(initial=0) + 1
    for shift in shifts:
        one, other = flat[rim], flat[rim + shift]
        met = (other > 0) & (one != other)
        low, high = np.minimum(one, other)[met], np.maximum(one, other)[met]
        codes.append(np.unique(low * base + high))
    return np.stack(np.divmod(np.unique(np.concatenate(codes)), base), axis=1)
