"""A configuration proposed from the annotated images themselves."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unetjax.augmentation.augment import AugmentationSettings
from unetjax.data.examples import Example
from unetjax.geometry import Geometry
from unetjax.instances.settings import InstanceSettings
from unetjax.network.unet import UNet
from unetjax.training.config import ExperimentConfig
from unetjax.training.optimizers import OptimizerSettings
from unetjax.weight_maps.settings import WeightMapSettings

_LARGEST_OUTPUT = 132  # pixels: more tiles teach more than larger ones
_FOLDS_BELOW = 188  # pixels of a tile, under which displacements of 10 pixels fold


class TrainingPlan(NamedTuple):
    """A configuration and why it is proposed, a line a reason."""

    config: ExperimentConfig
    reasons: list[str]


def plan_training(
    examples: Sequence[Example], *, num_steps: int = 1500, features: int = 16
) -> TrainingPlan:
    """Returns a configuration for images that nobody has looked at before.

    All rules are ours: a network whose receptive field holds two cells side by side,
    tiles as large as the images allow, scaling that forgives different exposures, and
    Adam, which needs no tuning of its rate.

    Args:
      examples: At least one training image.
      num_steps: Number of updates.
      features: Channels at full resolution.
    """
    areas = np.concatenate([_areas(example) for example in examples])
    diameter = 2 * np.sqrt(np.median(areas) / np.pi) if areas.size else 20.0
    depth = 3 if diameter <= 40 else 4
    shortest = min(min(example.label.shape) for example in examples)
    geometry = Geometry(depth)
    tile_size = geometry.input_size(min(shortest, _LARGEST_OUTPUT))
    num_classes = max(2, 1 + max(int(example.label.max()) for example in examples))
    config = ExperimentConfig(
        num_steps=num_steps,
        batch_size=1,
        tile_size=tile_size,
        scaling="percentile",
        log_every=10,
        evaluate_every=max(num_steps // 10, 1),
        best_metric="mean_ap_pooled" if areas.size else "mean_iou",
        tune_instances=True,
        model=UNet(
            num_classes=num_classes, features=features, depth=depth, dropout_rate=0.2
        ),
        optimizer=OptimizerSettings(
            name="adam", learning_rate=2e-3, schedule="cosine", warmup_steps=20
        ),
        weight_map=WeightMapSettings(
            separation_border="two_sided"
        ),  # a gap of one pixel is hard to learn
        augmentation=AugmentationSettings(
            elastic_sigma=min(10.0, 10.0 * tile_size / _FOLDS_BELOW)
        ),
        instances=InstanceSettings(
            min_size=int(np.percentile(areas, 5) / 4) if areas.size else 0
        ),
    )
    field = geometry.offset + 4
    reasons = [
        f"cells are about {diameter:.0f} pixels wide: {depth} poolings, which see "
        f"{field} pixels around each pixel",
        f"the shortest side is {shortest} pixels: tiles of {tile_size}, of which "
        f"{tile_size - geometry.offset} are learned",
        f"components under {config.instances.min_size} pixels count as dirt: the "
        "smallest annotated cells are four times as large",
        "after training, the threshold, the method and the size limit that suit the "
        "held-out images best are stored with the model",
        f"{num_steps} updates of one tile, {features} features; --steps and --features "
        "change that",
    ]
    return TrainingPlan(config, reasons)


def _areas(example: Example) -> np.ndarray:
    return np.unique_counts(example.instances[example.instances > 0]).counts
