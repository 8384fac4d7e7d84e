"""Scores of the Cell Tracking Challenge for segmentation: SEG, DET, OP_CSB."""

import operator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Integer
from scipy import sparse

from unetjax.metrics import overlap

# What it costs to mend one error of each kind by hand (Matula et al. 2015).
_SPLIT_COST, _MISSED_COST, _EXTRA_COST = 5, 10, 1


class Scores(NamedTuple):
    """What is counted of one frame or, added up, of all annotated frames.

    Attributes:
      jaccard: Sum over reference cells of |R and S| / |R or S| with the matched cell S.
      references: Number of reference cells.
      splits: NS, what it takes to split computed cells that match several references.
      missed: FN, reference cells without a match.
      extra: FP, computed cells that match no reference.
      frames: Number of frames.
    """

    jaccard: float
    references: int
    splits: int
    missed: int
    extra: int
    frames: int


def score(
    truth: Integer[np.ndarray, "H W"], predicted: Integer[np.ndarray, "h w"]
) -> Scores:
    """Counts one frame.

    A computed cell matches a reference if it covers more than half of it, so that a
    reference has one match at most. In the challenge SEG and DET may come from
    different references, masks and markers, and cells outside of a field of interest
    are dropped first: score such maps one by one, after dropping them.

    Args:
      truth: Number of the reference cell, 0 outside of cells.
      predicted: Number of the computed cell, 0 outside of cells.

    Raises:
      ValueError: If the sizes differ or a cell has a negative number.

    Example:
      >>> halves = np.array([[1, 1, 2, 2]])
      >>> summary(score(np.array([[3, 3, 3, 0]]), halves))["seg"]
      0.6666666666666666
    """
    if truth.shape != predicted.shape:
        raise ValueError(
            f"predicted must have the size of truth, {truth.shape}, got "
            f"{predicted.shape}; crop or pad one of them."
        )
    for name, cells in {"truth": truth, "predicted": predicted}.items():
        if cells.min(initial=0) < 0:
            raise ValueError(
                f"{name} must number cells from 1 up with 0 outside of them, got "
                f"{cells.min()}; set pixels that do not count to 0 in both images."
            )
    # Number 0 in front, so that index 0 is background even where none is seen.
    numbers, true = np.unique(np.append(0, truth), return_inverse=True)
    computed_numbers, found = np.unique(np.append(0, predicted), return_inverse=True)
    table = sparse.coo_array(
        (np.ones(truth.size, np.int64), (true[1:], found[1:])),
        shape=(len(numbers), len(computed_numbers)),
    ).tocsr()
    areas, computed_areas = table.sum(axis=1), table.sum(axis=0)
    pairs = sparse.coo_array(table[1:, 1:])
    row, column = (index + 1 for index in pairs.coords)
    matched = 2 * pairs.data > areas[row]
    row, column, shared = row[matched], column[matched], pairs.data[matched]
    union = areas[row] + computed_areas[column] - shared
    num_matches = np.bincount(column, minlength=len(computed_numbers))[1:]
    return Scores(
        jaccard=float((shared / union).sum()),
        references=len(numbers) - 1,
        splits=int(np.maximum(num_matches - 1, 0).sum()),
        missed=len(numbers) - 1 - len(row),
        extra=int((num_matches == 0).sum()),
        frames=1,
    )


def add(scores: Scores, others: Scores) -> Scores:
    """Adds the counts of two sets of frames; `functools.reduce` adds those of many."""
    return jax.tree.map(operator.add, scores, others)


def summary(scores: Scores) -> dict[str, float]:
    """Returns every score by its name; NaN without any reference cell.

    Names: `seg`, the mean Jaccard index of the reference cells, on which extra cells
    have no influence; `det`, which takes the work of mending all errors from 1;
    `op_csb`, their mean; what was counted (`num_...`).
    """
    cost = (
        _SPLIT_COST * scores.splits
        + _MISSED_COST * scores.missed
        + _EXTRA_COST * scores.extra
    )
    from_nothing = _MISSED_COST * scores.references
    seg = float(overlap.ratio(scores.jaccard, scores.references))
    det = 1 - float(overlap.ratio(min(cost, from_nothing), from_nothing))
    return {
        "seg": seg,
        "det": det,
        "op_csb": (seg + det) / 2,
        "num_images": float(scores.frames),
        "num_cells": float(scores.references),
        "num_splits": float(scores.splits),
        "num_missed": float(scores.missed),
        "num_extra": float(scores.extra),
    }
