import re

import numpy as np
import pytest

from unetjax.data.examples import from_instances, from_labels
from unetjax.geometry import Geometry
from unetjax.training import config as configs
from unetjax.training.planning import plan_training


def cells_of(diameter, size=300):
    row, column = np.mgrid[:size, :size] % (2 * diameter) - diameter
    inside = row**2 + column**2 <= (diameter / 2) ** 2
    numbers = np.add.outer(
        size * (np.arange(size) // (2 * diameter)), np.arange(size) // (2 * diameter)
    )
    instances = np.where(inside, numbers + 1, 0).astype(np.int32)
    return from_instances(np.zeros((size, size, 1), np.uint8), instances, "cells")


@pytest.mark.parametrize(("diameter", "depth"), [(15, 3), (90, 4)])
def test_the_receptive_field_holds_two_cells(diameter, depth):
    proposal = plan_training([cells_of(diameter, 6 * diameter)])
    assert proposal.config.model.depth == depth
    assert Geometry(depth).offset >= 2 * 0.95 * diameter
    (reported,) = re.findall(
        r"objects are about (\d+) pixels", "\n".join(proposal.reasons)
    )
    assert abs(int(reported) - diameter) <= 2


@pytest.mark.parametrize("size", [20, 57, 100, 300])
def test_every_image_gets_a_legal_config(size):
    config = plan_training([cells_of(15, size)], num_steps=3).config
    assert configs.from_dict(configs.to_dict(config)) == config
    assert 0 < config.augmentation.elastic_sigma <= 10


def test_classes_without_any_cell():
    label = np.zeros((60, 60), np.int32)
    config = plan_training(
        [from_labels(np.zeros((60, 60, 3), np.uint8), label, "a")]
    ).config
    assert config.model.num_classes == 2
    assert config.best_metric == "mean_iou"


def test_three_classes():
    """No cells are counted, and their border costs nothing."""
    label = np.repeat(np.arange(3), 20)[None].repeat(60, 0)
    config = plan_training(
        [from_labels(np.zeros((60, 60, 1), np.uint8), label, "a")], numbered=False
    ).config
    assert config.model.num_classes == 3
    assert config.best_metric == "mean_iou"
    assert config.weight_map.w0 == 0
    assert not config.tune_instances


def test_thin_structures_get_no_border_term_and_are_chosen_by_dice():
    label = np.zeros((90, 90), np.int32)
    label[::15], label[:, 40:42] = 1, 1
    vessels = from_labels(np.zeros((90, 90, 3), np.uint8), label, "vessels")
    plan = plan_training([vessels], numbered=False)
    config = plan.config
    assert config.best_metric == "dice_1"
    assert (config.weight_map.w0, config.weight_map.class_balance) == (0.0, "none")
    assert config.weight_map.separation_border == "none"
    assert config.loss.name == "cross_entropy_dice"
    assert config.input_scaling.method == "zscore"
    assert (config.model.padding, config.tile_size) == ("SAME", 96)  # the whole image
    assert config.instances.min_size == 0
    assert not config.tune_instances
    assert "thin structures" in plan.reasons[0]


def test_compact_objects_of_one_class_are_kept_apart_by_their_border():
    config = plan_training([cells_of(15)], numbered=False).config
    assert config.best_metric == "mean_ap_pooled"
    assert config.model.target == "classes"
    assert config.weight_map.w0 == 10
    assert config.tune_instances


def test_numbered_objects_are_kept_apart_by_their_distances():
    """Each pixel of a tile is learned, at any magnification."""
    config = plan_training([cells_of(15)]).config
    assert config.best_metric == "mean_ap_pooled"
    assert (config.model.target, config.model.norm) == ("distances", "none")
    assert config.model.padding == "SAME"
    assert configs.output_size(config) == config.tile_size == 256
    assert (config.instances.method, config.instances.seeds) == ("watershed", "maps")
    assert config.weight_map.w0 == 0
    assert config.augmentation.scale == 2
    assert config.tune_instances
