"""Scores of a foreground class: Dice, IoU, sensitivity, specificity, AUC, F1, distance.

For vessels, cracks, roads, membranes and other structures that are not counted.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Real
from scipy import ndimage

from unetjax.metrics import metric, overlap

_NUM_BINS = 1000  # of the probability, from which the area under the curve is computed


class PixelMetric(NamedTuple):
    """Counts of one image or of a whole data set, a `Metric`.

    Attributes:
      confusion: Pixels of true (row) and predicted (column) background and foreground.
      histogram: Pixels of true background and foreground by their probability.
      near: True foreground pixels near a predicted one, and the reverse.
      distance: Sum of the distances from every boundary pixel of the truth to the
        nearest of the prediction and the reverse, in pixels, over the images that have
        both.
      num_boundary: Number of those boundary pixels.
      dice: Summed over the images with any foreground.
      num_with_foreground: Number of images with true or predicted foreground.
      num_empty: Number of images without true foreground.
      num_images: Number of images.
    """

    confusion: Int[np.ndarray, "2 2"]
    histogram: Int[np.ndarray, "2 N"]
    near: Int[np.ndarray, " 2"]
    distance: float
    num_boundary: int
    dice: float
    num_with_foreground: int
    num_empty: int
    num_images: int

    @classmethod
    def from_image(
        cls,
        label: Integer[np.ndarray, "H W"],
        probability: Real[np.ndarray, "h w"],
        *,
        threshold: float = 0.5,
        tolerance: float = 0.0,
    ) -> "PixelMetric":
        """Counts one image.

        Args:
          label: Above 0 on foreground, 0 on background; negative where there is no
            annotation, such as outside of the field of view. Such pixels do not count.
          probability: Probability of the foreground; 0 and 1 for a mask.
          threshold: Probability above which a pixel is predicted as foreground.
          tolerance: Distance in pixels within which a pixel is found, for `f1`.

        Raises:
          ValueError: If the sizes differ or a probability is outside of [0, 1].
        """
        metric.check_same_size(label=label, probability=probability)
        metric.check_probability(probability)
        known, true = label >= 0, label > 0
        predicted = known & (probability > threshold)
        confusion = overlap.confusion(
            np.where(known, true, -1).astype(int), predicted.astype(int), num_classes=2
        )
        bins = np.minimum((probability * _NUM_BINS).astype(int), _NUM_BINS - 1)
        histogram = [
            np.bincount(bins[known & (true == foreground)], minlength=_NUM_BINS)
            for foreground in (False, True)
        ]
        near = [
            np.count_nonzero(one & (_distance_to(other) <= tolerance))
            for one, other in ((true, predicted), (predicted, true))
        ]
        distances = _boundary_distances(true, predicted)
        dice = overlap.dice(confusion)[1]
        return cls(
            confusion=confusion,
            histogram=np.stack(histogram),
            near=np.array(near),
            distance=float(distances.sum()),
            num_boundary=len(distances),
            dice=float(np.nan_to_num(dice)),
            num_with_foreground=int(not np.isnan(dice)),
            num_empty=int(not true.any()),
            num_images=1,
        )

    def merge(self, other: "PixelMetric") -> "PixelMetric":
        """Returns the counts of both sets of images together."""
        return metric.add_fields(self, other)

    def compute(self) -> dict[str, float]:
        """Returns every score by its name; NaN where there was nothing to count.

        Of all pixels together: `dice`, `iou`, `sensitivity` (recall), `precision`,
        `specificity`, `accuracy` and `auc`, the area under the curve of sensitivity
        over 1 - specificity. `f1`: harmonic mean of precision and recall where a pixel
        within the tolerance is found. `surface_distance`: mean distance between both
        boundaries, in pixels. `dice_per_image`: mean over the images with any
        foreground. Counts: `num_images`, `num_empty`.
        """
        (tn, fp), (fn, tp) = self.confusion
        true, predicted = tp + fn, tp + fp
        recall, precision = (
            overlap.ratio(near, count)
            for near, count in zip(self.near, (true, predicted), strict=True)
        )
        values = {
            "dice": overlap.dice(self.confusion)[1],
            "iou": overlap.iou(self.confusion)[1],
            "sensitivity": overlap.ratio(tp, true),
            "precision": overlap.ratio(tp, predicted),
            "specificity": overlap.ratio(tn, tn + fp),
            "accuracy": overlap.accuracy(self.confusion),
            "auc": _area_under_curve(self.histogram),
            "f1": overlap.ratio(2 * recall * precision, recall + precision),
            "surface_distance": overlap.ratio(self.distance, self.num_boundary),
            "dice_per_image": overlap.ratio(self.dice, self.num_with_foreground),
            "num_images": self.num_images,
            "num_empty": self.num_empty,
        }
        return {name: float(value) for name, value in values.items()}


def _area_under_curve(histogram: Int[np.ndarray, "2 N"]) -> float:
    """Returns the probability that a foreground pixel has the higher value.

    Pixels of one bin count as equal, which makes an error of at most half the share of
    pairs that lie in one bin.
    """
    background, foreground = histogram.astype(float)
    below = np.cumsum(background) - background
    pairs = (foreground * (below + background / 2)).sum()
    return float(overlap.ratio(pairs, background.sum() * foreground.sum()))


def _distance_to(mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Returns the distance in pixels to the nearest pixel of a mask."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~mask))


def _boundary_distances(
    true: Bool[np.ndarray, "H W"], predicted: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, " N"]:
    """Returns the distance of every boundary pixel to the other boundary, in pixels."""
    if not (true.any() and predicted.any()):
        return np.zeros(0)
    ours, theirs = (
        mask & ~ndimage.binary_erosion(mask, border_value=1)
        for mask in (true, predicted)
    )
    if not (ours.any() and theirs.any()):  # a mask that covers the image has none
        return np.zeros(0)
    return np.concatenate([_distance_to(theirs)[ours], _distance_to(ours)[theirs]])
