"""Augmentation: one random displacement for an image and everything annotated on it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from unetjax.augmentation import warp
from unetjax.augmentation.affine import random_affine
from unetjax.augmentation.elastic import elastic_field
from unetjax.augmentation.grey_values import random_grey_values


class Augmentation(NamedTuple):
    """Strengths of the random changes; 0 switches one off.

    Attributes:
      rotation: Range of the angle, in degrees; 360 is any direction.
      flip: Whether to mirror every second image.
      elastic_sigma: Standard deviation of the displacements on the coarse grid, in
        pixels (paper, Sec. 3.1). Tiles under some 150 pixels fold at 10.
      elastic_grid: Number of grid points on each side of the tile.
      contrast: Strength of the grey-value curve; 0.05 as in Falk et al. 2019.
      noise: Standard deviation of added noise, in units of the network input.
    """

    rotation: float = 360.0
    flip: bool = True
    elastic_sigma: float = 10.0
    elastic_grid: int = 3
    contrast: float = 0.05
    noise: float = 0.0


PAPER = Augmentation()
OFF = Augmentation(rotation=0.0, flip=False, elastic_sigma=0.0, contrast=0.0)


def augment(
    key: PRNGKeyArray,
    image: Float[Array, "H W C"],
    *annotations: Int[Array, "H W"],
    settings: Augmentation = PAPER,
) -> tuple[Array, ...]:
    """Returns the image and its annotations, moved by one random displacement.

    Grey values are interpolated linearly, labels and instances take the nearest pixel;
    beyond the border lies the mirror image. Pure, and of fixed shapes: `jit` and `vmap`
    it over keys and images. Shift is missing here, as it belongs to cutting tiles.

    Args:
      key: Random key.
      image: Network input, of about unit range.
      *annotations: Label and instance maps of the image.
      settings: Strengths.

    Example:
      >>> image, label = jnp.ones((8, 8, 1)), jnp.ones((8, 8), int)
      >>> moved, moved_label = augment(jax.random.key(0), image, label)
      >>> moved.shape, moved_label.dtype
      ((8, 8, 1), dtype('int32'))
    """
    height, width, channels = image.shape
    move, grey = jax.random.split(key)
    center = jnp.array([(height - 1) / 2, (width - 1) / 2])
    positions = source_positions(move, (height, width), center, settings)
    extent = warp.Extent(0, height, width)
    moved = warp.linear(image.reshape(-1, channels), extent, positions)
    moved = random_grey_values(
        grey, moved, contrast=settings.contrast, noise=settings.noise
    )
    return (
        moved,
        *(warp.nearest(a.reshape(-1), extent, positions) for a in annotations),
    )


def source_positions(
    key: PRNGKeyArray,
    shape: tuple[int, int],
    center: Float[Array, "2"],
    settings: Augmentation,
) -> Float[Array, "H W 2"]:
    """Returns where in the source every pixel of a tile is read.

    As in Falk et al. 2019, the elastic field is added in the frame of the tile, which
    is then rotated about its centre and moved to `center`.

    Args:
      key: Random key.
      shape: Height and width of the tile.
      center: Row and column in the source of the tile's centre, in pixels.
      settings: Strengths.
    """
    bend, turn = jax.random.split(key)
    rows, columns = (jnp.arange(n) - (n - 1) / 2 for n in shape)
    tile = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)
    if settings.elastic_sigma:
        tile = tile + elastic_field(
            bend, shape, sigma=settings.elastic_sigma, grid=settings.elastic_grid
        )
    if settings.rotation or settings.flip:
        affine = random_affine(turn, rotation=settings.rotation, flip=settings.flip)
        tile = jnp.einsum("ij,hwj->hwi", affine, tile, precision="highest")
    return tile + center.reshape(1, 1, 2)
