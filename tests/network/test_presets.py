import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import apply, init, normal
from unetjax.network import presets
from unetjax.network.forward import activations
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
    return init(UNet(features=32, depth=2), jax.random.key(0), image)


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
    up = init(model, jax.random.key(0), image)["params"]["up_1"]["kernel"]
    np.testing.assert_allclose(up.std(), np.sqrt(2 / (4 * 64)), rtol=0.02)


def test_tf_unet_initialisation():
    """Truncated at two nominal deviations, counted as that package does; biases 0.1."""
    model = presets.tf_unet().clone(features=32)
    image = jnp.zeros((1, 44, 44, 1))
    params = init(model, jax.random.key(0), image)["params"]
    for block, channels in (("encoder_1", 64), ("bottleneck", 128), ("decoder_1", 128)):
        kernel = np.asarray(params[block]["conv_1"]["kernel"])
        nominal = np.sqrt(2 / (9 * channels))
        assert np.abs(kernel).max() <= 2 * nominal
        np.testing.assert_allclose(kernel.std() / nominal, 0.8796, rtol=0.02)
    np.testing.assert_allclose(params["head"]["bias"], 0.1)


def dropped_twice(model, side):
    """What all modules return in training, for two dropout keys."""
    image = normal(1, side, side, 1)
    variables = init(model, jax.random.key(0), image)

    def run(seed):
        rngs = {"dropout": jax.random.key(seed)}
        _, state = apply(
            model, variables, image, train=True, rngs=rngs, capture_intermediates=True
        )
        return state["intermediates"]

    return run(0), run(1)


def test_release2015_drops_after_the_last_two_blocks_of_the_contracting_path():
    """Hence on the skip of the deepest level as well, and nowhere before."""
    model = presets.release2015().clone(features=4, depth=2)
    one, other = dropped_twice(model, 44)
    assert [name for name in one if name.startswith("Dropout")] == [
        "Dropout_0",
        "Dropout_1",
    ]
    for i, block in enumerate(("encoder_1", "bottleneck")):
        before = np.asarray(one[block]["__call__"][0])
        after = np.asarray(one[f"Dropout_{i}"]["__call__"][0])
        kept = after != 0
        np.testing.assert_allclose(after[kept], 2 * before[kept], rtol=1e-6)
        assert 0.4 < kept[before != 0].mean() < 0.6
    for i in range(2):  # masks begin behind the last of them
        np.testing.assert_array_equal(
            *(x[f"encoder_{i}"]["__call__"][0] for x in (one, other))
        )


def test_tf_unet_drops_in_every_convolution_before_its_relu():
    model = presets.tf_unet().clone(features=4)
    one, _ = dropped_twice(model, 44)
    blocks = ("encoder_0", "encoder_1", "bottleneck", "decoder_1", "decoder_0")
    np.testing.assert_array_equal(  # nothing more at the bottom
        *(one[name]["__call__"][0] for name in ("Dropout_1", "bottleneck"))
    )
    for block in blocks:
        for i in range(2):
            before = np.asarray(one[block][f"conv_{i}"]["__call__"][0])
            after = np.asarray(one[block][f"Dropout_{i}"]["__call__"][0])
            kept = after != 0
            np.testing.assert_allclose(after[kept] * 0.75, before[kept], rtol=1e-5)
            assert 0.7 < kept.mean() < 0.8
            assert (after < 0).any()  # the ReLU comes after


def test_falk2019_drops_nothing_and_centres_its_input():
    model = presets.falk2019().clone(features=4, depth=2)
    one, other = dropped_twice(model, 44)
    np.testing.assert_array_equal(*(x["head"]["__call__"][0] for x in (one, other)))
    image = np.asarray(normal(1, 44, 44, 1))
    variables = init(model, jax.random.key(0), image)
    plain = model.clone(input_shift=0.0)
    np.testing.assert_array_equal(
        apply(model, variables, image), apply(plain, variables, image - 0.5)
    )


@pytest.mark.parametrize(
    ("preset", "up_first", "slope"),
    [
        (presets.paper, False, 1.0),  # no activation
        (presets.release2015, True, 0.0),
        (presets.falk2019, True, 0.1),
        (presets.tf_unet, False, 0.0),
    ],
)
def test_what_is_concatenated_and_in_which_order(preset, up_first, slope):
    """The first convolution of a decoder, worked out from skip and up-convolution."""
    # Other initial values, so that what an activation sees has both signs.
    model = preset().clone(features=2, depth=1, kernel_init="he", bias_init=0.0)
    image = normal(1, 20, 20, 1)
    params = init(model, jax.random.key(1), image)["params"]
    found = jax.tree.map(
        np.asarray, jax.jit(activations, static_argnums=0)(model, params, {}, image)
    )
    up = np.where(found["up_0"] < 0, slope * found["up_0"], found["up_0"])
    assert (found["up_0"] < 0).any()
    pair = [found["encoder_0"][:, 4:12, 4:12], up]
    both = np.concatenate(pair[::-1] if up_first else pair, axis=-1)
    kernel, bias = (params["decoder_0"]["conv_0"][name] for name in ("kernel", "bias"))
    expected = jax.lax.conv_general_dilated(
        both, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(
        found["decoder_0/conv_0"], np.add(expected, bias), atol=1e-5
    )
