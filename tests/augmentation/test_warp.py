import jax.numpy as jnp
import numpy as np
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
