"""Scores of the Cell Tracking Challenge for segmentation: SEG, DET, OP_CSB."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Integer
from scipy import sparse

from unetjax.metrics import metric, overlap

# Cost of correcting one error of each kind by hand (Matula et al. 2015).
_SPLIT_COST, _MISSED_COST, _EXTRA_COST = 5, 10, 1


class TrackingMetric(NamedTuple):
    """Counts of one frame or of all annotated frames, a `Metric`.

    Attributes:
      jaccard: Sum over reference cells of |R and S| / |R or S| with the matched cell S.
      references: Number of reference cells.
      splits: NS, splits needed by computed cells that match several references.
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

    @classmethod
    def from_image(
        cls, truth: Integer[np.ndarray, "H W"], predicted: Integer[np.ndarray, "h w"]
    ) -> "TrackingMetric":
        """Counts one frame.

        A computed cell matches a reference if it covers more than half of it, so that
        a reference has at most one match. In the challenge SEG and DET may come from
        different references, masks and markers, and cells outside of a field of
        interest are dropped first: drop them, then score each pair of maps separately.

        Args:
          truth: Number of the reference cell, 0 outside of cells.
          predicted: Number of the computed cell, 0 outside of cells.

        Raises:
          ValueError: If the sizes differ or a cell has a negative number.

        Example:
          >>> truth, halves = np.array([[3, 3, 3, 0]]), np.array([[1, 1, 2, 2]])
          >>> TrackingMetric.from_image(truth, halves).compute()["seg"]
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
        computed_numbers, computed = np.unique(
            np.append(0, predicted), return_inverse=True
        )
        table = sparse.coo_array(
            (np.ones(truth.size, np.int64), (true[1:], computed[1:])),
            shape=(len(numbers), len(computed_numbers)),
        ).tocsr()
        areas, computed_areas = table.sum(axis=1), table.sum(axis=0)
        pairs = sparse.coo_array(table[1:, 1:])
        row, column = (index + 1 for index in pairs.coords)
        matched = 2 * pairs.data > areas[row]
        row, column, shared = row[matched], column[matched], pairs.data[matched]
        union = areas[row] + computed_areas[column] - shared
        num_matches = np.bincount(column, minlength=len(computed_numbers))[1:]
        return cls(
            jaccard=float((shared / union).sum()),
            references=len(numbers) - 1,
            splits=int(np.maximum(num_matches - 1, 0).sum()),
            missed=len(numbers) - 1 - len(row),
            extra=int((num_matches == 0).sum()),
            frames=1,
        )

    def merge(self, other: "TrackingMetric") -> "TrackingMetric":
        """Returns the counts of both sets of frames together."""
        return metric.add_fields(self, other)

    def compute(self) -> dict[str, float]:
        """Returns every score by its name; NaN without any reference cell.

        Names: `seg`, the mean Jaccard index of the reference cells, which extra cells
        do not lower; `det`, 1 minus the cost of correcting all errors relative to that
        of drawing all cells; `op_csb`, their mean; counts (`num_...`).
        """
        cost = (
            _SPLIT_COST * self.splits
            + _MISSED_COST * self.missed
            + _EXTRA_COST * self.extra
        )
        from_nothing = _MISSED_COST * self.references
        seg = float(overlap.ratio(self.jaccard, self.references))
        det = 1 - float(overlap.ratio(min(cost, from_nothing), from_nothing))
        return {
            "seg": seg,
            "det": det,
            "op_csb": (seg + det) / 2,
            "num_images": float(self.frames),
            "num_cells": float(self.references),
            "num_splits": float(self.splits),
            "num_missed": float(self.missed),
            "num_extra": float(self.extra),
        }
