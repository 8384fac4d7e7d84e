"""Scores of the ISBI 2012 EM challenge: V_rand, V_info, warping, Rand and pixel error.

All are taken at several thresholds of the probability of cells; the best one counts.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Real

from unetjax.metrics import metric, overlap, partitions, warping
from unetjax.metrics.partitions import THRESHOLDS, Agreement

# Pixel, Rand and warping error take ten thresholds, V_rand and V_info all eleven.
_TEN = THRESHOLDS[:10]


class EmMetric(NamedTuple):
    """Counts of one slice or of a whole stack, a `Metric`.

    Attributes:
      confusion: Pixels of true and predicted class, white being 1, at 10 thresholds.
      squares: Of the Rand error: n^2 times S_AB, S_A and S_B, at 10 thresholds.
      warping: Pixels of splits and merges, at 10 thresholds.
      v_rand: Summed over the slices with true cells, at 11 thresholds.
      v_info: Summed over the slices with true cells, at 11 thresholds.
      num_with_cells: Number of slices with true cells.
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

    @classmethod
    def from_image(
        cls, label: Integer[np.ndarray, "H W"], probability: Real[np.ndarray, "h w"]
    ) -> "EmMetric":
        """Counts one slice.

        Args:
          label: True class: above 0 inside of cells (white), 0 on membranes, negative
            where there is no annotation; such pixels are membrane in both images.
          probability: Probability of being inside of a cell; 0 and 1 for a mask.

        Raises:
          ValueError: If the sizes differ or a probability is outside of [0, 1].
        """
        metric.check_same_size(label=label, probability=probability)
        metric.check_probability(probability)
        known, cells = label >= 0, label > 0
        probability = np.where(known, probability, 0)
        white = partitions.white(probability)
        confusion = [
            overlap.confusion(
                np.where(known, cells, -1), each.astype(int), num_classes=2
            )
            for each in white[: len(_TEN)]
        ]
        connected, thinned = _agreements(partitions.connected_cells(cells), white)
        errors = [warping.mismatches(cells, probability, threshold=t) for t in _TEN]
        return cls(
            confusion=np.stack(confusion),
            squares=np.array([each[:3] for each in connected[: len(_TEN)]]),
            warping=np.array([each.splits + each.merges for each in errors]),
            # NaN in a slice without true cells, which then adds nothing to the sums.
            v_rand=np.nan_to_num([partitions.v_rand(x).score for x in thinned]),
            v_info=np.nan_to_num([partitions.v_info(x).score for x in thinned]),
            num_with_cells=int(cells.any()),
            num_pixels=int(known.sum()),
            num_images=1,
        )

    def merge(self, other: "EmMetric") -> "EmMetric":
        """Returns the counts of both stacks together."""
        return metric.add_fields(self, other)

    def compute(self) -> dict[str, float]:
        """Returns every score by its name; NaN where there was nothing to count.

        Names: `v_rand` and `v_info`, means over slices at the best threshold, with
        thinned borders; `pixel_error`, `rand_error` (of summed squares) and
        `warping_error`, at their best thresholds; counts (`num_...`).
        """
        joint, truth, predicted = self.squares.T
        best = {
            "v_rand": overlap.ratio(self.v_rand, self.num_with_cells).max(),
            "v_info": overlap.ratio(self.v_info, self.num_with_cells).max(),
            "pixel_error": overlap.pixel_error(self.confusion),
            "rand_error": 1 - overlap.ratio(2 * joint, truth + predicted).max(),
            "warping_error": overlap.ratio(self.warping.min(), self.num_pixels),
            "num_images": self.num_images,
            "num_pixels": self.num_pixels,
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
    old, new = (
        [partitions.compare(truth, cells) for cells in predictions]
        for predictions in (connected, thinned)
    )
    return [old[i] for i in index], [new[i] for i in index]
