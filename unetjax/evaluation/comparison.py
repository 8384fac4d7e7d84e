"""A trained model beside simple baselines, on the test or the validation images."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from unetjax.data.examples import Example
from unetjax.data.splits import Split
from unetjax.evaluation.score_sets import ScoreSet
from unetjax.inference import segment as segmentation
from unetjax.inference.segment import Segmentation
from unetjax.inference.trained_model import TrainedModel
from unetjax.instances.baseline import cut_by_watershed, otsu_components
from unetjax.reporting.console import number

Part = Literal["test", "validation"]

# Titles of columns.
MODEL, OTSU, OTSU_WATERSHED = "U-Net", "Otsu + components", "Otsu + watershed"


class Comparison(NamedTuple):
    """Predictions of a model and of baselines for the same images.

    Attributes:
      part: Which images these are.
      examples: The annotated images.
      predictions: One for each image, by the title of their column.
    """

    part: Part
    examples: list[Example]
    predictions: dict[str, list[Segmentation]]

    def scores(self, score_set: ScoreSet) -> dict[str, dict[str, float]]:
        """Returns all scores of a family, by the title of their column."""
        return {
            title: score_set.compute(self.examples, predictions)
            for title, predictions in self.predictions.items()
        }


def compare(
    trained: TrainedModel,
    split: Split,
    *,
    part: Part | None = None,
    segment: Callable[[Shaped[np.ndarray, "H W C"]], Segmentation] | None = None,
) -> Comparison:
    """Segments images by a model and, if there are two classes, by Otsu's threshold.

    Args:
      trained: The model.
      split: Its images. Those of training say whether cells are bright or dark.
      part: Test or validation images; by default the test images, if there are any.
      segment: How the model segments, such as averaged with other models;
        `unetjax.segment` by default.

    Raises:
      ValueError: If `part` is "test" and there are no test images.
    """
    part, examples = select(split, part)
    segment = segment or functools.partial(segmentation.segment, trained)
    predictions = {MODEL: [segment(example.image) for example in examples]}
    if trained.model.num_classes == 2:
        settings = trained.instances
        predictions[OTSU] = otsu(
            split.train,
            examples,
            min_size=settings.min_size,
            fill_holes=settings.fill_holes,
        )
        predictions[OTSU_WATERSHED] = [
            _of_cells(cut_by_watershed(each.instances)) for each in predictions[OTSU]
        ]
    return Comparison(part, examples, predictions)


def select(split: Split, part: Part | None = None) -> tuple[Part, list[Example]]:
    """Returns the images of a part; by default the test images, if there are any.

    Raises:
      ValueError: If `part` is "test" and there are no test images.
    """
    part = part or ("validation" if split.test is None else "test")
    examples = split.validation if part == "validation" else split.test
    if examples is None:
        raise ValueError(
            "there are no test images; select some by config.data.test or "
            "config.data.test_fraction, or use the validation images."
        )
    return part, examples


def remark(part: Part, split: Split, trained: TrainedModel) -> str:
    """Returns a sentence on what the scores of a part of the images can say."""
    chosen = "the step"
    if trained.provenance.instances_chosen:
        chosen += " and the instance settings"
    if part == "test":
        return (
            "The test images took no part in training or in any choice; the validation "
            f"images chose {chosen}."
        )
    absent = "There are no test images. " if split.test is None else ""
    return (
        f"{absent}These are the scores of the validation images, which chose {chosen}, "
        "and are therefore optimistic."
    )


def verdict(scores: Mapping[str, Mapping[str, float]], score_set: ScoreSet) -> str:
    """Returns a sentence if the model is no better than a baseline, else "".

    Args:
      scores: All scores of each method, by the title of its column.
      score_set: Their family.
    """
    name = score_set.ranking
    values = {title: each[name] for title, each in scores.items()}
    ours = values[MODEL]
    baselines = {t: values[t] for t in (OTSU, OTSU_WATERSHED) if t in values}
    best = max(baselines, key=lambda title: baselines[title], default=None)
    if best is None or not ours <= baselines[best]:
        return ""
    return (
        f"This model is no better than a threshold: its {score_set.shown[name]} is "
        f"{number(ours)}, that of {best} {number(baselines[best])}. Check the masks "
        "with unetjax check, train longer, or annotate more images."
    )


def otsu(
    train: Sequence[Example],
    examples: Sequence[Example],
    *,
    min_size: int,
    fill_holes: bool,
) -> list[Segmentation]:
    """Segments images by Otsu's threshold and connected components.

    Args:
      train: Annotated images, which say whether cells are brighter than background.
      examples: The images to segment.
      min_size: See `instances.components.label_components`.
      fill_holes: Likewise.
    """
    sign = 1 if _cells_are_bright(train) else -1
    instances = [
        otsu_components(
            sign * example.image.mean(axis=-1), min_size=min_size, fill_holes=fill_holes
        )
        for example in examples
    ]
    return [_of_cells(each) for each in instances]


def cell_everywhere(examples: Sequence[Example]) -> list[Segmentation]:
    """Returns the segmentation of each image as a single cell: the floor of a score."""
    return [_of_cells(np.ones(e.label.shape, np.int32)) for e in examples]


def _cells_are_bright(examples: Sequence[Example]) -> bool:
    """Returns whether the mean cell is brighter than the mean background."""
    cells = np.concatenate([e.image[e.label == 1].ravel() for e in examples])
    rest = np.concatenate([e.image[e.label == 0].ravel() for e in examples])
    return not cells.size or not rest.size or float(cells.mean()) > float(rest.mean())


def _of_cells(instances: Int[np.ndarray, "H W"]) -> Segmentation:
    label = (instances > 0).astype(np.int32)
    return Segmentation(np.eye(2, dtype=np.float32)[label], label, instances)
