import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unetjax.network import blocks, initializers

UP = blocks.UpConv(6, kernel_init=initializers.up_init("he", kernel_size=3, channels=6))


def test_up_conv_is_the_transposed_convolution(key):
    """Same kernel, same numbers as the library's operation with the true transpose."""
    x = jax.random.normal(key, (2, 3, 5, 4))
    theirs = nn.ConvTranspose(6, (2, 2), strides=(2, 2), transpose_kernel=True)
    variables = UP.init(key, x)
    variables["params"]["bias"] = jnp.arange(6.0)
    np.testing.assert_allclose(
        UP.apply(variables, x), theirs.apply(variables, x), rtol=1e-5, atol=1e-5
    )


def test_up_conv_keeps_the_kernel_upright():
    """An impulse returns the kernel, not its mirror image."""
    kernel = jnp.array([[1.0, 2.0], [3.0, 4.0]])[:, :, None, None]
    params = {"kernel": kernel, "bias": jnp.zeros(1)}
    y = UP.clone(features=1).apply({"params": params}, jnp.ones((1, 1, 1, 1)))
    np.testing.assert_array_equal(y[0, :, :, 0], [[1, 2], [3, 4]])


def test_max_pool_is_the_window_maximum(key):
    x = jax.random.normal(key, (2, 6, 8, 3))  # no ties
    pairs = [blocks.max_pool, lambda x: nn.max_pool(x, (2, 2), strides=(2, 2))]

    def squares(x, pool):
        return (pool(x) ** 2).sum(), pool(x)

    ours, theirs = (
        jax.grad(functools.partial(squares, pool=pool), has_aux=True)(x)
        for pool in pairs
    )
    np.testing.assert_array_equal(ours[1], theirs[1])
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)


def test_center_crop():
    x = jnp.arange(8.0).reshape(1, 8, 1, 1)
    like = jnp.zeros((1, 4, 1, 3))
    np.testing.assert_array_equal(
        blocks.center_crop(x, like=like).ravel(), [2, 3, 4, 5]
    )
    assert blocks.center_crop(x, like=x).shape == x.shape


def test_center_crop_puts_the_smaller_half_first():
    """8 to 5 keeps indices 1 to 5; a crop to the same size changes nothing."""
    wide = np.arange(64.0).reshape(1, 8, 8, 1)
    small = blocks.center_crop(wide, like=np.zeros((1, 5, 5, 2)))
    np.testing.assert_array_equal(small, wide[:, 1:6, 1:6])
    np.testing.assert_array_equal(blocks.center_crop(wide, like=wide), wide)
    labels = np.ones((2, 5, 4), np.int32)  # without channels
    assert blocks.center_crop(labels, like=np.zeros((2, 3, 4, 3))).shape == (2, 3, 4)
