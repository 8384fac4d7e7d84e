"""The variance is that of all predictions that are averaged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.cli import main
from unetjax.files import images
from unetjax.inference.predict import predict
from unetjax.inference.segment import segment, segment_with_variance
from unetjax.inference.trained_model import TrainedModel
from unetjax.inference.tta import mean_and_variance
from unetjax.model_io import model_folder
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet

IMAGE = np.random.default_rng(0).integers(0, 255, (21, 26), np.uint8)
D4 = [(k, mirrored) for mirrored in (False, True) for k in range(4)]


def make(seed, target="classes"):
    model = UNet(features=2, depth=1, target=target)

    def init():
        return model.init(jax.random.key(0), jnp.zeros((1, 20, 20, 1)), train=False)

    generator = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(generator.normal(0, 0.7, leaf.shape), jnp.float32),
        jax.eval_shape(init),
    )
    return TrainedModel(model, params["params"], input_scaling=InputScaling("unit"))


def members(trained):
    """Probabilities of the eight symmetries, by hand."""
    for k, mirrored in D4:
        turned = np.rot90(IMAGE[:, ::-1] if mirrored else IMAGE, k)
        probs = np.rot90(predict(trained, np.ascontiguousarray(turned)), -k)
        yield probs[:, ::-1] if mirrored else probs


@pytest.mark.parametrize("target", ["classes", "border"])
def test_it_is_the_variance_over_models_and_symmetries(target):
    """Of the border target, borders count as background, as in the result."""
    models = [make(0, target), make(1, target)]
    every = np.stack([probs for each in models for probs in members(each)])
    found, variance = segment_with_variance(
        models[0], IMAGE, others=models[1:], tta="d4"
    )
    np.testing.assert_allclose(variance, every.var(axis=0).mean(axis=-1), atol=1e-6)
    assert variance.max() > 0.01
    alone = segment(models[0], IMAGE, others=models[1:], tta="d4")
    np.testing.assert_array_equal(found.probs, alone.probs)
    np.testing.assert_array_equal(found.instances, alone.instances)


def test_one_prediction_has_no_variance():
    _, variance = segment_with_variance(make(0), IMAGE)
    assert variance.shape == IMAGE.shape
    assert not variance.any()


def test_certain_predictions_that_differ_have_a_variance_of_a_quarter():
    ends = [np.array([[[p, 1 - p]]], np.float32) for p in (0, 1)]
    average, variance = mean_and_variance(iter(ends), lambda each: each)
    assert average.tolist() == [[[0.5, 0.5]]]
    assert variance.tolist() == [[0.25]]


def test_the_command_writes_it_and_does_not_read_it_again(tmp_path, capsys):
    model_folder.save_model(tmp_path / "model", make(0))
    (tmp_path / "out").mkdir()
    images.write_image(tmp_path / "out" / "a.png", IMAGE[..., None])
    argv = ["predict", str(tmp_path / "model"), str(tmp_path / "out")]
    argv += ["--out", str(tmp_path / "out"), "--engine", "jax", "--uncertainty"]
    assert main.main(argv) == 2
    assert "add --tta d4, or --with another model" in capsys.readouterr().err
    assert main.main([*argv, "--tta", "rot90"]) == 0
    written = images.read_image(tmp_path / "out" / "a_uncertainty.tif")
    _, variance = segment_with_variance(make(0), IMAGE, tta="rot90")
    np.testing.assert_allclose(written[..., 0], variance, atol=1e-6)
    assert written.dtype == np.float32
    capsys.readouterr()
    assert main.main([*argv, "--tta", "rot90"]) == 0
    printed = capsys.readouterr().out
    assert "1 image segmented into" in printed
    assert "a_uncertainty.tif (a result of a prediction)" in printed
