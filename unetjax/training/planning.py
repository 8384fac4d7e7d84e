"""Training plan: a configuration derived from the annotated images, with reasons."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unetjax.augmentation.augment import AugmentationSettings
from unetjax.data.examples import Example
from unetjax.geometry import Geometry
from unetjax.instances.settings import InstanceSettings
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet
from unetjax.training.config import ExperimentConfig
from unetjax.training.optimizers import OptimizerSettings
from unetjax.weight_maps.settings import WeightMapSettings

_LARGEST_OUTPUT = 132  # pixels; more updates on small tiles beat fewer on large ones
# Side of a tile, in pixels. In smaller ones, whose control points lie closer together,
# displacements of 10 pixels would fold the image over itself.
_FOLDS_BELOW = 188


class TrainingPlan(NamedTuple):
    """A configuration, and the reasons for its values, one line each."""

    config: ExperimentConfig
    reasons: list[str]


def plan_training(
    examples: Sequence[Example], *, num_steps: int = 1500, features: int = 16
) -> TrainingPlan:
    """Returns a configuration for an unknown data set.

    All rules are ours: a network whose receptive field holds two neighbouring cells,
    tiles as large as the images allow, input scaling that tolerates different
    exposures, and Adam, whose learning rate needs no tuning.

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
        input_scaling=InputScaling("percentile"),
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
        # The border of one pixel that the one-sided rule makes is hard to learn.
        weight_map=WeightMapSettings(separation_border="two_sided"),
        augmentation=AugmentationSettings(
            elastic_sigma=min(10.0, 10.0 * tile_size / _FOLDS_BELOW)
        ),
        instances=InstanceSettings(
            min_size=int(np.percentile(areas, 5) / 4) if areas.size else 0
        ),
    )
    field = geometry.offset + 4
    reasons = [
        f"cells are about {diameter:.0f} pixels wide: a network of depth {depth}, "
        f"whose receptive field is {field} pixels",
        f"the shortest side is {shortest} pixels: tiles of {tile_size} pixels, which "
        f"give outputs of {tile_size - geometry.offset}",
        f"components of fewer than {config.instances.min_size} pixels are removed: the "
        "smallest annotated cells are four times as large",
        "after training, the threshold, method and size limit that score best on the "
        "validation images are stored with the model",
        f"{num_steps} updates of one tile each, {features} features; change them with "
        "--steps and --features",
    ]
    return TrainingPlan(config, reasons)


def _areas(example: Example) -> np.ndarray:
    return np.unique_counts(example.instances[example.instances > 0]).counts
