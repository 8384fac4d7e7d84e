"""`unetjax info` prints what a model folder says."""

import re

import jax
import jax.numpy as jnp
import pytest

from unetjax.cli import main
from unetjax.inference.trained_model import Provenance, TrainedModel
from unetjax.instances.settings import InstanceSettings
from unetjax.model_io import model_folder
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet


@pytest.fixture(scope="module")
def trained():
    unet = UNet(features=2, depth=1)
    variables = unet.init(jax.random.key(0), jnp.zeros((1, 20, 20, 3)), train=False)
    return TrainedModel(
        unet,
        variables["params"],
        input_scaling=InputScaling("percentile"),
        class_names=("background", "nucleus"),
        instances=InstanceSettings(threshold=0.45, min_size=12),
        object_diameter=17.25,
        provenance=Provenance(
            step=1200,
            scores={"ap50": 0.75, "mean_iou": None},
            num_train_images=7,
            image_dtype="uint16",
        ),
    )


def test_a_model_is_described(trained, tmp_path, capsys):
    model_folder.save_model(tmp_path / "m", trained)
    assert main.main(["info", str(tmp_path / "m")]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "U-Net of depth 1, 2 features, ",
        "background, nucleus",
        "3 channels, input scaling percentile",
        "threshold 0.45, components, at least 12 pixels",
        "7 images of type uint16, 1,200 updates",
        "17.2 pixels wide",
    ):
        assert expected in printed
    assert re.search(r"^AP at IoU 0.5 +0.750$", printed, re.MULTILINE)
    assert "test images" not in printed
    assert "optimistic" in printed


def test_what_is_unknown_is_absent(trained, tmp_path, capsys):
    plain = TrainedModel(trained.model, trained.params)
    model_folder.save_model(tmp_path / "m", plain)
    assert main.main(["info", str(tmp_path / "m")]) == 0
    printed = capsys.readouterr().out
    assert not re.search("None|learned from|objects|optimistic", printed)


def test_no_model(tmp_path, capsys):
    assert main.main(["info", str(tmp_path)]) == 2
    assert "is not a model folder" in capsys.readouterr().err
