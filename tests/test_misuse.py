"""Mistakes of callers end in one sentence that names the argument and the way out."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import unetjax
from unetjax.training.steps import TrainState

MODEL = unetjax.UNet(features=2, depth=1)
OPTIMIZER = optax.sgd(0.1)
IMAGE = jnp.zeros((1, 36, 36, 1))
LABEL = jnp.zeros((1, 20, 20), jnp.int32)
WEIGHT = jnp.ones((1, 20, 20))
LOGITS = jnp.zeros((1, 20, 20, 2))
ONE_HOT = jax.nn.one_hot(LABEL, 2)
LARGE_LABEL, LARGE_WEIGHT = jnp.zeros((1, 36, 36), int), jnp.ones((1, 36, 36))
MICROGRAPH = np.zeros((9, 9))

pytestmark = pytest.mark.usefixtures("as_installed")


@pytest.fixture
def variables(make_variables):
    return make_variables(MODEL)


@pytest.fixture
def trained(variables):
    return unetjax.TrainedModel(MODEL, variables["params"])


@pytest.fixture
def step(variables):
    """A training step whose state and batch can be changed."""
    params = variables["params"]
    opt_state = OPTIMIZER.init(params)

    def run(params=params, **changes):
        state = TrainState(jnp.zeros((), jnp.int32), params, {}, opt_state)
        batch = {"image": IMAGE, "label": LABEL, "weight": WEIGHT, **changes}
        update = functools.partial(unetjax.train_step, model=MODEL, optimizer=OPTIMIZER)
        return update(state, batch, jax.random.key(0))

    return run


def refused(message, function, *args, error=ValueError, **options):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        function(*args, **options)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (1, 1, 36, 36),
            "image must have its channels last, [B, H, W, C], got shape "
            "[1, 1, 36, 36]; use jnp.moveaxis(image, 1, -1).",
        ),
        (
            (36, 36, 1),
            "image must be a batch [B, H, W, C], got shape [36, 36, 1]; a single "
            "image [H, W, C] becomes one by image[None].",
        ),
        ((36, 36), "image must be a batch [B, H, W, C], got shape [36, 36]; a single"),
        ((1, 35, 36, 1), "input_size must be at least 18 and 0 modulo 2 at depth 1"),
    ],
)
def test_images_of_other_shapes(variables, step, shape, message):
    image = jnp.zeros(shape)
    apply = functools.partial(MODEL.apply, train=False)
    refused(message, apply, variables, image)
    refused(message, jax.jit(apply), variables, image)
    refused(message, MODEL.init, jax.random.key(0), image, train=False)
    refused(message, step, image=image)


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (
            ONE_HOT,
            ValueError,
            "labels must be one class per pixel, of shape [1, 20, 20], got one-hot "
            "labels of shape [1, 20, 20, 2]; use labels.argmax(axis=-1).",
        ),
        (
            LABEL.astype(float),
            TypeError,
            "labels must be integers, got float32; use labels.astype('int32').",
        ),
        (
            LARGE_LABEL,
            ValueError,
            "labels must have the shape of the output of the network, [1, 20, 20], got "
            "[1, 36, 36]; crop them with unetjax.network.blocks.center_crop(",
        ),
    ],
)
def test_labels_of_another_form(step, label, error, message):
    for loss in (unetjax.weighted_cross_entropy, unetjax.soft_dice):
        refused(message, loss, LOGITS, label, WEIGHT, error=error)
        refused(message, jax.jit(loss), LOGITS, label, WEIGHT, error=error)
    refused(message, step, label=label, error=error)


def test_weights_that_are_not_cropped(step):
    message = "weights must have the shape of the output of the network, [1, 20, 20], "
    refused(message, unetjax.weighted_cross_entropy, LOGITS, LABEL, LARGE_WEIGHT)
    refused(message, step, weight=LARGE_WEIGHT)


def test_labels_beyond_the_classes(step):
    """Compiled code cannot refuse values: there the loss becomes NaN."""
    message = "labels must be below the number of classes, 2, got 5; raise num_classes"
    label = LABEL.at[0, 3, 4].set(5)
    for loss in (unetjax.weighted_cross_entropy, unetjax.soft_dice):
        refused(message, loss, LOGITS, label, WEIGHT)
        assert np.isnan(jax.jit(loss)(LOGITS, label, WEIGHT)).any()
        ignored = WEIGHT.at[0, 3, 4].set(0.0)
        assert np.isfinite(jax.jit(loss)(LOGITS, label, ignored)).all()
    refused(message, step, label=label)
    _, metrics = jax.jit(step)(label=label)
    assert np.isnan(metrics.loss)


def test_all_variables_for_the_parameters(variables, step):
    message = "params must be the parameters alone, got variables with the collections "
    refused(message, step, params=variables)
    refused(message, unetjax.TrainedModel, MODEL, variables)


def test_a_missing_train_is_named(variables):
    with pytest.raises(TypeError, match="keyword-only argument: 'train'"):
        MODEL.apply(variables, IMAGE)


def test_no_trained_model(variables, trained):
    message = "trained must be a TrainedModel, got {}; unetjax.load_model(folder) "
    for function in (unetjax.predict, unetjax.segment):
        for other in (variables, MODEL):
            text = message.format(type(other).__name__)
            refused(text, function, other, MICROGRAPH, error=TypeError)
    text = message.format("UNet")
    refused(text, trained.segment, MICROGRAPH, others=[MODEL], error=TypeError)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"class_names": ("cell",)},
            "class_names must name all 2 classes or none, got",
        ),
        ({"class_names": "ab"}, "class_names must be a list, each a string, got 'ab'."),
        ({"input_scaling": "unit"}, "input_scaling must be "),
        ({"instances": {"min_size": 3}}, "instances must be "),
        ({"provenance": {"step": 3}}, "provenance must be "),
    ],
)
def test_fields_of_a_trained_model(variables, changes, message):
    refused(message, unetjax.TrainedModel, MODEL, variables["params"], **changes)


def test_numbers_given_as_text(trained):
    refused("features must be an integer, got '8'.", unetjax.UNet, features="8")
    wrong_type = functools.partial(refused, error=TypeError)
    wrong_type("input_size must be an integer, got '572'.", unetjax.output_size, "572")
    wrong_type("depth must be an integer, got '4'.", unetjax.Geometry, depth="4")
    predict = functools.partial(trained.predict, MICROGRAPH)
    wrong_type("tile_size must be an integer, got '36'.", predict, tile_size="36")
    refused("batch_size must be a number, got '1'.", predict, batch_size="1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": -1}, "depth must be at least 0 and at most 16, got -1."),
        ({"kernel_size": 4}, "kernel_size must be odd, got 4: an even one would shift"),
        ({"padding": "FULL"}, "padding must be one of VALID, SAME, got 'FULL'"),
    ],
)
def test_geometries_that_no_network_has(options, message):
    refused(message, unetjax.Geometry, **options)
    refused(message, unetjax.UNet, **options)
