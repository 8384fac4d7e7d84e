"""Search for the best instance settings of a model on validation images."""

import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from unetjax.data.examples import Example
from unetjax.evaluation import score_sets
from unetjax.evaluation.scoring import measure_cells, without_nan
from unetjax.inference.predict import Outputs, class_map, predict, split
from unetjax.inference.segment import Segmentation
from unetjax.inference.trained_model import TrainedModel
from unetjax.instances import components
from unetjax.instances.settings import InstanceSettings
from unetjax.metrics.cells import CellMetric
from unetjax.metrics.metric import merge_all
from unetjax.model_io import model_folder
from unetjax.reporting.console import number
from unetjax.targets.target import TargetName

_METRICS = ("ap50", "f1_50", "mean_ap_pooled", "mean_ap_per_image")
_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
Options = Mapping[str, Any]

_METHODS: tuple[Options, ...] = (
    {"method": "components"},
    {"method": "watershed", "seeds": "probability", "seed_threshold": 0.8},
    {"method": "watershed", "seeds": "probability", "seed_threshold": 0.95},
    {"method": "watershed", "seeds": "distance"},
)
# The smoothing stays as given: validation images score as well with less, but larger
# cells than theirs fall into pieces.
_OF_MAPS: tuple[Options, ...] = tuple(
    {"method": "watershed", "seeds": "maps", "seed_threshold": threshold}
    for threshold in (0.5, 0.4, 0.6, 0.3, 0.7)
)
# By which validation images must score better if no pieces are merged: those of one
# microscope show little of what merging does for others, unless it is wrong for them.
_MARGIN = 0.02
_SIZES = (0, 10, 30)  # pixels, where the given settings have no size limit


class Choice(NamedTuple):
    """The best settings of a search, and their score on the images that chose them.

    Attributes:
      settings: The best settings; the given ones if no others are better.
      metric: Name of the score.
      before: Score of the given settings.
      after: Score of the best settings.
      num_tried: Number of settings that were compared.
      scores: All scores of the best settings.
    """

    settings: InstanceSettings
    metric: str
    before: float
    after: float
    num_tried: int
    scores: Mapping[str, float]


def store_best(
    folder: str | os.PathLike[str], validation: Sequence[Example], *, best_metric: str
) -> TrainedModel:
    """Stores in a model folder the instance settings that score best, and the scores.

    A model whose settings were chosen before is returned unchanged, so that repeating
    the call does nothing.

    Args:
      folder: A model folder.
      validation: Annotated images that the model was not trained on. Their scores are
        optimistic afterwards; `provenance.instances_chosen` records that.
      best_metric: The score that chose the model. If instances do not affect it, as
        `mean_iou`, the settings are chosen by `mean_ap_pooled`.
    """
    trained = model_folder.load_model(folder)
    if trained.provenance.instances_chosen or not validation:
        return trained
    model = trained.model
    outputs = [split(predict(trained, e.image, maps=True), model) for e in validation]
    choice = search(
        validation,
        outputs,
        trained.instances,
        target=model.target,
        metric=best_metric if best_metric in _METRICS else "mean_ap_pooled",
    )
    text = (
        f"among {choice.num_tried} settings on the validation images, "
        f"{score_sets.title(choice.metric)}: {number(choice.after)} there "
        f"({number(choice.before)} before)"
    )
    provenance = replace(
        trained.provenance,
        scores=without_nan(choice.scores),
        instances_chosen=text,
    )
    trained = replace(trained, instances=choice.settings, provenance=provenance)
    model_folder.save_model(folder, trained)
    return trained


def search(
    examples: Sequence[Example],
    outputs: Sequence[Outputs],
    settings: InstanceSettings,
    *,
    target: TargetName = "classes",
    metric: str,
) -> Choice:
    """Returns the best settings found, one group of options after the other.

    Whether pieces are merged first, then threshold and method, or the seeds of maps and
    then the threshold, and last the size limit.

    Args:
      examples: At least one annotated image.
      outputs: Predicted probabilities and maps of each.
      settings: The given settings. They are tried first and kept unless others are
        better; `fill_holes` is kept in any case.
      target: What the network learned.
      metric: Name of a score of `metrics.cells`, of which larger is better.
    """
    known: list[dict[bytes, CellMetric]] = [{} for _ in examples]

    def score(candidate: InstanceSettings) -> dict[str, float]:
        metrics = []
        for example, given, cache in zip(examples, outputs, known, strict=True):
            instances = components.instances_from_probs(
                given.probs, candidate, maps=given.maps, target=target
            )
            # Many settings yield the same instances, which are measured once.
            key = hashlib.sha256(instances.tobytes()).digest()
            if key not in cache:
                segmentation = Segmentation(
                    given.probs, class_map(given.probs), instances
                )
                cache[key] = measure_cells(example, segmentation)
            metrics.append(cache[key])
        return merge_all(metrics).compute()

    apart = replace(settings, merge_solidity=0.0)
    scores = {each: score(each) for each in dict.fromkeys((settings, apart))}
    is_wrong = scores[apart][metric] > scores[settings][metric] + _MARGIN
    best = apart if is_wrong else settings
    for alternatives in _rounds(settings, target):
        for options in alternatives:
            candidate = replace(best, **options)
            if candidate not in scores:
                scores[candidate] = score(candidate)
        # NaN where there is no cell at all. Of equals, the first is chosen.
        best = max(
            (each for each in scores if each.merge_solidity == best.merge_solidity),
            key=lambda each: np.nan_to_num(scores[each][metric], nan=-1.0),
        )
    return Choice(
        settings=best,
        metric=metric,
        before=scores[settings][metric],
        after=scores[best][metric],
        num_tried=len(scores),
        scores=scores[best],
    )


def _rounds(settings: InstanceSettings, target: TargetName) -> list[list[Options]]:
    """Returns the options to try, round after round, each from the best so far.

    Those nearest to the given settings, preferred among equals, come first.
    """
    own = settings.min_size
    sizes = (own, 2 * own, 0) if own else _SIZES
    thresholds: list[Options] = [
        {"threshold": x}
        for x in sorted(_THRESHOLDS, key=lambda x: abs(x - settings.threshold))
    ]
    of_size: list[Options] = [{"min_size": size} for size in sizes]
    if target != "classes":
        return [list(_OF_MAPS), thresholds, of_size]
    both = itertools.product(thresholds, _METHODS)
    return [[{**threshold, **method} for threshold, method in both], of_size]
