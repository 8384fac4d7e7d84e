"""Metrics of predictions on annotated images, one function for each family."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from unetjax.data.examples import Example
from unetjax.inference.segment import Segmentation, segment
from unetjax.inference.trained_model import TrainedModel
from unetjax.metrics.cells import CellMetric
from unetjax.metrics.em import EmMetric
from unetjax.metrics.metric import merge_all
from unetjax.metrics.pixels import PixelMetric
from unetjax.metrics.tracking import TrackingMetric


def measure_cells(example: Example, prediction: Segmentation) -> CellMetric:
    """Returns the counts of IoU, Dice and average precision of one image."""
    return CellMetric.from_image(
        example.label,
        example.instances,
        prediction.label,
        prediction.instances,
        num_classes=prediction.probs.shape[-1],
    )


def measure_em(example: Example, prediction: Segmentation) -> EmMetric:
    """Returns the counts of the ISBI 2012 scores of one slice."""
    # Rounding may have made the sum of several classes larger than 1.
    probability = np.minimum(prediction.probs[..., 1:].sum(axis=-1), 1)
    return EmMetric.from_image(example.label, probability)


def measure_pixels(
    example: Example, prediction: Segmentation, *, tolerance: float = 0.0
) -> PixelMetric:
    """Returns the counts of the scores of a foreground class, of one image.

    Args:
      example: The annotated image; all classes but the background are foreground.
      prediction: The prediction.
      tolerance: See `PixelMetric.from_image`.
    """
    probability = np.minimum(prediction.probs[..., 1:].sum(axis=-1), 1)
    return PixelMetric.from_image(example.label, probability, tolerance=tolerance)


def measure_tracking(example: Example, prediction: Segmentation) -> TrackingMetric:
    """Returns the counts of the Cell Tracking Challenge of one frame."""
    ignored = example.label < 0
    return TrackingMetric.from_image(
        np.where(ignored, 0, example.instances),
        np.where(ignored, 0, prediction.instances),
    )


def evaluate(
    trained: TrainedModel, examples: Sequence[Example], *, keep: int = 0
) -> tuple[CellMetric, list[Segmentation]]:
    """Segments at least one annotated image and returns the metric of all.

    Args:
      trained: The model.
      examples: Annotated images.
      keep: Number of predictions to return; all would be large.

    Returns:
      The merged metric, and the predictions of the first `keep` images.
    """
    metrics, predictions = [], []
    for example in examples:
        prediction = segment(trained, example.image)
        metrics.append(measure_cells(example, prediction))
        if len(predictions) < keep:
            predictions.append(prediction)
    return merge_all(metrics), predictions


def without_nan(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Returns scores with None in place of NaN, which JSON cannot hold."""
    return {name: x if math.isfinite(x) else None for name, x in scores.items()}
