"""Sampling of images at arbitrary positions, with mirrored borders.

Images are stored in one flat array of pixels, in which an `Extent` locates each of
them, so that images of any sizes need no padding.
"""

import itertools
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

Interpolation = Literal["linear", "cubic"]


class Extent(NamedTuple):
    """Location of an image in a flat array of pixels, row by row.

    Attributes:
      start: Index of its first pixel.
      height: Number of rows.
      width: Number of columns.
    """

    start: Int[Array, ""] | int
    height: Int[Array, ""] | int
    width: Int[Array, ""] | int


def linear(
    pixels: Float[Array, "N C"], extent: Extent, positions: Float[Array, "H W 2"]
) -> Float[Array, "H W C"]:
    """Returns bilinearly interpolated grey values.

    Args:
      pixels: Pixels of one or many images.
      extent: Which pixels are the image.
      positions: Row and column to sample, in pixels. The image is mirrored at its
        border, without repeating the edge.
    """
    corner = jnp.floor(positions)
    fraction = (positions - corner)[..., None]
    down, right = fraction[..., 0, :], fraction[..., 1, :]
    row, column = jnp.moveaxis(corner.astype(jnp.int32), -1, 0)

    def value(i: int, j: int) -> Float[Array, "H W C"]:
        return pixels[_index(extent, row + i, column + j)]

    top = value(0, 0) * (1 - right) + value(0, 1) * right
    bottom = value(1, 0) * (1 - right) + value(1, 1) * right
    return top * (1 - down) + bottom * down


def cubic(
    pixels: Float[Array, "N C"], extent: Extent, positions: Float[Array, "H W 2"]
) -> Float[Array, "H W C"]:
    """Returns bicubically interpolated grey values: sharper than linear, 4x the reads.

    Cubic convolution (Keys 1981, a = -1/2), exact for quadratic images. Overshoots at
    edges, as all cubic interpolation does.

    Args:
      pixels: Pixels of one or many images.
      extent: Which pixels are the image.
      positions: As in `linear`.
    """
    corner = jnp.floor(positions)
    down, right = jnp.moveaxis(_cubic_taps(positions - corner), -1, 0)[..., None]
    row, column = jnp.moveaxis(corner.astype(jnp.int32), -1, 0)
    result = jnp.zeros((*row.shape, pixels.shape[-1]))
    for i, j in itertools.product(range(4), repeat=2):
        value = pixels[_index(extent, row + i - 1, column + j - 1)]
        result += down[i] * right[j] * value
    return result


def nearest(
    pixels: Shaped[Array, "N ..."], extent: Extent, positions: Float[Array, "H W 2"]
) -> Shaped[Array, "H W ..."]:
    """Returns the values of the nearest pixels, as for labels."""
    row, column = jnp.moveaxis(jnp.floor(positions + 0.5).astype(jnp.int32), -1, 0)
    return pixels[_index(extent, row, column)]


def _cubic_taps(s: Float[Array, "H W 2"]) -> Float[Array, "4 H W 2"]:
    """Returns the weights of the pixels at -1, 0, 1 and 2 for a point at 0 <= s < 1."""
    taps = [
        s * (-1 + s * (2 - s)),
        2 + s**2 * (3 * s - 5),
        s * (1 + s * (4 - 3 * s)),
        s**2 * (s - 1),
    ]
    return jnp.stack(taps) / 2


def _index(
    extent: Extent, row: Int[Array, "H W"], column: Int[Array, "H W"]
) -> Int[Array, "H W"]:
    row, column = _mirror(row, extent.height), _mirror(column, extent.width)
    return extent.start + row * extent.width + column


def _mirror(i: Int[Array, "H W"], size: Int[Array, ""] | int) -> Int[Array, "H W"]:
    """Reflects indices at both ends of an axis, as in 2 1 | 0 1 2 3 | 2 1 0."""
    period = jnp.maximum(2 * size - 2, 1)
    i = i % period
    return jnp.where(i < size, i, period - i)
