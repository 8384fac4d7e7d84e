import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import apply, init, normal
from unetjax.devices import parallel
from unetjax.network import convolution, winograd
from unetjax.network.unet import UNet


def both(shape, features, key, *, convolve, size=3, dtype="float32"):
    """A convolution and its two gradients for a random cotangent."""
    image, kernel, cotangent = jax.random.split(key, 3)
    x = jax.random.normal(image, shape, dtype)
    w = jax.random.normal(kernel, (size, size, shape[-1], features), dtype)
    y, pull_back = jax.vjp(convolve, x, w)
    return y, *pull_back(jax.random.normal(cotangent, y.shape, dtype))


@pytest.mark.parametrize("rule", [winograd._F2, winograd._F4], ids=["F2", "F4"])
def test_the_matrices_filter_one_line(rule):
    """A^T [(G g) * (B^T d)] is the correlation of d with g, in float64."""
    d, g = np.random.default_rng(0).normal(size=(2, rule.tile + 2))
    actual = rule.output @ ((rule.kernel @ g[:3]) * (rule.data @ d))
    np.testing.assert_allclose(actual, np.correlate(d, g[:3], "valid"), rtol=1e-12)


# Shape of a map and number of features, one for each way to convolve.
WAYS = {
    "F4": ((2, 37, 34, 64), 64),
    "F2": ((1, 9, 5, 64), 65),
    "one row of tiles": ((1, 3, 36, 64), 64),
    "one channel": ((2, 9, 7, 1), 16),
    "one channel, many features": ((1, 9, 7, 1), 64),
    "more features": ((2, 9, 7, 3), 5),
    "fewer features": ((2, 9, 7, 5), 3),
}


# The small ones also without jit, where each operation is compiled by itself.
@pytest.mark.parametrize(
    ("way", "jit"),
    [
        *((way, True) for way in WAYS),
        ("one row of tiles", False),
        ("one channel", False),
    ],
)
def test_convolution_and_gradients_are_those_of_the_definition(way, jit, key):
    shape, features = WAYS[way]
    compiled = jax.jit if jit else lambda function: function
    expected, actual = (
        compiled(functools.partial(both, shape, features, convolve=convolve))(key)
        for convolve in (convolution.plain, convolution.fast)
    )
    for theirs, ours in zip(expected, actual, strict=True):
        largest = abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * largest)


@pytest.mark.parametrize(("shape", "features"), WAYS.values(), ids=WAYS)
def test_bfloat16_is_rounded_once(shape, features, key):
    """What goes in and what comes out is bfloat16, what lies between is float32."""

    def exact(x, w):
        return convolution.plain(x.astype("float32"), w.astype("float32"))

    ours, theirs = (
        jax.jit(
            functools.partial(
                both, shape, features, convolve=convolve, dtype="bfloat16"
            )
        )(key)
        for convolve in (convolution.fast, lambda x, w: exact(x, w).astype(x.dtype))
    )
    for found, expected in zip(ours, theirs, strict=True):
        assert found.dtype == jnp.bfloat16
        found, expected = found.astype("float32"), expected.astype("float32")
        error = np.abs(found - expected)
        one_bit = 2**-7 * np.abs(expected) + 2e-5 * np.abs(expected).max()
        assert (error <= one_bit).all()
        assert (error > 0).mean() < 0.05  # rounded the other way, here and there


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_kernels_of_any_size(size, channels, key):
    expected, actual = (
        jax.jit(
            functools.partial(
                both, (1, 9, 8, channels), 3, convolve=convolve, size=size
            )
        )(key)
        for convolve in (convolution.plain, convolution.fast)
    )
    for theirs, ours in zip(expected, actual, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_batches_may_be_mapped():
    """As an ensemble of networks is trained."""
    x, w = normal(2, 1, 8, 8, 3), normal(2, 3, 3, 3, 4)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(convolution.fast))(x, w),
        jax.jit(jax.vmap(convolution.plain))(x, w),
        rtol=0,
        atol=1e-4,
    )


def products(model, *, train):
    """The names of the operations of a network applied to a tile."""
    image = jnp.zeros((1, 12, 12, 1), jnp.float32)
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), image, train=False)
    )
    key = {"dropout": jax.random.key(1)}
    jaxpr = jax.make_jaxpr(lambda v: model.apply(v, image, train=train, rngs=key))
    return str(jaxpr(variables))


def test_only_training_takes_it():
    """Prediction keeps the definition, by which tiles equal each other bit for bit."""
    model = UNet(features=64, depth=0, negative_slope=0.1)  # nn.relu has a custom_jvp
    assert "custom_vjp" in products(model, train=True)
    assert "custom_vjp" not in products(model, train=False)


@pytest.mark.parametrize("features", [4, 64])
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_a_training_network_gives_what_a_predicting_one_gives(features, padding, key):
    """Without dropout the two differ in how they convolve only."""
    model = UNet(features=features, depth=0, dropout_rate=0.0, padding=padding)
    image = normal(2, 13, 11, 1)
    variables = init(model, key, image)
    trained, predicted = (
        apply(model, variables, image, train=train, rngs={"dropout": key})
        for train in (True, False)
    )
    np.testing.assert_allclose(trained, predicted, rtol=0, atol=1e-5)


def test_devices_may_share_it():
    """A custom gradient inside of a mapped step, as in `training.steps`."""
    x, w = normal(2, 1, 8, 8, 3), normal(3, 3, 3, 4)

    def step(w, x, *, axis_name):
        slope = jax.grad(lambda w: (convolution.fast(x, w) ** 2).sum())(w)
        return jax.lax.psum(slope, axis_name)

    def energy(w):
        return (jax.vmap(convolution.plain, (0, None))(x, w) ** 2).sum()

    expected = jax.jit(jax.grad(energy))(w)
    actual = parallel.data_parallel(step)(parallel.replicate(w), x)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
