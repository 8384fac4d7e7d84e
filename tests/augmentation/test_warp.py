import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from unetjax.augmentation import warp


def test_linear_is_the_library_interpolation():
    """SciPy's `mirror` is the reflection that does not repeat the edge."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(7, 9)).astype(np.float32)
    positions = rng.uniform(-20, 30, (5, 6, 2)).astype(np.float32)
    actual = warp.linear(
        jnp.asarray(image.reshape(-1, 1)),
        warp.Extent(0, 7, 9),
        jnp.asarray(positions),
    )
    expected = ndimage.map_coordinates(
        image, positions.transpose(2, 0, 1), order=1, mode="mirror"
    )
    np.testing.assert_allclose(actual[..., 0], expected, atol=1e-5)


def test_cubic_is_exact_for_quadratic_images():
    """Cubic convolution with a = -1/2; any other a misses quadratic terms."""
    y, x = np.mgrid[:12, :10].astype(np.float32)
    rng = np.random.default_rng(0)
    down, right = rng.uniform((2, 2), (9, 7), (5, 6, 2)).transpose(2, 0, 1)

    def values(y, x):
        return 2 - y + 0.5 * x + 0.3 * y * x + 0.2 * y**2 - 0.1 * x**2

    actual = warp.cubic(
        jnp.asarray(values(y, x).reshape(-1, 1)),
        warp.Extent(0, 12, 10),
        jnp.asarray(np.stack([down, right], axis=-1), jnp.float32),
    )
    np.testing.assert_allclose(actual[..., 0], values(down, right), atol=1e-4)


def test_cubic_is_the_library_interpolation():
    """Pillow's bicubic enlargement, away from its border, which it does not mirror."""
    image = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    expected = np.asarray(
        Image.fromarray(image).resize((48, 48), Image.Resampling.BICUBIC)
    )
    at = (np.mgrid[:48, :48] + 0.5) / 3 - 0.5  # where the pixels of 3 to 1 lie
    actual = warp.cubic(
        jnp.asarray(image.reshape(-1, 1)),
        warp.Extent(0, 16, 16),
        jnp.asarray(at.transpose(1, 2, 0), jnp.float32),
    )
    inner = (slice(6, -6), slice(6, -6))
    np.testing.assert_allclose(actual[inner][..., 0], expected[inner], atol=1e-4)


@pytest.mark.parametrize("read", [warp.linear, warp.cubic])
def test_constant_field_is_a_shift(read, key):
    image = jax.random.normal(key, (9, 8, 2))
    grid = jnp.stack(jnp.mgrid[:9, :8], axis=-1).astype(jnp.float32)
    shift = jnp.array([3.0, -2.0]).reshape(1, 1, 2)
    actual = read(image.reshape(-1, 2), warp.Extent(0, 9, 8), grid + shift)
    expected = np.pad(image, ((0, 3), (2, 0), (0, 0)), mode="reflect")[3:, :8]
    np.testing.assert_array_equal(actual, expected)


def test_images_of_many_sizes_share_one_array():
    sizes = [(3, 5), (1, 1), (4, 2)]
    images = [
        np.arange(h * w).reshape(h, w) + 100 * i for i, (h, w) in enumerate(sizes)
    ]
    pixels = jnp.asarray(np.concatenate([image.ravel() for image in images]))
    start = 0
    for image, (height, width) in zip(images, sizes, strict=True):
        grid = np.stack(np.mgrid[-4:8, -4:8], axis=-1).astype(np.float32)
        actual = warp.nearest(
            pixels, warp.Extent(start, height, width), jnp.asarray(grid)
        )
        expected = np.pad(image, ((4, 8 - height), (4, 8 - width)), mode="reflect")
        np.testing.assert_array_equal(actual, expected)
        start += height * width
