"""Random networks without initialisers, whose compilation would take the time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax import geometry


@pytest.fixture(scope="session")
def make_variables():
    """A function from a model to random variables, one for each model and session."""
    return functools.cache(_variables)


def _variables(model, channels=1):
    network = dict(
        depth=model.depth, kernel_size=model.kernel_size, padding=model.padding
    )
    side = geometry.input_size(1, **network)
    image = jnp.zeros((1, side, side, channels))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    rng = np.random.default_rng(0)

    def draw(leaf):
        if len(leaf.shape) == 1:  # biases; scales and variances must be positive
            return rng.uniform(0.5, 1.0, leaf.shape).astype(np.float32)
        deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return rng.normal(0, deviation, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, shapes)
