import copy
import dataclasses
import json
import math
import re

import pytest

from tests.training.runs import OLD_RUN
from unetjax.data.open_data import DataSettings
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet
from unetjax.settings import flatten
from unetjax.training import config, run_folder
from unetjax.training.config import ExperimentConfig
from unetjax.training.optimizers import OptimizerSettings
from unetjax.weight_maps.settings import WeightMapSettings


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


NAN = float("nan")
BAD_VALUES = [
    ("seed", -1, "at least 0 and below 4294967296"),
    ("seed", 1.5, "an integer"),
    ("seed", True, "an integer"),
    ("seed", "1", "an integer"),
    ("num_steps", -1, "at least 0"),
    ("batch_size", 0, "at least 1"),
    ("tile_size", 570, "at least 188 and 12 modulo 16 at depth 4"),
    ("input_scaling.method", "max", "one of unit, minmax, percentile, zscore, none"),
    ("input_scaling.clip", (5, 1), "a least grey value and a larger one"),
    ("input_scaling.clip", (1.0,), "a list of 2 values, each a number or None"),
    ("input_scaling.clip", ("a", None), "a list of 2 values, each a number or None"),
    ("log_every", 0, "at least 1"),
    ("log_grad_norms", "yes", "True or False"),
    ("evaluate_every", 0, "at least 1"),
    ("patience", -1, "at least 0"),
    ("best_metric", "mean_iuo", "one of accuracy, mean_iou"),
    ("best_metric", "iou_2", "one of accuracy, mean_iou, mean_dice, iou_0, iou_1"),
    ("tune_instances", 1, "True or False"),
    ("deterministic", "no", "True or False"),
    ("writers", ("csv",), "a list, each one of tensorboard, wandb, mlflow"),
    ("num_pictures", -1, "at least 0"),
    ("histograms", 0, "True or False"),
    ("pretrained", None, "a string"),
    ("model.num_classes", 0, "at least 1"),
    ("model.features", 0, "at least 1"),
    ("model.depth", -1, "at least 0"),
    ("model.kernel_size", 4, "odd"),
    ("model.padding", "valid", "one of VALID, SAME"),
    ("model.dropout_rate", 1.0, "at least 0 and below 1"),
    ("model.dropout_sites", "top", "one of bottom, every_conv"),
    ("model.negative_slope", -0.1, "at least 0"),
    ("model.up_activation", "relu", "True or False"),
    ("model.wide_last_up", 1, "True or False"),
    ("model.concat_order", "skip", "one of skip_first, up_first"),
    ("model.input_shift", NAN, "a number and finite"),
    ("model.kernel_init", "he_normal", "one of he, release2015"),
    ("model.bias_init", "zeros", "a number"),
    ("model.norm", "instance", "one of none, batch"),
    ("model.remat", "all", "True or False"),
    ("model.target", "distance", "one of classes, distances"),
    ("model.dtype", "float33", "a floating type such as 'bfloat16'"),
    ("model.dtype", "int32", "a floating type such as 'bfloat16'"),
    ("loss.name", "dice", "one of cross_entropy, soft_dice, cross_entropy_dice"),
    ("loss.reduction", "max", "one of weighted_mean, sum, mean"),
    ("optimizer.name", "momentum", "one of sgd, adam"),
    ("optimizer.learning_rate", -1.0, "at least 0"),
    ("optimizer.learning_rate", "1e-3", "a number"),
    ("optimizer.momentum", 1.0, "at least 0 and below 1"),
    ("optimizer.nesterov", "on", "True or False"),
    ("optimizer.beta1", 1.5, "at least 0 and below 1"),
    ("optimizer.beta2", -0.1, "at least 0 and below 1"),
    ("optimizer.schedule", "linear", "one of constant, cosine, staircase"),
    ("optimizer.warmup_steps", -1, "at least 0"),
    ("optimizer.decay_rate", 0.0, "above 0"),
    ("optimizer.decay_steps", 0, "at least 1"),
    ("optimizer.weight_decay", -1e-4, "at least 0"),
    ("optimizer.l2_scope", "all", "one of kernels"),
    ("optimizer.clip_norm", math.inf, "a number and finite"),
    ("optimizer.bias_rate", -2.0, "at least 0"),
    ("optimizer.average", 1.0, "at least 0 and below 1"),
    ("weight_map.w0", -1.0, "at least 0"),
    ("weight_map.sigma", 0.0, "above 0"),
    ("weight_map.near", NAN, "a number and finite"),
    ("weight_map.near_sigma", -1.0, "above 0"),
    ("weight_map.separation_border", "thick", "one of none, one_sided, two_sided"),
    ("weight_map.class_balance", "equal", "one of inverse, sqrt_inverse, none or a li"),
    ("weight_map.class_balance", (1.0, -1.0), "at least 0"),
    ("weight_map.class_balance", (1.0, NAN), "one of inverse, sqrt_inverse, none or a"),
    ("augmentation.rotation", 361.0, "at least 0 and at most 360"),
    ("augmentation.scale", 0.5, "at least 1 and at most 8"),
    ("augmentation.flip", "both", "True or False"),
    ("augmentation.elastic", "b-spline", "one of bicubic, bspline"),
    ("augmentation.elastic_sigma", -1.0, "at least 0"),
    ("augmentation.elastic_grid", 1, "at least 2"),
    ("augmentation.elastic_spacing", 0.0, "above 0"),
    ("augmentation.interpolation", "order 3", "one of linear, cubic"),
    ("augmentation.contrast", 5.0, "at least 0 and at most 0.125"),
    ("augmentation.curve_points", 4, "one more than a power of 2"),
    ("augmentation.curve_points", 1, "one more than a power of 2"),
    ("augmentation.gamma", -0.5, "at least 0"),
    ("augmentation.blur", -1.0, "at least 0"),
    ("augmentation.noise", -0.1, "at least 0"),
    ("sampling.centers", "density", "one of uniform, weighted"),
    ("sampling.background", -1.0, "at least 0"),
    ("sampling.jitter", -8.0, "at least 0"),
    ("data.name", "dsb2019", "one of folder, synthetic, lines, discs, isbi2012"),
    ("data.images", 3, "a string"),
    ("data.masks", None, "a string"),
    ("data.image_suffix", 0, "a string"),
    ("data.mask_suffix", 0, "a string"),
    ("data.mask_type", "cells", "one of auto, instances, classes"),
    ("data.ignore", "-1", "an integer or None"),
    ("data.within", 1, "a string"),
    ("data.channels", (0, 2), "a list, each a string"),
    ("data.train", "20", "such as ':20' or '20:' of data 'folder'"),
    ("data.validation", "test", "such as ':20' or '20:' of data 'folder'"),
    ("data.validation_images", 1, "a string"),
    ("data.validation_masks", 1, "a string"),
    ("data.test", "train", "such as ':20' or '20:' of data 'folder'"),
    ("data.test_images", 1, "a string"),
    ("data.test_masks", 1, "a string"),
    ("data.keep_split", "yes", "True or False"),
    ("data.validation_fraction", 1.5, "above 0 and below 1"),
    ("data.validation_fraction", 0.0, "above 0 and below 1"),
    ("data.test_fraction", 1.0, "at least 0 and below 1"),
    ("data.seed", -1, "at least 0 and below 4294967296"),
    ("data.guard", -1, "at least 0"),
    ("data.fold", "7/5", "such as '1/5' to '5/5'"),
    ("data.fold", "0/3", "such as '1/5' to '5/5'"),
    ("data.fold", "1", "such as '1/5' to '5/5'"),
    ("data.fold", "a/b", "such as '1/5' to '5/5'"),
    ("data.fold", "1/3/5", "such as '1/5' to '5/5'"),
    ("data.fold", "-1/3", "such as '1/5' to '5/5'"),
    ("data.fold", "1/1", "such as '1/5' to '5/5'"),
    ("data.num_images", 0, "at least 1"),
    ("data.data_dir", 1, "a string"),
    ("data.manual_dir", 1, "a string"),
    ("instances.threshold", 128.0, "at least 0 and below 1"),
    ("instances.method", "flood", "one of components, watershed"),
    ("instances.seeds", "edges", "one of probability, distance"),
    ("instances.seed_threshold", 1.0, "at least 0 and below 1"),
    ("instances.smoothing", -1.0, "at least 0"),
    ("instances.relative_smoothing", 2.0, "at least 0 and at most 1"),
    ("instances.merge_solidity", 1.5, "at least 0 and at most 1"),
    ("instances.min_size", -1, "at least 0"),
    ("instances.fill_holes", "yes", "True or False"),
    ("devices.partition", "xmap", "one of pmap, jit"),
]


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(("name", "value", "rule"), BAD_VALUES)
def test_bad_values_are_refused_wherever_they_come_from(name, value, rule):
    """In a dictionary, and given to a settings class in Python."""
    *section, field = name.split(".")
    refusal = f"must be {re.escape(rule)}.*, got .*"
    options = {section[0]: {field: value}} if section else {field: value}
    with pytest.raises(ValueError, match=rf"^config\.{re.escape(name)} {refusal}"):
        config.from_dict(options)
    if section:
        whole = getattr(ExperimentConfig(), section[0])
        with pytest.raises(ValueError, match=f"^{field} {refusal}"):
            dataclasses.replace(whole, **{field: value})


def test_every_option_has_a_bad_value():
    """An option without one may lack a check."""
    names = {name for name, _, _ in BAD_VALUES}
    assert names == {name for name, _ in flatten(config.to_dict(ExperimentConfig()))}


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
            {"optimizer": {"lr": 1e-3}},
            r"^config.optimizer has no option 'lr'; did you mean learning_rate\?",
        ),
        (
            {"loss": {"weights": 1}},
            "^config.loss has no option 'weights'; accepted are name, reduction.",
        ),
        ({"model": {"name": "x"}}, "^config.model has no option 'name'"),
        ({"model": {"pool_size": 3}}, "^config.model has no option 'pool_size'"),
        ({"model": 3}, "^config.model must be a section with options of its own, got"),
        (
            {"tile_size": 570},
            "^config.tile_size must be at least .* got 570; try 556 or 572",
        ),
        (
            {"instances": {"threshold": 128}},
            "^config.instances.threshold must .* got 128.0; it is a probability",
        ),
        (
            {"weight_map": {"class_balance": [1.0, 2.0, 3.0]}},
            "^config.weight_map.class_balance must have one weight for each of the 2 ",
        ),
        (
            {"data": {"fold": "1/3", "validation": ":2"}},
            "^config.data.validation images must be selected in one way, got validation"
            " ':2' and fold '1/3'; keep one",
        ),
        (
            {"data": {"test_fraction": 0.5, "test": ":2"}},
            "^config.data.test images must be selected in one way, got test ':2' and "
            "test_fraction 0.5; keep one",
        ),
        (
            {"data": {"test_images": "a"}},
            "^config.data.test_images and test_masks must be given together, got 'a' ",
        ),
        (
            {"data": {"holdout": 0.2}},
            "^config.data.holdout is now called config.data.validation_fraction",
        ),
        (
            {"data": {"name": "dsb2018", "train": ":20"}},
            r"^config.data.train must be such as 'train\[:20\]' of data 'dsb2018', got",
        ),
        (
            {"data": {"name": "isbi2021"}},
            r"^config.data.name must .* got 'isbi2021'; did you mean isbi2012\?",
        ),
    ],
)
def test_misspelt_names_and_options_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        config.from_dict(options)


@pytest.mark.parametrize(
    "selection", ["train", "train[:20]", "train[80%:]", "01", "test[-5:]"]
)
def test_slices_of_public_data_sets_are_accepted(selection):
    data = {"name": "dsb2018", "train": selection, "validation": selection}
    assert config.from_dict({"data": data}).data.train == selection


def test_an_unknown_dotted_name_is_refused():
    config.check_name("optimizer.learning_rate")
    message = r"^config has no option 'lr'; did you mean optimizer.learning_rate\?"
    with pytest.raises(ValueError, match=message):
        config.check_name("lr")
    with pytest.raises(ValueError, match=r"^config.data.holdout is now called config"):
        config.check_name("data.holdout")


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


OLD = json.loads((OLD_RUN / "config.json").read_text())


def new_config():
    """The experiment of the old run, in the names of today."""
    return ExperimentConfig(
        seed=3,
        num_steps=4,
        tile_size=20,
        log_every=1,
        evaluate_every=2,
        num_pictures=0,
        input_scaling=InputScaling("percentile", (0, 4000)),
        writers=("tensorboard",),
        model=UNet(features=2, depth=1, kernel_init="truncated_he"),
        optimizer=OptimizerSettings(
            name="adam", learning_rate=0.003, weight_decay=1e-4, l2_scope="blocks"
        ),
        weight_map=WeightMapSettings(
            separation_border="two_sided", class_balance=(0.5, 1.0)
        ),
        data=DataSettings(
            images="images", masks="masks", validation_fraction=0.3, seed=3
        ),
    )


def test_files_of_earlier_versions_are_read():
    """Where the split was drawn, it was by the seed that is that of training alone now.

    Old names are accepted in files only.
    """
    assert config.from_saved(OLD, where="config.json") == new_config()
    named = copy.deepcopy(OLD)
    named["data"]["validation"] = ":2"
    assert config.from_saved(named, where="config.json").data.seed == 0
    with pytest.raises(
        ValueError, match=r"^config.scaling is now called config.input_scal"
    ):
        config.from_dict(OLD)


@pytest.mark.usefixtures("as_installed")
def test_old_files_that_are_not_accepted_any_more_are_named():
    broken = copy.deepcopy(OLD)
    broken["augmentation"]["contrast"] = 5.0
    message = "^a.json was written by another version of unetjax: config.augmentation.c"
    with pytest.raises(ValueError, match=message):
        config.from_saved(broken, where="a.json")


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("options", [[], None, {"a": 1, "a.b": 2}, {"model": []}])
def test_what_is_no_options_is_named(options):
    with pytest.raises(ValueError, match=r"^a\.json (is damaged|was written by)"):
        config.from_saved(options, where="a.json")


def test_runs_of_earlier_versions_resume(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(OLD))
    other = dataclasses.replace(new_config().data, seed=0)
    message = r"holds a run with another config \(data.seed: 3, now 0\)"
    with pytest.raises(ValueError, match=message):
        run_folder.agree_on_config(
            path, dataclasses.replace(new_config(), data=other), holder="a run"
        )
    run_folder.agree_on_config(path, new_config(), holder="a run")
    written = json.loads(path.read_text())
    assert config.from_dict(written) == new_config()


def test_bounds_of_grey_values_may_be_open():
    scaling = config.from_dict({"input_scaling": {"clip": [None, 5.0]}}).input_scaling
    assert scaling.clip == (None, 5.0)


def test_options_are_read_and_never_taken():
    """The same dictionary makes the same experiment twice."""
    options = {"seed": 3, "model": {"depth": 2}, "tile_size": 44}
    before = copy.deepcopy(options)
    assert config.from_dict(options) == config.from_dict(options)
    assert options == before


def test_seeds_of_maps_need_a_network_that_learns_maps():
    options = {"instances": {"method": "watershed", "seeds": "maps"}}
    with pytest.raises(ValueError, match="'maps' needs a network that learns maps"):
        config.from_dict(options)
    config.from_dict({**options, "model": {"target": "border"}})
