import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import networks
from unetjax.network.forward import forward
from unetjax.network.transfer import transfer
from unetjax.network.unet import UNet

TRAINED = UNet(features=2, depth=1, target="distances")
KEYS = jax.random.split(jax.random.key(0), 3)


def init(model, key, channels=1):
    image = jnp.zeros((1, 20, 20, channels))
    return networks.init(model, key, image)["params"]


def outputs(model, params, image):
    return forward(model, params, {}, image)[0]


@pytest.fixture(scope="module")
def params():
    return init(TRAINED, KEYS[0])


def test_a_network_of_the_same_outputs_starts_as_the_trained_one(params):
    """Dropout and precision may differ."""
    model = TRAINED.clone(dropout_rate=0.1)
    started = transfer(TRAINED, params, model, init(model, KEYS[1]))
    image = jax.random.normal(KEYS[2], (1, 20, 20, 1))
    np.testing.assert_array_equal(
        outputs(TRAINED, params, image), outputs(model, started, image)
    )


@pytest.mark.parametrize(
    ("changes", "into", "taken"),
    [
        ({"num_classes": 4}, [0, 1, 4, 5], [0, 1, 2, 3]),  # maps follow the classes
        ({"target": "classes"}, [0, 1], [0, 1]),
        ({"target": "neighbours"}, [0, 1], [0, 1]),
        ({"target": "border", "num_classes": 1}, [0], [0]),
    ],
)
def test_channels_of_the_head_are_copied_by_their_meaning(params, changes, into, taken):
    model = TRAINED.clone(**changes)
    initial = init(model, KEYS[1])
    started = transfer(TRAINED, params, model, initial)
    image = jax.random.normal(KEYS[2], (1, 20, 20, 1))
    ours, theirs = outputs(model, started, image), outputs(TRAINED, params, image)
    np.testing.assert_allclose(ours[..., into], theirs[..., taken], rtol=1e-6)
    others = [k for k in range(model.num_outputs) if k not in into]
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(
            started["head"][name][..., others], initial["head"][name][..., others]
        )


@pytest.mark.parametrize(("old", "new"), [(1, 3), (3, 1), (3, 4)])
def test_a_grey_image_in_any_number_of_channels_gives_the_same(old, new):
    params = init(TRAINED, KEYS[0], channels=old)
    started = transfer(TRAINED, params, TRAINED, init(TRAINED, KEYS[1], channels=new))
    grey = jax.random.normal(KEYS[2], (1, 20, 20, 1))
    before, after = (jnp.repeat(grey, n, axis=-1) for n in (old, new))
    np.testing.assert_allclose(
        outputs(TRAINED, started, after), outputs(TRAINED, params, before), atol=1e-5
    )


def test_without_poolings_the_first_convolution_is_in_the_bottleneck():
    model = UNet(features=2, depth=0)
    image = jnp.ones((1, 20, 20, 1))
    params = init(model, KEYS[0])
    started = transfer(model, params, model, init(model, KEYS[1], channels=2))
    np.testing.assert_allclose(
        outputs(model, started, jnp.repeat(image, 2, axis=-1)),
        outputs(model, params, image),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": 3}, "the trained one has features 2, not 3"),
        ({"depth": 2, "norm": "layer"}, "depth 1, not 2, norm 'none', not 'layer'"),
        ({"padding": "SAME"}, "padding 'VALID', not 'SAME'"),
        ({"input_shift": -0.5}, "input_shift 0.0, not -0.5"),
    ],
)
def test_another_architecture_is_refused(params, changes, message):
    model = TRAINED.clone(**changes)
    with pytest.raises(ValueError, match=message):
        transfer(TRAINED, params, model, params)
