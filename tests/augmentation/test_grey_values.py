import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import interpolate, ndimage

from tests import recipes
from unetjax.augmentation import grey_values

X = jnp.linspace(-0.5, 1.5, 201).reshape(1, -1, 1)


OFF = dict(contrast=0.0, curve_points=2, gamma=0.0, blur=0.0, noise=0.0)
blur = jax.jit(grey_values.gaussian_blur, static_argnames="radius")


def change(keys, image, **strengths):
    """The image with as many random changes as there are keys."""
    run = functools.partial(grey_values.random_grey_values, **(OFF | strengths))
    return jax.jit(jax.vmap(run, in_axes=(0, None)))(keys, image)


@pytest.mark.parametrize("points", [2, 3, 5])
def test_straight_curve_is_the_identity(points):
    knots = jnp.linspace(0, 1, points)
    line = grey_values.apply_curve(X, knots, jnp.ones(points))
    np.testing.assert_allclose(line, X, atol=1e-6)


@pytest.mark.parametrize("points", [2, 5])
def test_curve_is_the_library_interpolation(points):
    """SciPy's cubic Hermite spline inside, straight lines outside."""
    rng = np.random.default_rng(0)
    values, slopes = rng.normal(size=(2, points)).astype(np.float32)
    actual = grey_values.apply_curve(X, jnp.asarray(values), jnp.asarray(slopes))
    x = np.asarray(X).ravel()
    spline = interpolate.CubicHermiteSpline(np.linspace(0, 1, points), values, slopes)
    expected = spline(np.clip(x, 0, 1))
    expected += slopes[0] * np.minimum(x, 0) + slopes[-1] * np.maximum(x - 1, 0)
    np.testing.assert_allclose(actual.ravel(), expected, atol=1e-4)


@pytest.mark.parametrize("points", [2, 3, pytest.param(9, marks=pytest.mark.slow)])
def test_curves_are_within_their_ranges(points):
    """Falk et al. 2019: black, white and slopes of their five control points."""
    keys = jax.random.split(jax.random.key(0), 1000)
    contrast = recipes.FALK2019.augmentation.contrast
    values, slopes = jax.vmap(
        lambda key: grey_values.random_curve(key, contrast, points)
    )(keys)
    for ends, middle in ((values[:, 0], 0.0), (values[:, -1], 1.0)):
        assert np.abs(ends - middle).max() <= 0.05 + 1e-6
        np.testing.assert_allclose(ends.std(), 0.1 / np.sqrt(12), rtol=0.1)
    secants = np.diff(values, axis=1) * (points - 1)
    for steepness in (slopes, secants):
        assert steepness.min() > 0.8 - 1e-5
        assert steepness.max() < 1.2 + 1e-5
    if points > 2:  # the points between are random of their own
        middle = values[:, points // 2] - (values[:, 0] + values[:, -1]) / 2
        assert middle.std() > 0.02


@pytest.mark.parametrize("points", [2, 5])
def test_random_curves_are_monotone(points):
    keys = jax.random.split(jax.random.key(1), 200)
    curves = change(keys, X, contrast=0.125, curve_points=points)
    assert (np.diff(curves.reshape(200, -1)) > 0).all()


def test_gamma_keeps_black_and_white(key):
    image = jnp.array([-0.2, 0.0, 0.25, 1.0]).reshape(1, 4, 1)
    keys = jax.random.split(key, 2000)
    changed = change(keys, image, gamma=0.3)[:, 0, :, 0]
    kept = np.array([0, 1, 3])
    expected = np.tile(image.ravel()[kept], (2000, 1))
    np.testing.assert_array_equal(changed[:, kept], expected)
    exponents = np.log(changed[:, 2]) / np.log(0.25)
    np.testing.assert_allclose(np.log(exponents).std(), 0.6 / np.sqrt(12), rtol=0.05)
    assert np.abs(np.log(exponents)).max() <= 0.3 + 1e-4


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_blur_is_the_library_filter(sigma):
    """SciPy's `mirror` is the reflection that does not repeat the edge."""
    image = np.random.default_rng(0).random((15, 20, 2), np.float32)
    actual = blur(jnp.asarray(image), jnp.array(sigma), radius=6)
    for channel in range(2):
        expected = ndimage.gaussian_filter(
            image[..., channel], sigma, mode="mirror", radius=6
        )
        np.testing.assert_allclose(actual[..., channel], expected, atol=1e-6)


def test_blur_of_no_width_is_the_identity(key):
    image = jax.random.normal(key, (9, 8, 1))
    blurred = blur(image, jnp.array(0.0), radius=3)
    np.testing.assert_array_equal(blurred, image)


def test_random_blur_is_between_nothing_and_the_strength(key):
    """Seen by the spread of a point, whose variance is that of the Gaussian."""
    point = jnp.zeros((41, 41, 1)).at[20, 20].set(1.0)
    keys = jax.random.split(key, 100)
    blurred = change(keys, point, blur=2.0)[..., 0]
    square = (jnp.arange(41.0) - 20) ** 2
    sigmas = np.sqrt(jnp.einsum("nhw,h->n", blurred, square))
    assert sigmas.min() < 0.5
    assert 1.7 < sigmas.max() < 2.0
    np.testing.assert_allclose(sigmas.mean(), 1.0, rtol=0.1)


def test_noise_has_its_strength(key):
    noisy = change(key[jnp.newaxis], jnp.zeros((100, 100, 1)), noise=0.2)
    np.testing.assert_allclose(noisy.std(), 0.2, rtol=0.03)
