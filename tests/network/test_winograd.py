import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.devices import parallel
from unetjax.network import winograd
from unetjax.network.unet import UNet


def both(shape, features, key, *, convolve):
    """A convolution and its two gradients for a random slope."""
    image, kernel, slope = jax.random.split(key, 3)
    x = jax.random.normal(image, shape)
    w = jax.random.normal(kernel, (3, 3, shape[-1], features))
    y, pull_back = jax.vjp(convolve, x, w)
    return y, *pull_back(jax.random.normal(slope, y.shape))


@pytest.mark.parametrize("rule", [winograd._F2, winograd._F4], ids=["F2", "F4"])
def test_the_matrices_filter_one_line(rule):
    """A^T [(G g) * (B^T d)] is the correlation of d with g, in float64."""
    d, g = np.random.default_rng(0).normal(size=(2, rule.tile + 2))
    actual = rule.output @ ((rule.kernel @ g[:3]) * (rule.data @ d))
    np.testing.assert_allclose(actual, np.correlate(d, g[:3], "valid"), rtol=1e-12)


@pytest.mark.parametrize(
    "shape",
    [(1, 5, 9, 3), (2, 34, 37, 4), (1, 3, 40, 2), (1, 36, 3, 2)],  # of both rules
    ids=str,
)
def test_convolution_and_gradients_are_those_of_the_definition(shape, key):
    expected = both(shape, 5, key, convolve=winograd.plain)
    actual = both(shape, 5, key, convolve=winograd.convolve)
    for theirs, ours in zip(expected, actual, strict=True):
        largest = abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * largest)


def test_batches_may_be_mapped(key):
    """As an ensemble of networks is trained."""
    x = jax.random.normal(key, (2, 1, 8, 8, 3))
    w = jax.random.normal(key, (2, 3, 3, 3, 4))
    np.testing.assert_allclose(
        jax.vmap(winograd.convolve)(x, w),
        jax.vmap(winograd.plain)(x, w),
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


def test_only_training_of_many_channels_in_float32_takes_it():
    """Prediction keeps the definition, by which tiles equal each other bit for bit."""
    wide, narrow = UNet(features=64, depth=0), UNet(features=32, depth=0)
    assert "custom_vjp" in products(wide, train=True)
    assert "custom_vjp" not in products(wide, train=False).replace("relu", "")
    half = wide.clone(dtype="bfloat16", negative_slope=0.1)
    for model in (narrow.clone(negative_slope=0.1), half):
        assert "convolve" not in products(model, train=True)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_a_training_network_gives_what_a_predicting_one_gives(padding, key):
    """Without dropout the two differ in how they convolve only."""
    model = UNet(features=64, depth=0, dropout_rate=0.0, padding=padding)
    image = jax.random.normal(key, (2, 13, 11, 1))
    variables = model.init(key, image, train=False)
    trained, predicted = (
        model.apply(variables, image, train=train, rngs={"dropout": key})
        for train in (True, False)
    )
    np.testing.assert_allclose(trained, predicted, rtol=0, atol=1e-5)


def test_devices_may_share_it(key):
    """A custom gradient inside of a mapped step, as in `training.steps`."""
    x = jax.random.normal(key, (2, 1, 8, 8, 3))
    w = jax.random.normal(key, (3, 3, 3, 4))

    def step(w, x, *, axis_name):
        slope = jax.grad(lambda w: (winograd.convolve(x, w) ** 2).sum())(w)
        return jax.lax.psum(slope, axis_name)

    def energy(w):
        return (jax.vmap(winograd.plain, (0, None))(x, w) ** 2).sum()

    expected = jax.grad(energy)(w)
    actual = parallel.data_parallel(step)(parallel.replicate(w), x)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
