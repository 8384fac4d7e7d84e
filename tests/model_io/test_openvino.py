"""OpenVINO must compute what the network computes, and send no usage report."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from unetjax.inference.predict import predict
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import openvino
from unetjax.network.unet import UNet

# Not by importorskip, which would import it with its reports.
if importlib.util.find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)


def largest_error(actual, expected):
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(
    "options",
    [{}, dict(padding="SAME"), dict(norm="batch"), dict(norm="layer"), dict(depth=3)],
    ids=str,
)
def test_predict_equals_that_of_jax(make_variables, options):
    """Several tiles of an image of several channels, and both ends of a crop."""
    model = UNet(features=4, **{"depth": 2, **options})
    state = dict(make_variables(model, channels=2))
    params = state.pop("params")
    image = np.random.default_rng(0).random((57, 130, 2), np.float32)
    trained = TrainedModel(model, params, state)
    options = dict(tile_size=tile_size(model), softmax=False)
    engine = openvino.compile_network(trained)
    expected = predict(trained, image, **options)
    actual = predict(trained, image, engine=engine, **options)
    assert largest_error(actual, expected) < 1e-5


def tile_size(model):
    geometry = model.geometry
    rim = geometry.margin if model.padding == "SAME" else 0
    return geometry.input_size(2 * geometry.period + 2 * rim)


def test_bfloat16_is_as_close_as_that_of_jax(make_variables):
    if "BF16" not in openvino.capabilities():
        pytest.skip("this CPU does not multiply bfloat16")
    model = UNet(features=8, depth=3)
    params = make_variables(model)["params"]
    half = TrainedModel(model.clone(dtype="bfloat16"), params)
    image = np.random.default_rng(0).random((64, 64), np.float32)
    expected = predict(TrainedModel(model, params), image, softmax=False)
    jax_error = largest_error(predict(half, image, softmax=False), expected)
    engine = openvino.compile_network(half)
    actual = predict(half, image, engine=engine, softmax=False)
    assert 1e-4 < largest_error(actual, expected) < 2 * jax_error


@pytest.mark.parametrize(
    ("dtype", "available", "words"),
    [
        ("bfloat16", ["FP32", "INT8"], "needs a CPU .* has FP32, INT8; use float32"),
        ("float16", ["FP32"], "float32, bfloat16 for OpenVINO, got float16"),
    ],
)
def test_dtype_that_the_cpu_lacks_is_refused(dtype, available, words):
    with pytest.raises(ValueError, match=words):
        openvino._check_dtype(dtype, available)


def test_absent_library_is_named_with_the_way_to_it(make_variables, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    model = UNet(features=2, depth=1)
    with pytest.raises(ModuleNotFoundError, match=r"unetjax\[openvino\]"):
        openvino.compile_network(TrainedModel(model, make_variables(model)["params"]))


LOOKS = """
import os, sys
seen = []
watched = ("socket.", "subprocess.", "os.posix_spawn", "os.fork", "os.mkdir")
sys.addaudithook(lambda event, _: event.startswith(watched) and seen.append(event))
from unetjax.model_io import openvino
openvino.capabilities()
print(os.environ.get("CI"), sys.modules.get("openvino_telemetry", "absent"))
print(seen)
"""


@pytest.mark.parametrize("ci", [None, "no"])
def test_openvino_sends_no_report_and_the_process_stays_as_it_was(tmp_path, ci):
    """A plain import creates a folder in HOME, and sends where there is a network."""
    env = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", LOOKS],
        env=env | {"HOME": str(tmp_path)} | ({"CI": ci} if ci else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert not list(tmp_path.iterdir())
    kept, events = done.stdout.splitlines()
    assert kept.startswith(f"{ci} <module 'openvino_telemetry' from")
    assert "socket" not in events
    assert "spawn" not in events
