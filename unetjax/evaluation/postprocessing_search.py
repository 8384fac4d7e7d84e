"""The options that make cells of probabilities, chosen on the held-out images."""

import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from unetjax.data.examples import Example
from unetjax.evaluation import scoring
from unetjax.inference.predict import class_map
from unetjax.inference.segment import Segmentation, segment
from unetjax.inference.trained_model import TrainedModel
from unetjax.instances import components
from unetjax.instances.settings import InstanceSettings
from unetjax.metrics.cells import Scores
from unetjax.model_io import model_folder

CHOSEN = "instances_chosen"  # in `about` of a model, in words

_METRICS = ("ap50", "f1_50", "mean_ap_pooled", "mean_ap_per_image")
_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
_METHODS: tuple[dict[str, Any], ...] = (
    {"method": "components"},
    {"method": "watershed", "seeds": "probability", "seed_threshold": 0.8},
    {"method": "watershed", "seeds": "probability", "seed_threshold": 0.95},
    {"method": "watershed", "seeds": "distance"},
)
_SIZES = (0, 10, 30)  # pixels, where the settings name no limit


class Choice(NamedTuple):
    """What was chosen, and what it is worth on the images that chose it.

    Attributes:
      settings: The best of all that were tried; those given, if none is better.
      metric: What was compared.
      before: Its value with the settings given.
      after: Its value with those chosen.
      tried: Number of settings.
    """

    settings: InstanceSettings
    metric: str
    before: float
    after: float
    tried: int


def tune(
    folder: str | os.PathLike[str], validation: Sequence[Example], *, best_metric: str
) -> TrainedModel:
    """Stores with a model the options of its instances that suit held-out images best.

    A model that has been tuned stays as it is, so that a further call does nothing.

    Args:
      folder: A model folder.
      validation: Annotated images that the model was not trained on; scores on them are
        flattered by this choice, which `about["instances_chosen"]` says in words.
      best_metric: By which the model was chosen. If it says nothing of cells, as IoU,
        they are chosen by `mean_ap_pooled`.
    """
    trained = model_folder.load(folder)
    if CHOSEN in trained.about or not len(validation):
        return trained
    examples = list(validation)
    probs = [segment(trained, each.image).probs for each in examples]
    choice = choose(
        examples,
        probs,
        InstanceSettings(**trained.instances),
        metric=best_metric if best_metric in _METRICS else "mean_ap_pooled",
    )
    words = (
        f"among {choice.tried} settings on the held-out images, "
        f"{choice.metric} {choice.after:.4f} there ({choice.before:.4f} before)"
    )
    tuned = trained._replace(
        instances=dict(vars(choice.settings)), about=trained.about | {CHOSEN: words}
    )
    model_folder.save(folder, tuned)
    return tuned


def choose(
    examples: list[Example],
    probs: list[Float[np.ndarray, "_ _ K"]],
    settings: InstanceSettings,
    *,
    metric: str,
) -> Choice:
    """Returns the best of a grid over threshold, method and size limit.

    Args:
      examples: At least one annotated image.
      probs: What a network predicts for each.
      settings: Where to start from: they are tried first and stay if nothing is better,
        and their hole filling is kept.
      metric: A score of `metrics.table`, larger being better.
    """
    grid = list(dict.fromkeys([settings, *_grid(settings)]))
    classes = [class_map(each) for each in probs]
    counted: list[dict[bytes, Scores]] = [{} for _ in examples]

    def value(candidate: InstanceSettings) -> float:
        scores = []
        for example, p, label, known in zip(
            examples, probs, classes, counted, strict=True
        ):
            cells = components.instances_from_probs(p, **vars(candidate))
            # Many settings find the same cells, which are scored once.
            key = hashlib.sha256(cells.tobytes()).digest()
            if key not in known:
                found = Segmentation(p, label, cells)
                known[key] = scoring.score_example(
                    example, found, num_classes=p.shape[-1]
                )
            scores.append(known[key])
        return scoring.total(scores)[metric]

    values = [value(candidate) for candidate in grid]
    # NaN, where there is no cell at all, is better than nothing.
    best = max(range(len(grid)), key=lambda i: np.nan_to_num(values[i], nan=-1.0))
    return Choice(grid[best], metric, values[0], values[best], len(grid))


def _grid(settings: InstanceSettings) -> Iterator[InstanceSettings]:
    """The nearest to the settings first, which of equals is chosen."""
    own = settings.min_size
    sizes = (own, 2 * own, 0) if own else _SIZES
    thresholds = sorted(_THRESHOLDS, key=lambda t: abs(t - settings.threshold))
    for threshold, method, size in itertools.product(thresholds, _METHODS, sizes):
        yield replace(settings, threshold=threshold, min_size=size, **method)
