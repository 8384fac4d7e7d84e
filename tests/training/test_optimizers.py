import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unetjax.network.unet import UNet
from unetjax.training import optimizers
from unetjax.training.optimizers import OptimizerSettings, build_optimizer


def apply(settings, gradients, params, num_steps=10):
    optimizer = build_optimizer(settings, num_steps)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_sgd_with_momentum_and_a_changing_rate():
    """v = mu v + g; p -= lr v, with the current rate (jakeret/tf_unet)."""
    settings = OptimizerSettings(
        learning_rate=0.2,
        momentum=0.2,
        schedule="staircase",
        decay_rate=0.95,
        decay_steps=2,
    )
    gradients = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    expected, velocity = np.ones(3), np.zeros(3)
    for step, gradient in enumerate(gradients):
        velocity = 0.2 * velocity + gradient
        expected = expected - 0.2 * 0.95 ** (step // 2) * velocity
    actual = apply(settings, jnp.asarray(gradients), jnp.ones(3))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 0.2),
        (1, 0.19),
        (4, 0.162901),
        (9, 0.12605),
        (49, 0.016199),
        (99, 0.00124643),
    ],
)
def test_staircase_of_tf_unet(epoch, expected):
    settings = OptimizerSettings(
        learning_rate=0.2, schedule="staircase", decay_rate=0.95, decay_steps=32
    )
    rate = optimizers.learning_rate(settings, 10_000)
    for step in (32 * epoch, 32 * epoch + 31):
        np.testing.assert_allclose(rate(step), expected, rtol=1e-4)


def test_warm_up_then_cosine():
    settings = OptimizerSettings(learning_rate=1.0, schedule="cosine", warmup_steps=10)
    rate = optimizers.learning_rate(settings, 110)
    np.testing.assert_allclose(
        [rate(s) for s in (0, 5, 10, 60, 110)], [0, 0.5, 1, 0.5, 0], atol=1e-6
    )


def parameters_of(model, side):
    return jax.eval_shape(
        lambda key: model.init(key, jnp.zeros((1, side, side, 1)), train=False),
        jax.random.key(0),
    )["params"]


@pytest.mark.parametrize(
    ("scope", "features", "depth", "arrays", "values"),
    [
        (optimizers.kernels, 16, 2, 13, 116_400),
        (optimizers.block_params, 16, 2, 20, 106_448),
        (optimizers.block_params, 64, 4, 36, 28_244_288),
        (optimizers.biases, 16, 2, 13, 370),
    ],
)
def test_parameters_of_penalties_and_bias_rate(scope, features, depth, arrays, values):
    """The counts of jakeret/tf_unet, and ours: all kernels, no bias."""
    params = parameters_of(UNet(features=features, depth=depth), 188)
    chosen = jax.tree.map(lambda x, is_in: x.size * is_in, params, scope(params))
    sizes = [size for size in jax.tree.leaves(chosen) if size]
    assert (len(sizes), sum(sizes)) == (arrays, values)


def test_weight_decay_reaches_all_kernels_and_no_bias():
    tree = {"kernel": jnp.full((1, 1, 1, 1), 2.0), "bias": jnp.full(1, 2.0)}
    settings = OptimizerSettings(learning_rate=1.0, momentum=0.0, weight_decay=0.1)
    after = apply(settings, [jax.tree.map(jnp.zeros_like, tree)], tree)
    np.testing.assert_allclose(after["kernel"], 1.8)  # 2 - lr * 0.1 * 2
    np.testing.assert_allclose(after["bias"], 2.0)


def test_clipping():
    settings = OptimizerSettings(learning_rate=1.0, momentum=0.0, clip_norm=1.0)
    after = apply(settings, [jnp.array([30.0, 40.0])], jnp.zeros(2))
    np.testing.assert_allclose(after, [-0.6, -0.8], rtol=1e-6)


def test_adam_takes_the_rate_as_its_step():
    settings = OptimizerSettings(name="adam", learning_rate=0.01)
    after = apply(settings, [jnp.array([3.0, -7.0])], jnp.zeros(2))
    np.testing.assert_allclose(after, [-0.01, 0.01], rtol=1e-3)


def test_the_blocks_penalty_is_half_the_sum_of_their_squares():
    """The update is the gradient of r / 2 sum(v^2) over kernels and biases."""
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 3, 2, 2), "bias": (2,)}
    params = {
        block: {name: jnp.asarray(rng.normal(size=s)) for name, s in shapes.items()}
        for block in ("encoder_0", "bottleneck", "up_0", "decoder_0", "head")
    }
    blocks = ("encoder_0", "bottleneck", "decoder_0")

    def penalty(params):
        values = jax.tree.leaves([params[block] for block in blocks])
        return 0.01 * sum((v**2).sum() for v in values) / 2

    settings = OptimizerSettings(
        learning_rate=1.0, momentum=0.0, weight_decay=0.01, l2_scope="blocks"
    )
    after = apply(settings, [jax.tree.map(jnp.zeros_like, params)], params)
    expected = jax.tree.map(jnp.subtract, params, jax.grad(penalty)(params))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after, expected
    )


def test_adam_averages_with_its_betas():
    """Two gradients by hand, with the first moment of a tf_unet script."""
    settings = OptimizerSettings(
        name="adam", learning_rate=0.1, beta1=0.91, beta2=0.5, clip_norm=0.0
    )
    one, two = 1.0, -3.0
    mean = (0.91 * 0.09 * one + 0.09 * two) / (1 - 0.91**2)
    square = (0.5 * 0.5 * one**2 + 0.5 * two**2) / (1 - 0.5**2)
    expected = -0.1 - 0.1 * mean / np.sqrt(square)
    actual = apply(settings, [jnp.array(one), jnp.array(two)], jnp.array(0.0))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_biases_may_have_a_larger_rate(name):
    settings = OptimizerSettings(name=name, learning_rate=0.1, bias_rate=2.0)
    params = {"conv_0": {"kernel": jnp.zeros((1, 1, 1, 1)), "bias": jnp.zeros(1)}}
    after = apply(settings, [jax.tree.map(jnp.ones_like, params)], params)["conv_0"]
    np.testing.assert_allclose(after["kernel"].ravel(), -0.1, rtol=1e-5)
    np.testing.assert_allclose(after["bias"], -0.2, rtol=1e-5)


def test_the_average_of_the_parameters_is_a_running_mean():
    settings = OptimizerSettings(momentum=0.0, learning_rate=1.0, average=0.8)
    optimizer = build_optimizer(settings, 30)
    params = jnp.zeros(2)
    state = optimizer.init(params)
    gradients = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    latest, mean = np.zeros(2), np.zeros(2)
    for step, gradient in enumerate(gradients):
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        latest = latest - gradient
        rate = min(0.8, (1 + step) / (10 + step))
        mean = rate * mean + (1 - rate) * latest
    np.testing.assert_allclose(params, latest, rtol=1e-5)
    np.testing.assert_allclose(
        optimizers.averaged_params(state, params), mean, rtol=1e-5
    )


def test_without_an_average_the_parameters_are_the_latest():
    optimizer = build_optimizer(OptimizerSettings(name="adam"), 10)
    params = {"kernel": jnp.ones(3)}
    assert optimizers.averaged_params(optimizer.init(params), params) is params
