import copy
import json

import pytest

from unetjax.network.unet import UNet
from unetjax.training import config
from unetjax.training.config import ExperimentConfig


def test_defaults_survive_json():
    options = json.loads(json.dumps(config.to_dict(ExperimentConfig())))
    assert config.from_dict(options) == ExperimentConfig()
    assert options["model"]["features"] == 64


def test_sections_become_types():
    built = config.from_dict(
        {
            "tile_size": 44,
            "model": {"depth": 2, "features": 4},
            "optimizer": {"learning_rate": 1},  # a whole number is a number
            "weight_map": {"class_balance": [1.0, 2.0]},
        }
    )
    assert built.model == UNet(depth=2, features=4)
    assert isinstance(built.optimizer.learning_rate, float)
    assert built.weight_map.class_balance == (1.0, 2.0)


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_step": 3},
            r"^config has no option 'num_step'; did you mean num_steps\?",
        ),
        (
            {"model": {"feature": 3}},
            r"^config.model has no option 'feature'; did you mean features\?",
        ),
        (
            {"optimizer": {"lrr": 1e-3}},
            "^config.optimizer has no option 'lrr'; did you mean name, learning_rate",
        ),
        ({"seed": 1.5}, "^config.seed must be a whole number, got 1.5"),
        ({"seed": True}, "^config.seed must be a whole number, got True"),
        ({"model": {"remat": 1}}, "^config.model.remat must be True or False, got 1"),
        (
            {"loss": {"name": "dice"}},
            "^config.loss.name must be one of cross_entropy, soft_dice, got 'dice'",
        ),
        (
            {"weight_map": {"class_balance": "equal"}},
            "^config.weight_map.class_balance must be one of inverse, sqrt_inverse, "
            "none or a list of numbers, got 'equal'",
        ),
        ({"model": {"kernel_size": 4}}, "^config.model.kernel_size must be odd, got 4"),
        (
            {"tile_size": 570},
            "^config.tile_size: .* got 570; try 556 or 572",
        ),
        (
            {"instances": {"threshold": 128}},
            r"^config.instances: .* got 128.0; it is a",
        ),
        (
            {"instances": {"method": "watershed", "seed_threshold": 1.0}},
            r"^config.instances: seed_threshold must be at least 0 and below 1, got",
        ),
        (
            {"instances": {"method": "flood"}},
            "^config.instances.method must be one of components, watershed, got",
        ),
        ({"model": {"pool_size": 3}}, "^config.model has no option 'pool_size'"),
        (
            {"optimizer": {"name": "momentum"}},
            "name must be one of sgd, adam, got 'mom",
        ),
        ({"batch_size": 0}, "^config.batch_size must be at least 1, got 0"),
        ({"model": {"name": "x"}}, "^config.model has no option 'name'"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        config.from_dict(options)


def test_differences_leave_out_what_may_change():
    old = config.to_dict(ExperimentConfig())
    new = config.to_dict(
        ExperimentConfig(
            num_steps=3, tune_instances=True, seed=4, model=UNet(features=8)
        )
    )
    assert config.differences(old, new) == [
        "model.features: 64, now 8",
        "seed: 0, now 4",
    ]
    assert config.differences(old, old) == []


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("bounds", [[5, 1], [3.0], ["a", None]])
def test_bounds_that_are_no_interval_are_refused(bounds):
    with pytest.raises(ValueError, match=r"^config.clip must be a least .* got \("):
        config.from_dict({"clip": bounds})
    assert config.from_dict({"clip": [None, 5.0]}).clip == (None, 5.0)


def test_every_option_has_a_name_with_dots():
    nested = {"a": 1, "b": {"c": 2, "d": {"e": 3}}}
    assert dict(config.flatten(nested)) == {"a": 1, "b.c": 2, "b.d.e": 3}


def test_options_are_read_and_never_taken():
    """The same dictionary makes the same experiment twice."""
    options = {"seed": 3, "model": {"depth": 2}, "tile_size": 44}
    before = copy.deepcopy(options)
    assert config.from_dict(options) == config.from_dict(options)
    assert options == before


def test_options_of_older_run_folders_have_their_new_names():
    assert config.from_dict({"sinks": ["wandb"]}).writers == ("wandb",)
