"""Scores of the Cell Tracking Challenge for segmentation: SEG, DET, OP_CSB."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from unetjax.metrics import matching, metric, overlap

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
        metric.check_same_size(truth=truth, predicted=predicted)
        references = matching.number_cells(truth, "truth")
        computed = matching.number_cells(predicted, "predicted")
        overlaps = matching.find_overlaps(references, computed)
        areas = np.bincount(references.ravel())[1:]
        matched = 2 * overlaps.intersection > areas[overlaps.true]
        jaccard = (overlaps.intersection / overlaps.union)[matched].sum()
        num_references = len(areas)
        num_matches = np.bincount(
            overlaps.predicted[matched], minlength=computed.max(initial=0)
        )
        return cls(
            jaccard=float(jaccard),
            references=num_references,
            splits=int(np.maximum(num_matches - 1, 0).sum()),
            missed=num_references - int(matched.sum()),
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
