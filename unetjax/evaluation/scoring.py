"""Scores of whole annotated images."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Shaped

from unetjax.data.examples import Example
from unetjax.inference.segment import Segmentation
from unetjax.metrics import cells
from unetjax.metrics.cells import Scores


def evaluate(
    source: Sequence[Example],
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
    for i, example in enumerate(source):
        found = segment_image(example.image)
        scores.append(score_example(example, found, num_classes=num_classes))
        if progress is not None:
            progress(i + 1, len(source))
    return scores


def score_example(example: Example, found: Segmentation, *, num_classes: int) -> Scores:
    """Returns the counts of one image."""
    return cells.score(
        example.label,
        example.instances,
        found.label,
        found.instances,
        num_classes=num_classes,
    )


def total(scores: list[Scores]) -> dict[str, float]:
    """Returns every score of a set of at least one image, from its summed counts."""
    return cells.summary(functools.reduce(cells.add, scores))
