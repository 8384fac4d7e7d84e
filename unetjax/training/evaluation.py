"""Whole validation images: predict, number the cells, score."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from unetjax.data.source import Example, Source
from unetjax.exchange.model_folder import ModelFolder
from unetjax.inference.predict import class_map, predict
from unetjax.instances.components import instances_from_probs
from unetjax.metrics import table
from unetjax.metrics.table import Scores


class Segmentation(NamedTuple):
    """What a network makes of an image.

    Attributes:
      probs: Probability of every class, background first.
      label: Most probable class of every pixel.
      instances: Number of the cell of every pixel, 0 outside.
    """

    probs: Float[np.ndarray, "H W K"]
    label: Int[np.ndarray, "H W"]
    instances: Int[np.ndarray, "H W"]


def segment(
    trained: ModelFolder,
    image: Shaped[np.ndarray, "H W C"],
    *,
    progress: Callable[[int, int], object] | None = None,
) -> Segmentation:
    """Returns probabilities, classes and numbered cells of an image of any size.

    Args:
      trained: A network with its input scaling and the options of
        `instances_from_probs`.
      image: Grey values as stored.
      progress: Called with the number of tiles done and of all.
    """
    probs = predict(
        trained.model,
        trained.params,
        image,
        model_state=trained.model_state,
        scaling=trained.scaling,
        clip=trained.clip,
        progress=progress,
    )
    instances = instances_from_probs(probs, **trained.instances)
    return Segmentation(probs, class_map(probs), instances)


def evaluate(
    source: Source,
    segment_image: Callable[[Shaped[np.ndarray, "H W C"]], Segmentation],
    *,
    num_classes: int,
    progress: Callable[[int, int], object] | None = None,
) -> list[Scores]:
    """Returns the scores of every image of a source.

    Args:
      source: Annotated images.
      segment_image: From an image to its segmentation.
      num_classes: Number K of classes.
      progress: Called with the number of images done and of all.
    """
    scores = []
    for i in range(len(source)):
        example = source[i]
        found = segment_image(example.image)
        scores.append(score_example(example, found, num_classes=num_classes))
        if progress is not None:
            progress(i + 1, len(source))
    return scores


def score_example(example: Example, found: Segmentation, *, num_classes: int) -> Scores:
    """Returns the counts of one image."""
    return table.score(
        example.label,
        example.instances,
        found.label,
        found.instances,
        num_classes=num_classes,
    )


def total(scores: list[Scores]) -> dict[str, float]:
    """Returns every score of a set of at least one image, from its summed counts."""
    return table.summary(functools.reduce(table.add, scores))
