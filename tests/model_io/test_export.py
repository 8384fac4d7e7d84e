"""Exported models compute what the model computes, or are not written."""

import json

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from tests import networks
from unetjax.cli import main
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import export as exports
from unetjax.model_io import model_folder, onnx
from unetjax.network.forward import forward
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet
from unetjax.targets.target import activate

TARGETS = ["classes", "distances", "neighbours", "border"]


def make(target="distances", **options):
    model = UNet(features=2, depth=1, target=target, **options)
    image = np.zeros((1, 44, 44, 2), np.float32)
    variables = networks.init(model, jax.random.key(0), image)
    scaling = InputScaling("percentile", clip=(0, 4000))
    return TrainedModel(model, variables["params"], input_scaling=scaling)


def expected(trained, tiles):
    model = trained.model
    outputs, _ = forward(model, trained.params, {}, jnp.asarray(tiles))
    return activate(outputs, num_classes=model.num_classes, target=model.target)


@pytest.mark.parametrize("target", TARGETS)
def test_onnx_has_probabilities_and_maps_for_tiles_of_any_legal_size(tmp_path, target):
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    trained = make(target)
    done = exports.export(trained, tmp_path / "a.onnx")
    assert done.difference < 1e-5
    graph = ReferenceEvaluator((tmp_path / "a.onnx").read_bytes())
    tiles = 3 * np.random.default_rng(1).standard_normal((3, 44, 52, 2))
    tiles = tiles.astype(np.float32)
    (found,) = graph.run(None, {onnx.IMAGE: tiles.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(
        found.transpose(0, 2, 3, 1), expected(trained, tiles), atol=1e-5
    )


def test_the_contract_is_stored_in_the_onnx_file(tmp_path):
    library = pytest.importorskip("onnx")
    exports.export(make(), tmp_path / "a.onnx")
    (stored,) = library.load(tmp_path / "a.onnx").metadata_props
    facts = json.loads(stored.value)
    assert stored.key == "unetjax"
    assert facts["input_scaling"] == {"method": "percentile", "clip": [0, 4000]}
    assert facts["outputs"][2:] == ["center distance", "boundary distance"]
    assert facts["tile_sizes"] == "18 + 2 n pixels"
    assert facts["lost_pixels"] == 16


def test_stablehlo_runs_without_the_network(tmp_path):
    trained = make(padding="SAME")
    exports.export(trained, tmp_path / "a.stablehlo", tile_size=24)
    data = bytearray((tmp_path / "a.stablehlo").read_bytes())
    tiles = np.random.default_rng(1).standard_normal((5, 24, 24, 2)).astype(np.float32)
    found = jax.export.deserialize(data).call(tiles)
    np.testing.assert_allclose(found, expected(trained, tiles), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.pt", {}, r"a\.pt must end in \.onnx or \.stablehlo"),
        ("a.stablehlo", {"tile_size": 45}, "tile_size must be at least .* got 45"),
        ("a.onnx", {"tile_size": 44}, "ONNX has free sizes"),
    ],
)
def test_what_cannot_be_exported_is_refused(tmp_path, name, options, message):
    with pytest.raises(ValueError, match=message):
        exports.export(make(), tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_a_network_of_low_precision_is_exported_in_float32(tmp_path):
    pytest.importorskip("onnx")
    done = exports.export(make(dtype="bfloat16"), tmp_path / "a.onnx")
    assert done.difference < 1e-5


def test_an_export_that_differs_is_not_written(tmp_path, monkeypatch):
    """As if the other runtime computed something else."""
    pytest.importorskip("onnx")
    whole = onnx.to_onnx
    other = make("distances")
    other.params["head"]["bias"] = other.params["head"]["bias"] + np.arange(4)
    monkeypatch.setattr(onnx, "to_onnx", lambda _, **options: whole(other, **options))
    with pytest.raises(ValueError, match=r"not written: .* differs from JAX by 0\.\d"):
        exports.export(make("distances"), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_names_what_the_file_expects(tmp_path, capsys):
    pytest.importorskip("onnx")
    model_folder.save_model(tmp_path / "model", make())
    argv = ["export", str(tmp_path / "model"), str(tmp_path / "a.onnx")]
    assert main.main(argv) == 0
    printed = capsys.readouterr().out
    assert "2 channels, float32, tiles of 18 + 2 n pixels" in printed
    assert "center distance" in printed
    assert main.main(argv) == 2
    assert "a.onnx exists already" in capsys.readouterr().err
