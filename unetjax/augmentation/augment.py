"""Augmentation of tiles: rotation, reflection, scaling, elastic field, grey values."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from unetjax.augmentation import warp
from unetjax.augmentation.affine import random_affine
from unetjax.augmentation.elastic import Elastic, bspline_field, elastic_field
from unetjax.augmentation.grey_values import check_curve_points, random_grey_values
from unetjax.augmentation.warp import Extent, Interpolation
from unetjax.settings import check_fields, check_range


@dataclass(frozen=True)
class AugmentationSettings:
    """Strengths of the random transformations; 0, or a scale of 1, disables one.

    Attributes:
      rotation: Range of the angle, in degrees; 360 is any direction.
      flip: Whether to mirror tiles with probability 1/2.
      scale: Objects appear larger or smaller by up to this factor, of which the
        logarithm is uniform; 1 disables scaling. For images of other magnifications.
      elastic: Kind of elastic deformation: `bicubic` through a grid that spans the tile
        (paper, Sec. 3.1), or `bspline` with control points at a fixed distance (Falk et
        al. 2019), which is smoother and does not depend on the size of the tile.
      elastic_sigma: Standard deviation of the displacements at the grid or control
        points, in pixels (paper, Sec. 3.1). At 10, `bicubic` folds tiles under some 150
        pixels.
      elastic_grid: Number of grid points on each side of the tile, of `bicubic`.
      elastic_spacing: Distance of the control points, in pixels, of `bspline`.
      interpolation: Of grey values, `linear` or `cubic`; labels take the nearest pixel.
      contrast: Strength of the grey-value curve; 0.05 as in Falk et al. 2019.
      curve_points: Number of its control points: 2, 3, 5 (Falk et al. 2019) or 9.
      gamma: Grey values x become x^g, with log g uniform in [-gamma, gamma].
      blur: Largest standard deviation of a Gaussian blur, in pixels.
      noise: Standard deviation of added noise, in units of the network input.
    """

    rotation: float = 360.0
    flip: bool = True
    scale: float = 1.0
    elastic: Elastic = "bicubic"
    elastic_sigma: float = 10.0
    elastic_grid: int = 3
    elastic_spacing: float = 150.0
    interpolation: Interpolation = "linear"
    contrast: float = 0.05
    curve_points: int = 2
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        """Validates all fields."""
        check_fields(self)
        check_range("rotation", self.rotation, at_least=0, at_most=360)
        check_range("scale", self.scale, at_least=1, at_most=8)
        check_range("elastic_grid", self.elastic_grid, at_least=2)
        check_range("elastic_spacing", self.elastic_spacing, above=0)
        hint = "a stronger grey-value curve would not be monotone"
        check_range("contrast", self.contrast, at_least=0, at_most=0.125, hint=hint)
        check_curve_points(self.curve_points)
        for name in ("elastic_sigma", "gamma", "blur", "noise"):
            check_range(name, getattr(self, name), at_least=0)


PAPER = AugmentationSettings()
OFF = AugmentationSettings(rotation=0.0, flip=False, elastic_sigma=0.0, contrast=0.0)


# One program also where the caller compiles nothing; inside of a program it is inlined.
@functools.partial(jax.jit, static_argnames="settings", inline=True)
def augment(
    key: PRNGKeyArray,
    image: Float[Array, "H W C"],
    *annotations: Int[Array, "H W"],
    settings: AugmentationSettings = PAPER,
) -> tuple[Array, ...]:
    """Returns the image and its annotations under one random transformation.

    Grey values are interpolated, labels and instances take the nearest pixel; the image
    is mirrored at its border. A pure function of fixed shapes, for `jit` and for `vmap`
    over keys and images. Random shifts come from the random centres of tiles instead.

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
    geometry_key, grey_key = jax.random.split(key)
    center = jnp.array([(height - 1) / 2, (width - 1) / 2])
    positions = source_positions(geometry_key, (height, width), center, settings)
    extent = Extent(0, height, width)
    return (
        read_image(grey_key, image.reshape(-1, channels), extent, positions, settings),
        *(warp.nearest(a.reshape(-1), extent, positions) for a in annotations),
    )


def read_image(
    key: PRNGKeyArray,
    pixels: Float[Array, "N C"],
    extent: Extent,
    positions: Float[Array, "H W 2"],
    settings: AugmentationSettings,
) -> Float[Array, "H W C"]:
    """Returns an image sampled at given positions, with random changes of grey values.

    Args:
      key: Random key.
      pixels: Network input of one or many images, of about unit range.
      extent: Which pixels are the image.
      positions: Row and column to sample, in pixels.
      settings: Strengths.
    """
    interpolate = warp.cubic if settings.interpolation == "cubic" else warp.linear
    return random_grey_values(
        key,
        interpolate(pixels, extent, positions),
        contrast=settings.contrast,
        curve_points=settings.curve_points,
        gamma=settings.gamma,
        blur=settings.blur,
        noise=settings.noise,
    )


def source_positions(
    key: PRNGKeyArray,
    shape: tuple[int, int],
    center: Float[Array, "2"],
    settings: AugmentationSettings,
) -> Float[Array, "H W 2"]:
    """Returns the positions in the image at which the pixels of a tile are sampled.

    As in Falk et al. 2019, the elastic displacement is added in the coordinates of the
    tile, which is then rotated and scaled about its centre and shifted to `center`.

    Args:
      key: Random key.
      shape: Height and width of the tile.
      center: Row and column in the source of the tile's centre, in pixels.
      settings: Strengths.
    """
    elastic_key, affine_key = jax.random.split(key)
    rows, columns = (jnp.arange(n) - (n - 1) / 2 for n in shape)
    tile = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)
    if settings.elastic_sigma:
        tile = tile + _elastic_field(elastic_key, shape, settings)
    if settings.rotation or settings.flip or settings.scale != 1:
        affine = random_affine(
            affine_key,
            rotation=settings.rotation,
            flip=settings.flip,
            scale=settings.scale,
        )
        tile = jnp.einsum("ij,hwj->hwi", affine, tile, precision="highest")
    return tile + center.reshape(1, 1, 2)


def _elastic_field(
    key: PRNGKeyArray, shape: tuple[int, int], settings: AugmentationSettings
) -> Float[Array, "H W 2"]:
    sigma = settings.elastic_sigma
    if settings.elastic == "bspline":
        return bspline_field(key, shape, sigma=sigma, spacing=settings.elastic_spacing)
    return elastic_field(key, shape, sigma=sigma, grid=settings.elastic_grid)
