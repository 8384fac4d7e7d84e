"""Scores of the ISBI 2012 challenge over slices: sums first, then one division.

All are taken at thresholds of the probability of cells, and the best one counts.
"""

import operator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Real

from unetjax.metrics import overlap, partitions, warping
from unetjax.metrics.partitions import THRESHOLDS, Agreement

_OLD = THRESHOLDS[:10]  # of pixel, Rand and warping error; V_rand and V_info take all


class Scores(NamedTuple):
    """What is counted of one slice or, added up, of a whole stack.

    Attributes:
      confusion: Pixels of true and predicted class, white being 1, at 10 thresholds.
      squares: Of the Rand error: n^2 times S_AB, S_A and S_B, at 10 thresholds.
      warping: Pixels of splits and merges, at 10 thresholds.
      v_rand: Summed over the slices with true cells, at 11 thresholds.
      v_info: Summed over the slices with true cells, at 11 thresholds.
      num_with_cells: Number of those slices.
      num_pixels: Number of annotated pixels.
      num_images: Number of slices.
    """

    confusion: Int[np.ndarray, "10 2 2"]
    squares: Int[np.ndarray, "10 3"]
    warping: Int[np.ndarray, " 10"]
    v_rand: Float[np.ndarray, " 11"]
    v_info: Float[np.ndarray, " 11"]
    num_with_cells: int
    num_pixels: int
    num_images: int


def score(
    label: Integer[np.ndarray, "H W"], probability: Real[np.ndarray, "h w"]
) -> Scores:
    """Counts one slice.

    Args:
      label: True class: above 0 inside of cells (white), 0 on membranes, negative where
        nobody annotated; such pixels are membrane in both images.
      probability: Of being inside of a cell; 0 and 1 if it is a mask.

    Raises:
      ValueError: If the sizes differ or a probability is outside of [0, 1].
    """
    if label.shape != probability.shape:
        raise ValueError(
            f"probability must have the size of label, {label.shape}, got "
            f"{probability.shape}; crop or pad one of them."
        )
    # Written so that NaN is refused as well.
    if not (probability.size and 0 <= probability.min() <= probability.max() <= 1):
        raise ValueError(
            f"probability must be from 0 to 1, got {probability.min(initial=0)} to "
            f"{probability.max(initial=0)}; divide 8-bit values by 255."
        )
    known, cells = label >= 0, label > 0
    probability = np.where(known, probability, 0)
    white = partitions.white(probability)
    confusion = [
        overlap.confusion(np.where(known, cells, -1), each.astype(int), num_classes=2)
        for each in white[: len(_OLD)]
    ]
    truth = partitions.connected_cells(cells)
    old, thinned = _agreements(truth, white)
    left = [warping.mismatches(cells, probability, threshold=t) for t in _OLD]
    counts = cells.any()  # a slice without cells has no V_rand
    return Scores(
        confusion=np.stack(confusion),
        squares=np.array([each[:3] for each in old[: len(_OLD)]]),
        warping=np.array([each.splits + each.merges for each in left]),
        v_rand=np.array([partitions.v_rand(x).score if counts else 0 for x in thinned]),
        v_info=np.array([partitions.v_info(x).score if counts else 0 for x in thinned]),
        num_with_cells=int(counts),
        num_pixels=int(known.sum()),
        num_images=1,
    )


def add(scores: Scores, others: Scores) -> Scores:
    """Adds the counts of two sets of slices; `functools.reduce` adds those of many."""
    return jax.tree.map(operator.add, scores, others)


def summary(scores: Scores) -> dict[str, float]:
    """Returns every score by its name; NaN where there was nothing to count.

    Names: `v_rand` and `v_info`, the means over slices at the best threshold, with
    borders thinned; `pixel_error`, `rand_error` (of summed squares) and
    `warping_error`, at the best of theirs; what was counted (`num_...`).
    """
    joint, truth, predicted = scores.squares.T
    best = {
        "v_rand": overlap.ratio(scores.v_rand, scores.num_with_cells).max(),
        "v_info": overlap.ratio(scores.v_info, scores.num_with_cells).max(),
        "pixel_error": overlap.pixel_error(scores.confusion),
        "rand_error": 1 - overlap.ratio(2 * joint, truth + predicted).max(),
        "warping_error": overlap.ratio(scores.warping.min(), scores.num_pixels),
        "num_images": scores.num_images,
        "num_pixels": scores.num_pixels,
    }
    return {name: float(value) for name, value in best.items()}


def _agreements(
    truth: Integer[np.ndarray, "H W"], white: Bool[np.ndarray, "T H W"]
) -> tuple[list[Agreement], list[Agreement]]:
    """Compares predictions at all thresholds: their connected cells, and thinned ones.

    The higher the threshold, the less is white: equal counts are equal predictions,
    which are compared once. A mask is the same at every threshold.
    """
    _, first, index = np.unique(
        white.sum(axis=(1, 2)), return_index=True, return_inverse=True
    )
    connected = [partitions.connected_cells(each) for each in white[first]]
    thinned = partitions.thin_borders(white[first])
    old = [partitions.compare(truth, each) for each in connected]
    new = [partitions.compare(truth, each) for each in thinned]
    return [old[i] for i in index], [new[i] for i in index]
