"""Agreement of two partitions of a slice into cells: V_rand, V_info, Rand error.

White is cell and black is membrane, as in the ISBI 2012 challenge. Results equal those
of its scorer, `fiji/Trainable_Segmentation`.
"""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32, Integer, Real
from scipy import ndimage, sparse

from unetjax.metrics import metric, overlap

# The scorer adds 0.1 in double precision: the fourth is 0.30000000000000004, and the
# last is below 1, so that a probability of exactly 1 is still white there.
THRESHOLDS = tuple(itertools.accumulate([0.0] + 10 * [0.1]))

# Labels while borders are thinned; those that stay are 0 and above.
_UNREACHED, _QUEUED, _OUTSIDE = -1, -2, -3


class Agreement(NamedTuple):
    """Squares and entropies of two partitions of one slice and of their overlaps.

    Attributes:
      joint_squares: n^2 S_AB, in pixels squared; sums of squares add over slices.
      truth_squares: n^2 S_A.
      predicted_squares: n^2 S_B.
      joint_entropy: -T_AB, in nats.
      truth_entropy: H(A), in nats.
      predicted_entropy: H(B), in nats.
    """

    joint_squares: int
    truth_squares: int
    predicted_squares: int
    joint_entropy: float
    truth_entropy: float
    predicted_entropy: float


class Fidelity(NamedTuple):
    """Agreement with the truth, lowered by merged cells, by split cells, and by both.

    Attributes:
      precision: Falls where the prediction merges true cells.
      recall: Falls where it splits them.
      score: Their harmonic mean.
    """

    precision: float
    recall: float
    score: float


def white(
    probability: Real[np.ndarray, "H W"], thresholds: tuple[float, ...] = THRESHOLDS
) -> Bool[np.ndarray, "T H W"]:
    """Returns where the probability exceeds each threshold, in double precision.

    In single precision, 1 would not exceed the eleventh of `THRESHOLDS`.
    """
    levels = np.array(thresholds)[:, None, None]
    return probability.astype(np.float64) > levels


def connected_cells(cells: Bool[np.ndarray, "H W"]) -> Int32[np.ndarray, "H W"]:
    """Numbers the 4-connected cells 1, 2, ..., x in the outer loop and y in the inner.

    Example:
      >>> connected_cells(np.array([[False, True], [True, False]]))
      array([[0, 2],
             [1, 0]], dtype=int32)
    """
    labels = np.empty(cells.T.shape, np.int32)
    ndimage.label(cells.T, output=labels)
    return labels.T


def thin_borders(cells: Bool[np.ndarray, "*N H W"]) -> Int32[np.ndarray, "*N H W"]:
    """Numbers the cells of slices after growing them until borders are a pixel wide.

    The scorer's watershed of a binary image (Vincent and Soille 1991): border pixels
    are reached breadth-first from the cells, over shared edges; one that meets two
    cells becomes 0, and one that meets only such zeros is 0 as well. Of the two pixels
    in the middle of an even gap, the first (x in the outer loop, y in the inner)
    joins its cell and the other stays border. A slice without any cell becomes a
    single cell.

    Args:
      cells: True inside of cells.

    Example:
      >>> thin_borders(np.array([[True, False, False, False, False, True]]))
      array([[1, 1, 1, 0, 2, 2]], dtype=int32)
    """
    height, width = cells.shape[-2:]
    slices = cells.reshape(-1, height, width)
    # Transposed, so that the order of memory is the order of the scan; the rim and
    # all that is still to be reached are negative.
    labels = np.full((len(slices), width + 2, height + 2), _OUTSIDE, np.int32)
    inner = labels[:, 1:-1, 1:-1]
    for grown, each in zip(inner, slices, strict=True):
        numbered = connected_cells(each if each.any() else ~each).T
        grown[...] = np.where(numbered > 0, numbered, _UNREACHED)
    steps = np.array([-(height + 2), -1, height + 2, 1])  # left, up, right, down
    _flood(labels.ravel(), steps)
    return inner.transpose(0, 2, 1).reshape(cells.shape)


def compare(
    truth: Integer[np.ndarray, "H W"], predicted: Integer[np.ndarray, "h w"]
) -> Agreement:
    """Compares two partitions on the cells of the truth.

    Pixels that are background in the truth are ignored. Each pixel that is background
    in the prediction and cell in the truth is a separate object.

    Args:
      truth: Number A of the true cell, 0 outside of cells.
      predicted: Number B of the predicted cell, 0 outside of cells.

    Raises:
      ValueError: If the sizes differ.

    Example:
      >>> merged = compare(np.array([[1, 1, 0, 2, 2]]), np.array([[1, 1, 1, 1, 1]]))
      >>> v_rand(merged)
      Fidelity(precision=0.5, recall=1.0, score=0.6666666666666666)
    """
    metric.check_same_size(truth=truth, predicted=predicted)
    counted = truth > 0
    rows, columns = truth[counted], predicted[counted]
    is_end = np.ones(len(rows), bool)  # of a run of one pair
    is_end[:-1] = (np.diff(rows) != 0) | (np.diff(columns) != 0)
    (ends,) = np.nonzero(is_end)
    lengths = np.diff(ends, prepend=-1)
    table = sparse.csr_array(  # adds up the runs of equal pairs
        (lengths, (rows[ends], columns[ends])),
        shape=(truth.max(initial=0) + 1, predicted.max(initial=0) + 1),
    )
    alone = int(np.count_nonzero(columns == 0))
    joint = table.data[table.indices > 0]
    true_areas = table.sum(axis=1)
    predicted_areas = table.sum(axis=0)[1:]
    return Agreement(
        joint_squares=_squares(joint) + alone,
        truth_squares=_squares(true_areas),
        predicted_squares=_squares(predicted_areas) + alone,
        joint_entropy=_entropy(joint, alone),
        truth_entropy=_entropy(true_areas, 0),
        predicted_entropy=_entropy(predicted_areas, alone),
    )


def v_rand(agreement: Agreement) -> Fidelity:
    """Returns S_AB / S_B, S_AB / S_A and V_rand = 2 S_AB / (S_A + S_B).

    NaN without any true cell.
    """
    joint, truth, predicted = agreement[:3]
    ratios = (joint, predicted), (joint, truth), (2 * joint, truth + predicted)
    return Fidelity(*(float(overlap.ratio(*each)) for each in ratios))


def v_info(agreement: Agreement) -> Fidelity:
    """Returns I / H(A), I / H(B) and V_info = 2 I / (H(A) + H(B)), I being mutual.

    A truth of one cell has no entropy and scores 0 even for a perfect prediction
    (precision 0, recall 1); a prediction of one cell likewise (1, 0), as in the
    scorer. NaN without any true cell.
    """
    if not agreement.truth_squares:
        return Fidelity(np.nan, np.nan, np.nan)
    joint, truth, predicted = agreement[3:]
    if predicted == 0:
        return Fidelity(1.0, 0.0, 0.0)
    if truth == 0:
        return Fidelity(0.0, 1.0, 0.0)
    shared = truth + predicted - joint
    return Fidelity(
        shared / truth, shared / predicted, 2 * shared / (truth + predicted)
    )


def _squares(areas: Int[np.ndarray, " M"]) -> int:
    return int(np.dot(areas, areas))


def _entropy(areas: Int[np.ndarray, " M"], alone: int) -> float:
    """-sum p ln p in nats, over areas and `alone` objects of one pixel each."""
    total = areas.sum() + alone
    if not total:
        return 0.0
    p = areas[areas > 0] / total
    return float(alone / total * np.log(total) - np.dot(p, np.log(p)))


def _flood(labels: Int32[np.ndarray, " N"], steps: Int[np.ndarray, " 4"]) -> None:
    """Labels all unreached pixels in place, all pixels of one distance at once.

    The scorer labels pixel after pixel, in the order of a queue: each takes the one
    label among its neighbours labelled so far, or 0 if there are several or none. All
    pixels of one distance see the labels of nearer pixels; the order of the queue
    matters only between neighbours at the same distance.
    """
    rank = np.zeros(len(labels), np.int32)  # place in the queue
    (start,) = np.nonzero(labels == _UNREACHED)
    front = start[(labels[start + steps[:, None]] > 0).any(axis=0)]
    while len(front):
        labels[front] = _QUEUED
        rank[front] = np.arange(len(front))
        around = front + steps[:, None]
        values = labels[around]
        before = np.where(values == _QUEUED, rank[around], -1)
        labels[front] = _front_labels(values, before)
        reached = around.T[values.T == _UNREACHED]
        places = np.arange(len(reached))
        rank[reached[::-1]] = places[::-1]  # of duplicates, the first one stays
        front = reached[rank[reached] == places]


def _front_labels(
    values: Int32[np.ndarray, "4 N"], places: Int[np.ndarray, "4 N"]
) -> Int32[np.ndarray, " N"]:
    """Returns the labels of the pixels at one distance, in the order of the queue.

    Args:
      values: Labels of the four neighbours of each pixel.
      places: Places in the queue of neighbours at the same distance; -1 for others.
    """
    labels, torn = _common(values)
    # An earlier neighbour matters only if its label may differ: if nearer pixels give
    # it another label, or give one of the two none at all.
    earlier = (places >= 0) & (places < np.arange(len(labels))) & ~torn[places]
    earlier &= (labels[places] != labels) | (labels == 0)
    waiting = earlier.any(axis=0) & ~torn
    (pending,) = np.nonzero(waiting)
    while len(pending):
        matters, before = earlier[:, pending], places[:, pending]
        is_ready = ~(matters & waiting[before]).any(axis=0)
        ready, matters, before = (
            pending[is_ready],
            matters[:, is_ready],
            before[:, is_ready],
        )
        met = np.where(matters, labels[before], 0)
        labels[ready], _ = _common(np.vstack([met, labels[ready]]))
        waiting[ready] = False
        pending = pending[~is_ready]
    return labels


def _common(
    labels: Int32[np.ndarray, "M N"],
) -> tuple[Int32[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Returns the one positive label of each column or 0, and if there are several."""
    highest = np.maximum(labels.max(axis=0), 0)
    torn = np.where(labels > 0, labels, highest).min(axis=0) < highest
    return np.where(torn, 0, highest), torn
