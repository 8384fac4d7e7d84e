"""Prediction at another magnification."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import networks
from unetjax.inference import magnification
from unetjax.inference.predict import predict
from unetjax.inference.segment import segment
from unetjax.inference.trained_model import TrainedModel
from unetjax.instances.settings import InstanceSettings
from unetjax.model_io import model_folder
from unetjax.network.unet import UNet

MODEL = UNet(features=1, depth=1)


@pytest.fixture(scope="module")
def trained():
    tile = jnp.zeros((1, 20, 20, 1))
    params = networks.init(MODEL, jax.random.key(0), tile)["params"]
    return TrainedModel(MODEL, params, object_diameter=16.0)


def threshold(batch):
    """Logits of a network that finds what is brighter than 0.5."""
    margin = MODEL.geometry.margin
    inner = np.asarray(batch)[:, margin:-margin, margin:-margin, 0]
    return 40 * np.stack([0.5 - inner, inner - 0.5], axis=-1)


def discs(diameter, shape=(60, 75), apart=25):
    row, column = np.indices(shape) % apart - apart // 2
    return (np.hypot(row, column) <= diameter / 2).astype(np.float32)


@pytest.mark.parametrize("scale", [0.5, 1.7, 2.0])
def test_it_is_the_prediction_of_the_resized_image(trained, scale):
    image = np.random.default_rng(0).random((31, 44, 1), np.float32)
    shape = magnification.scaled_shape(image.shape, scale)
    resized = predict(trained, magnification.resize(image, shape))
    expected = magnification.resize(resized, image.shape[:2])
    probs = predict(trained, image, scale=scale)
    np.testing.assert_allclose(probs, expected, atol=1e-6)
    assert probs.shape == (31, 44, 2)
    np.testing.assert_allclose(probs.sum(axis=-1), 1, atol=1e-5)


def test_scaling_to_a_size_and_back_keeps_smooth_images():
    row, column = np.indices((40, 50)) / 10
    image = np.sin(row + column)[..., np.newaxis]
    there = magnification.resize(image, (80, 100))
    back = magnification.resize(there, (40, 50))
    assert np.abs(back - image)[2:-2, 2:-2].max() < 0.05


@pytest.mark.parametrize("diameter", [6, 9])
def test_auto_gives_objects_their_learned_size(trained, diameter):
    image = discs(diameter)
    found = magnification.object_diameter(
        segment(trained, image, engines=[threshold]).instances
    )
    scale = magnification.proposed_scale(found, trained.object_diameter)
    assert scale > 1.5
    expected = segment(trained, image, scale=scale, engines=[threshold])
    actual = segment(trained, image, scale="auto", engines=[threshold])
    np.testing.assert_allclose(actual.probs, expected.probs, atol=1e-6)


def test_auto_leaves_images_alone_whose_objects_have_about_the_learned_size(trained):
    image = discs(15)
    expected = segment(trained, image, engines=[threshold])
    actual = segment(trained, image, scale="auto", engines=[threshold])
    np.testing.assert_array_equal(actual.probs, expected.probs)
    nothing = segment(trained, np.zeros((30, 30)), scale="auto", engines=[threshold])
    assert nothing.instances.max() == 0


def test_size_limits_are_those_of_the_learned_magnification(trained):
    """A disc of 6 pixels has 29, at twice the size 113."""
    least = replace(trained, instances=InstanceSettings(min_size=60))
    image = discs(6)
    assert segment(least, image, engines=[threshold]).instances.max() == 0
    assert segment(least, image, scale=2.0, engines=[threshold]).instances.max() > 0


def test_a_model_without_the_size_of_its_objects_cannot_scale_to_it(trained):
    unknown = replace(trained, object_diameter=None)
    with pytest.raises(ValueError, match="scale 'auto' needs the object size"):
        segment(unknown, np.zeros((30, 30)), scale="auto")


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan])
def test_factors_that_are_none_are_refused(trained, scale):
    with pytest.raises(ValueError, match="scale must be above 0"):
        predict(trained, np.zeros((30, 30)), scale=scale)


def test_valid_crops_are_not_scaled(trained):
    with pytest.raises(ValueError, match="scale 2 needs crop 'same'"):
        predict(trained, np.zeros((60, 60)), scale=2.0, crop="valid")


def test_a_model_folder_keeps_the_size_of_the_objects(trained, tmp_path):
    model_folder.save_model(tmp_path / "model", trained)
    assert model_folder.load_model(tmp_path / "model").object_diameter == 16.0
