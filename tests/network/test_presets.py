import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.network import presets
from unetjax.network.unet import UNet


def parameters(model, side=572):
    image = jax.ShapeDtypeStruct((1, side, side, 1), "float32")
    init = jax.eval_shape(
        lambda k, x: model.init_with_output(k, x, train=False), jax.random.key(0), image
    )
    return init[0].shape[1], sum(x.size for x in jax.tree.leaves(init[1]))


@pytest.mark.parametrize(
    ("preset", "side", "count"),
    [
        (presets.paper, 388, 31_030_658),
        (presets.release2015, 388, 31_100_354),
        (presets.falk2019, 388, 31_030_658),
        (presets.tf_unet, 532, 116_770),
    ],
)
def test_size_and_parameter_count(preset, side, count):
    assert parameters(preset()) == (side, count)


def test_paper_is_the_default():
    assert presets.paper() == UNet()


@pytest.fixture(scope="module")
def he():
    image = jnp.zeros((1, 44, 44, 1))
    return UNet(features=32, depth=2).init(jax.random.key(0), image, train=False)


def test_kernels_are_gaussian_with_the_papers_deviation(he):
    """Sec. 3: sqrt(2 / N), N = incoming nodes; biases 0; not truncated."""
    params = he["params"]
    for block, conv, nodes in (
        ("bottleneck", "conv_1", 9 * 128),
        ("bottleneck", "conv_0", 9 * 64),
        ("decoder_1", "conv_0", 9 * 128),
    ):
        kernel = np.asarray(params[block][conv]["kernel"])
        np.testing.assert_allclose(kernel.std(), np.sqrt(2 / nodes), rtol=0.02)
        assert np.abs(kernel).max() > 2.3 * kernel.std()
    up = np.asarray(params["up_1"]["kernel"])
    np.testing.assert_allclose(up.std(), np.sqrt(2 / 128), rtol=0.02)
    assert not any(b.any() for b in jax.tree.leaves(he) if b.ndim == 1)


def test_release2015_counts_outgoing_nodes_of_up_convolutions():
    model = presets.release2015().clone(features=32, depth=2)
    image = jnp.zeros((1, 44, 44, 1))
    up = model.init(jax.random.key(0), image, train=False)["params"]["up_1"]["kernel"]
    np.testing.assert_allclose(up.std(), np.sqrt(2 / (4 * 64)), rtol=0.02)


def test_tf_unet_initialisation():
    """Truncated at two nominal deviations, counted as that package does; biases 0.1."""
    model = presets.tf_unet().clone(features=32)
    image = jnp.zeros((1, 44, 44, 1))
    params = model.init(jax.random.key(0), image, train=False)["params"]
    for block, channels in (("encoder_1", 64), ("bottleneck", 128), ("decoder_1", 128)):
        kernel = np.asarray(params[block]["conv_1"]["kernel"])
        nominal = np.sqrt(2 / (9 * channels))
        assert np.abs(kernel).max() <= 2 * nominal
        np.testing.assert_allclose(kernel.std() / nominal, 0.8796, rtol=0.02)
    np.testing.assert_allclose(params["head"]["bias"], 0.1)
