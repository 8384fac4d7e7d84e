import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.augmentation import elastic


def test_weights_of_five_pixels():
    expected = [
        [1, 0, 0],
        [0.4375, 0.625, -0.0625],
        [0, 1, 0],
        [-0.0625, 0.625, 0.4375],
        [0, 0, 1],
    ]
    np.testing.assert_array_equal(elastic.cubic_weights(5, 3), expected)


@pytest.mark.parametrize("size", [1, 2, 17, 100])
@pytest.mark.parametrize("knots", [2, 3, 5])
def test_partition_of_unity_and_linear_reproduction(size, knots):
    weights = elastic.cubic_weights(size, knots)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    if size > 1:
        line = weights @ np.linspace(-3, 5, knots)
        np.testing.assert_allclose(line, np.linspace(-3, 5, size), atol=1e-5)


def test_only_the_center_moved():
    knots = jnp.zeros((3, 3, 2)).at[1, 1].set(10.0)
    field = elastic.interpolate(knots, (5, 5))
    np.testing.assert_allclose(field[2, :, 0], [0, 6.25, 10, 6.25, 0])
    np.testing.assert_allclose(field[1, :, 1], [0, 3.90625, 6.25, 3.90625, 0])


def test_spread_of_the_field():
    """Ten pixels at the grid points, 7.48 in the mean over a large tile (paper.md)."""
    draw = jax.vmap(lambda key: elastic.elastic_field(key, (65, 65), sigma=10.0))
    fields = draw(jax.random.split(jax.random.key(0), 2000))
    spread = np.asarray(fields).std(axis=(0, 3))
    np.testing.assert_allclose(spread[::32, ::32], 10, rtol=0.06)
    np.testing.assert_allclose(np.sqrt((spread**2).mean()), 7.48, rtol=0.03)
    assert spread.min() > 5.3
