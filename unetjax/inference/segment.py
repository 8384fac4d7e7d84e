"""Segmentation of an image of any size: probabilities, classes and instances."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Array, Float, Shaped

from unetjax.inference import magnification
from unetjax.inference import tta as test_time
from unetjax.inference.predict import (
    Engine,
    Network,
    check_trained,
    class_map,
    predict,
    split,
)
from unetjax.inference.segmentation import Segmentation
from unetjax.inference.tta import TTA
from unetjax.instances.components import instances_from_probs
from unetjax.network.unet import num_input_channels

_RESCALES = 2  # of an image until its objects have the size of those of training


def segment(
    trained: Network,
    image: Shaped[np.ndarray | Array, "H W *C"],
    *,
    others: Sequence[Network] = (),
    tta: TTA = "none",
    scale: float | Literal["auto"] = 1.0,
    engines: Sequence[Engine] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Segmentation:
    """Returns probabilities, classes and numbered cells of an image of any size.

    Args:
      trained: A `TrainedModel`; its instance settings are used.
      image: Grey values as stored, [H, W] or [H, W, C].
      others: Further models of the same classes, each with its own input scaling; the
        probabilities of all are averaged.
      tta: Rotations and reflections over which the probabilities of each model are
        averaged, see `predict`.
      scale: Factor by which the image is enlarged, see `predict`. `auto`: the one at
        which the objects found have the median size of those of the training images;
        it is found in at most three passes.
      engines: The `engine` of the first model and of each of the others, see
        `predict`; JAX by default.
      progress: Called with the number of tiles done and of all; the total assumes that
        every network takes as many tiles as the current one.

    Raises:
      ValueError: If the networks have different classes, or the image does not fit one.
    """
    options = {"others": others, "tta": tta, "scale": scale, "engines": engines}
    return _segment(trained, image, variance=False, progress=progress, **options)[0]


def segment_with_variance(
    trained: Network,
    image: Shaped[np.ndarray | Array, "H W *C"],
    *,
    others: Sequence[Network] = (),
    tta: TTA = "none",
    scale: float | Literal["auto"] = 1.0,
    engines: Sequence[Engine] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Segmentation, Float[np.ndarray, "H W"]]:
    """Returns a segmentation, and how much the averaged predictions differ.

    The arguments are those of `segment`.

    Returns:
      The segmentation, and the variance of the probabilities over all transformations
      of all models, see `tta.mean_and_variance`; 0 with one model and no augmentation.
    """
    options = {"others": others, "tta": tta, "scale": scale, "engines": engines}
    found, variance = _segment(
        trained, image, variance=True, progress=progress, **options
    )
    return found, variance[..., 0]


def _segment(
    trained: Network,
    image: Shaped[np.ndarray | Array, "H W *C"],
    *,
    others: Sequence[Network],
    tta: TTA,
    scale: float | Literal["auto"],
    engines: Sequence[Engine] | None,
    variance: bool,
    progress: Callable[[int, int], object] | None,
) -> tuple[Segmentation, Float[np.ndarray, "H W v"]]:
    """Returns a segmentation and, where requested, a channel of variance."""
    models = (trained, *others)
    for each in models:
        check_trained(each)
    if scale == "auto":
        segment_at = functools.partial(
            _segment,
            trained,
            image,
            others=others,
            tta=tta,
            engines=engines,
            variance=variance,
            progress=progress,
        )
        return _segment_to_size(segment_at, trained.object_diameter)
    check_averaged(trained, others)

    def report(index: int, done: int, total: int) -> None:
        if progress is not None:
            progress(index * total + done, len(models) * total)

    within = np.zeros(1, np.float32)  # the mean variance inside of the models

    def predictions() -> Iterator[Float[np.ndarray, "H W K"]]:
        nonlocal within
        for index, (each, engine) in enumerate(
            zip(models, engines or [None] * len(models), strict=True)
        ):
            outputs = predict(
                each,
                image,
                tta=tta,
                scale=scale,
                maps=True,
                variance=variance,
                engine=engine,
                progress=functools.partial(report, index),
            )
            if variance:
                within = within + outputs[..., -1] / len(models)
                outputs = outputs[..., :-1]
            yield outputs

    if variance:
        outputs, between = test_time.mean_and_variance(
            predictions(), lambda each: split(each, trained.model).probs
        )
        spread = (within + between)[..., np.newaxis]
    else:
        outputs = test_time.mean(predictions())
        spread = np.zeros((*outputs.shape[:2], 0), np.float32)
    probs, maps = split(outputs, trained.model)
    settings = magnification.scaled_settings(trained.instances, scale)
    instances = instances_from_probs(
        probs, settings, maps=maps, target=trained.model.target
    )
    return Segmentation(probs, class_map(probs), instances), spread


def check_averaged(trained: Network, others: Sequence[Network]) -> None:
    """Refuses models whose outputs cannot be averaged.

    Raises:
      ValueError: If they have different targets, classes or numbers of channels.
    """
    for other in others:
        if other.model.target != trained.model.target:
            raise ValueError(
                "models must have learned the same target to be averaged, got "
                f"{trained.model.target} and {other.model.target}."
            )
        one, two = _classes(trained), _classes(other)
        is_named = _has_names(trained) and _has_names(other)
        if len(one) != len(two) or (is_named and one != two):
            raise ValueError(
                "models must have the same classes to be averaged, got "
                f"{', '.join(one)} and {', '.join(two)}."
            )
        channels = [num_input_channels(each.params) for each in (trained, other)]
        if channels[0] != channels[1]:
            raise ValueError(
                "models must read the same channels to be averaged, got "
                f"{channels[0]} and {channels[1]} channels."
            )


def _segment_to_size(
    segment_at: Callable[..., tuple[Segmentation, Float[np.ndarray, "H W v"]]],
    learned: float | None,
) -> tuple[Segmentation, Float[np.ndarray, "H W v"]]:
    """Returns the segmentation at the scale that gives objects their learned size."""
    if learned is None:
        raise ValueError(
            "scale 'auto' needs the object size of the training images, which this "
            "model does not know; give a number."
        )
    scale, result = 1.0, segment_at(scale=1.0)
    for _ in range(_RESCALES):
        found = magnification.object_diameter(result[0].instances)
        ratio = magnification.proposed_scale(found and found * scale, learned)
        if ratio == 1:
            break
        scale *= ratio
        result = segment_at(scale=scale)
    return result


def _classes(trained: Network) -> Sequence[str]:
    return trained.class_names or trained.model.class_numbers


def _has_names(trained: Network) -> bool:
    """Returns whether classes have names, which are not just their numbers."""
    return tuple(trained.class_names) not in ((), trained.model.class_numbers)
