"""Training plan: a configuration derived from the annotated images, with reasons."""

import types
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from unetjax.augmentation.augment import AugmentationSettings
from unetjax.data.examples import Example
from unetjax.geometry import Geometry
from unetjax.inference.magnification import object_diameter
from unetjax.inference.trained_model import TrainedModel
from unetjax.instances import structures
from unetjax.instances.settings import InstanceSettings
from unetjax.instances.structures import Structure
from unetjax.network.input_scaling import InputScaling, Scaling
from unetjax.network.unet import UNet
from unetjax.training import config as configs
from unetjax.training.config import ExperimentConfig, LossSettings, Overrides
from unetjax.training.optimizers import OptimizerSettings
from unetjax.weight_maps.settings import WeightMapSettings

_LARGEST_OUTPUT = 132  # pixels; more updates on small tiles beat fewer on large ones
_LARGEST_TILE = 256  # pixels, of networks that learn all of them
# Side of a tile, in pixels. In smaller ones, whose control points lie closer together,
# displacements of 10 pixels would fold the image over itself.
_FOLDS_BELOW = 188

# Structures that are learned on every pixel of a tile, its border included.
_WHOLE_TILES = frozenset[Structure]({"cells", "thin"})
# Thin structures are faint beside the range of grey values of a whole image: scaled to
# that, they are predicted as background for hundreds of steps.
_INPUT_SCALING: dict[Structure, Scaling] = {"thin": "zscore"}
# Structures of which objects are counted, and touching ones kept apart.
_COUNTED = frozenset[Structure]({"cells", "foreground"})
_BEST_METRIC: dict[Structure, str] = {
    "cells": "mean_ap_pooled",
    "foreground": "mean_ap_pooled",
    "classes": "mean_iou",
    "thin": "dice_1",
}
# The border of one pixel that the one-sided rule makes is hard to learn.
_APART = WeightMapSettings(separation_border="two_sided")
# Weights of rare classes and of borders make thin structures thick.
_PLAIN = WeightMapSettings(w0=0.0, separation_border="none", class_balance="none")
_WEIGHT_MAPS: dict[Structure, WeightMapSettings] = {
    "cells": _PLAIN,
    "foreground": _APART,
    "classes": replace(_PLAIN, class_balance="sqrt_inverse"),
    "thin": _PLAIN,
}
_FROM_DISTANCES = InstanceSettings(
    method="watershed",
    seeds="maps",
    seed_threshold=0.5,
    relative_smoothing=0.25,
    merge_solidity=0.88,
)
# Other magnifications, exposures and noise than those of the training images.
_OTHER_MICROSCOPES = AugmentationSettings(scale=2.0, gamma=0.3, blur=1.0, noise=0.05)
_MEANING: dict[Structure, str] = {
    "cells": "masks number their objects: the network learns distances to their centre "
    "and boundary, which cut touching ones, and their average precision chooses the "
    "model",
    "foreground": "masks have one class of compact objects: touching ones are kept "
    "apart, and the average precision of objects chooses the model",
    "classes": "masks have several classes: the mean IoU of the classes chooses the "
    "model, and no objects are counted",
    "thin": "masks have one class of thin structures, such as vessels or cracks: their "
    "Dice chooses the model, and no objects are counted",
}


class TrainingPlan(NamedTuple):
    """A configuration, and the reasons for its values, one line each."""

    config: ExperimentConfig
    reasons: list[str]


def plan_training(
    examples: Sequence[Example],
    *,
    numbered: bool = True,
    num_steps: int = 1500,
    features: int = 16,
    pretrained: TrainedModel | None = None,
    overrides: Overrides = types.MappingProxyType({}),
) -> TrainingPlan:
    """Returns a configuration for an unknown data set.

    All rules are ours: a network whose receptive field holds two neighbouring cells,
    tiles as large as the images allow, input scaling that tolerates different
    exposures, and Adam, whose learning rate needs no tuning. Loss, weights, the score
    that chooses the model, and post-processing depend on what the masks show, see
    `instances.structures.structure`.

    Args:
      examples: At least one training image.
      numbered: Whether the masks number their objects, or else name classes.
      num_steps: Number of updates.
      features: Channels at full resolution.
      pretrained: The model whose parameters are the initial ones; its architecture and
        input scaling are kept.
      overrides: Options of the config instead of the derived ones, by dotted name.

    Raises:
      ValueError: If an override is unknown, or its value does not fit the others.
    """
    instances = [example.instances for example in examples]
    kind = structures.structure(
        [example.label for example in examples], instances, numbered=numbered
    )
    counted = kind in _COUNTED
    known = object_diameter(*instances)
    diameter = known if known and kind != "thin" else 20.0
    depth = 3 if diameter <= 40 else 4
    shortest = min(min(example.label.shape) for example in examples)
    numbers = kind == "cells"  # so distances can be learned
    network = UNet(
        features=features,
        depth=depth,
        padding="SAME" if kind in _WHOLE_TILES else "VALID",
        dropout_rate=0.2,
    )
    if pretrained is not None:
        network = pretrained.model
    largest = _LARGEST_TILE if network.padding == "SAME" else _LARGEST_OUTPUT
    tile_size = network.geometry.input_size(min(shortest, largest))
    num_classes = max(2, 1 + max(int(example.label.max()) for example in examples))
    areas = np.concatenate([_areas(example) for example in examples])
    min_size = int(np.percentile(areas, 5) / 4) if areas.size and counted else 0
    config = ExperimentConfig(
        num_steps=num_steps,
        batch_size=1,
        tile_size=tile_size,
        input_scaling=InputScaling(_INPUT_SCALING.get(kind, "percentile"))
        if pretrained is None
        else pretrained.input_scaling,
        log_every=10,
        evaluate_every=max(num_steps // 10, 1),
        best_metric=_BEST_METRIC[kind] if areas.size else "mean_iou",
        tune_instances=counted,
        model=network.clone(
            num_classes=num_classes, target="distances" if numbers else "classes"
        ),
        loss=LossSettings("cross_entropy_dice" if kind == "thin" else "cross_entropy"),
        optimizer=OptimizerSettings(
            name="adam", learning_rate=2e-3, schedule="cosine", warmup_steps=20
        ),
        weight_map=_WEIGHT_MAPS[kind],
        augmentation=replace(
            _OTHER_MICROSCOPES if numbers else AugmentationSettings(),
            elastic_sigma=min(10.0, 10.0 * tile_size / _FOLDS_BELOW),
        ),
        instances=replace(
            _FROM_DISTANCES if numbers else InstanceSettings(), min_size=min_size
        ),
    )
    config = configs.override(config, overrides)
    depth, tile_size = config.model.depth, config.tile_size
    field = Geometry(depth, config.model.kernel_size).offset + 4
    reasons = [_MEANING[kind]]
    if counted and known:
        reasons.append(f"objects are about {known:.0f} pixels wide")
    if pretrained is not None:
        reasons.append(
            "architecture, input scaling and initial weights are those of the "
            "pretrained model"
        )
    reasons += [
        f"a network of depth {depth}, whose receptive field is {field} pixels",
        f"the shortest side is {shortest} pixels: tiles of {tile_size} pixels, which "
        f"give outputs of {configs.output_size(config)}",
    ]
    if counted and "instances.min_size" not in overrides:
        reasons.append(
            f"components of fewer than {min_size} pixels are removed: the smallest "
            "annotated objects are four times as large"
        )
    if config.tune_instances:
        reasons.append(
            "after training, the threshold, method and size limit that score best on "
            "the validation images are stored with the model"
        )
    tiles = "one tile" if config.batch_size == 1 else f"{config.batch_size} tiles"
    flags = "--steps and --features" if pretrained is None else "--steps"
    reasons.append(
        f"{num_steps} updates of {tiles} each, {config.model.features} features; "
        f"change them with {flags}"
    )
    reasons += [f"{name} is set to {value}" for name, value in overrides.items()]
    return TrainingPlan(config, reasons)


def _areas(example: Example) -> np.ndarray:
    return np.unique_counts(example.instances[example.instances > 0]).counts
