"""Probabilities, classes and numbered cells of an image of any size."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from unetjax.inference import tta
from unetjax.inference.predict import Engine, class_map, predict
from unetjax.inference.trained_model import TrainedModel
from unetjax.inference.tta import Average
from unetjax.instances.components import instances_from_probs


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
    trained: TrainedModel,
    image: Shaped[np.ndarray, "H W C"],
    *,
    others: Sequence[TrainedModel] = (),
    average: Average = "none",
    engines: Sequence[Engine] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Segmentation:
    """Returns probabilities, classes and numbered cells of an image of any size.

    Args:
      trained: A network with its input scaling and the options of
        `instances_from_probs`.
      image: Grey values as stored.
      others: Further networks of the same classes, each with its own input scaling; the
        probabilities of all are averaged.
      average: Versions of the image over which each network averages, see
        `averaging.versions`.
      engines: What computes the first network and each of the others, see `predict`;
        JAX by default.
      progress: Called with the number of tiles done and of all, as many for every
        network as for the one at work.

    Raises:
      ValueError: If the networks have different classes, or the image does not fit one.
    """
    models = (trained, *others)
    for other in others:
        if _classes(other) != _classes(trained):
            raise ValueError(
                "models must have the same classes to be averaged, got "
                f"{', '.join(_classes(trained))} and {', '.join(_classes(other))}."
            )

    def report(index: int, done: int, total: int) -> None:
        if progress is not None:
            progress(index * total + done, len(models) * total)

    probs = tta.mean(
        predict(
            each.model,
            each.params,
            image,
            model_state=each.model_state,
            scaling=each.scaling,
            clip=each.clip,
            average=average,
            engine=engine,
            progress=functools.partial(report, index),
        )
        for index, (each, engine) in enumerate(
            zip(models, engines or [None] * len(models), strict=True)
        )
    )
    instances = instances_from_probs(probs, **trained.instances)
    return Segmentation(probs, class_map(probs), instances)


def _classes(trained: TrainedModel) -> Sequence[str]:
    return trained.class_names or [str(k) for k in range(trained.model.num_classes)]
