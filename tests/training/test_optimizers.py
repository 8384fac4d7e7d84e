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
    [(0, 0.2), (1, 0.19), (4, 0.162901), (9, 0.126050), (49, 0.016199)],
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


def test_weight_decay_reaches_all_kernels_and_no_bias():
    """Unlike jakeret/tf_unet: up-convolutions and the head too (116,400 values)."""
    model = UNet(features=16, depth=2)
    params = jax.eval_shape(
        lambda key: model.init(key, jnp.zeros((1, 44, 44, 1)), train=False)["params"],
        jax.random.key(0),
    )
    chosen = jax.tree.map(
        lambda x, is_kernel: x.size * is_kernel, params, optimizers.kernels(params)
    )
    assert sum(jax.tree.leaves(chosen)) == 116_400

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
