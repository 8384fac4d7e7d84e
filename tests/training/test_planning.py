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
    (reported,) = re.findall(r"cells are about (\d+) pixels", proposal.reasons[0])
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
    label = np.repeat(np.arange(3), 20)[None].repeat(60, 0)
    config = plan_training(
        [from_labels(np.zeros((60, 60, 1), np.uint8), label, "a")]
    ).config
    assert config.model.num_classes == 3
