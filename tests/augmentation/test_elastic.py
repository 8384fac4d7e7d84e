import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import BSpline

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
    weights = elastic.cubic_weights(5, 3)
    field = elastic.interpolate(knots, weights, weights)
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


@pytest.mark.parametrize(("size", "spacing"), [(1, 150.0), (60, 7.5), (400, 150.0)])
def test_bspline_weights_are_the_library_spline(size, spacing):
    """floor(n / spacing) + 4 control points, the second at the first pixel."""
    weights = elastic.bspline_weights(size, spacing)
    count = int(size / spacing) + 4
    knots = spacing * np.arange(-3, count + 1)
    expected = BSpline.design_matrix(np.arange(float(size)), knots, 3).toarray()
    assert weights.shape == (size, count)
    np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_bspline_of_constant_control_values_is_constant():
    """P16."""
    rows, columns = (elastic.bspline_weights(n, 150.0) for n in (572, 300))
    assert (rows.shape[1], columns.shape[1]) == (7, 6)
    points = jnp.full((7, 6, 2), 12.5)
    field = elastic.interpolate(points, rows, columns)
    np.testing.assert_allclose(field, 12.5, rtol=1e-6)


def test_spread_of_the_bspline():
    """P16: half of 10 pixels at a control point, 4.6 in the middle of four."""
    draw = functools.partial(
        elastic.bspline_field, shape=(33, 33), sigma=10.0, spacing=16.0
    )
    fields = jax.vmap(draw)(jax.random.split(jax.random.key(0), 4000))
    spread = np.asarray(fields).std(axis=(0, 3))
    np.testing.assert_allclose(spread[::16, ::16], 5.0, rtol=0.05)
    np.testing.assert_allclose(spread[8::16, 8::16], 4.6, rtol=0.05)


@pytest.mark.parametrize("side", [64, 188])
def test_small_tiles_fold_under_the_grid_only(side):
    """The B-spline's control points stay apart when the tile shrinks (paper.md 7.1)."""

    def folded(draw):
        keys = jax.random.split(jax.random.key(0), 100)
        down, right = jnp.moveaxis(jax.vmap(draw)(keys), -1, 0)
        (yy, yx), (xy, xx) = (jnp.gradient(d, axis=(1, 2)) for d in (down, right))
        jacobian = (1 + yy) * (1 + xx) - yx * xy
        return np.mean(jacobian.min(axis=(1, 2)) <= 0)

    field = functools.partial(elastic.elastic_field, shape=(side, side), sigma=10.0)
    spline = functools.partial(elastic.bspline_field, shape=(side, side), sigma=10.0)
    assert folded(field) > 0.3 if side == 64 else folded(field) == 0
    assert folded(functools.partial(spline, spacing=150.0)) == 0
