"""Sampling of training tiles: image and centre, as functions of key and item number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from unetjax.settings import check_fields, check_range

Rule = Literal["uniform", "weighted"]


@dataclass(frozen=True)
class SamplingSettings:
    """Distribution of the centres of tiles.

    Attributes:
      centers: `uniform`: every pixel of the image is equally likely. `weighted`:
        density 1 on cells, `background` on background, the separation border between
        touching cells included, and 0 on ignored pixels (Falk et al. 2019).
      background: Density on background, of `weighted`; at least 0.
      jitter: Centres are then shifted uniformly by up to this distance along each axis,
        in pixels, which randomises their phase; half a period in Falk et al. 2019, 8 at
        depth 4. Uniform centres have a random phase already.
    """

    centers: Rule = "uniform"
    background: float = 0.1
    jitter: float = 0.0

    def __post_init__(self) -> None:
        """Validates all fields."""
        check_fields(self)
        for name in ("background", "jitter"):
            check_range(name, getattr(self, name), at_least=0)


class Centers(NamedTuple):
    """Pixels on which tiles may be centred: image by image, those in cells first.

    A draw is then a choice between cells and background, and one random index: exact
    for any density of two values, and without a search.

    Attributes:
      pixels: Index of each pixel within its image, row by row.
      start: Index in `pixels` of the first pixel of every image.
      num_cells: Number of pixels in cells, of every image.
      num_background: Number of background pixels, which follow those.
      cell_share: Probability that the centre lies in a cell, for every image.
    """

    pixels: Int[Array, " M"]
    start: Int[Array, " I"]
    num_cells: Int[Array, " I"]
    num_background: Int[Array, " I"]
    cell_share: Float[Array, " I"]


def find_centers(
    labels: Sequence[Int[np.ndarray, "_ _"]], settings: SamplingSettings
) -> Centers | None:
    """Returns where tiles may be centred; None if every pixel is equally likely.

    An image without any annotation is sampled uniformly, and so is one with background
    only, even if that has density 0.

    Args:
      labels: Class of every pixel of every image after the separation border was cut,
        negative where ignored.
      settings: The density.
    """
    if settings.centers == "uniform":
        return None
    cells = [np.flatnonzero(label > 0) for label in labels]
    background = [
        np.flatnonzero(label == 0) if (label >= 0).any() else np.arange(label.size)
        for label in labels
    ]
    num_cells, num_background = (
        np.array([len(pixels) for pixels in part]) for part in (cells, background)
    )
    total = num_cells + settings.background * num_background
    pairs = zip(cells, background, strict=True)
    pixels = np.concatenate([part for pair in pairs for part in pair])
    num_pixels = num_cells + num_background
    return Centers(
        pixels=jnp.asarray(pixels, jnp.int32),
        start=jnp.asarray(np.cumsum(num_pixels) - num_pixels, jnp.int32),
        num_cells=jnp.asarray(num_cells, jnp.int32),
        num_background=jnp.asarray(num_background, jnp.int32),
        cell_share=jnp.asarray(num_cells / np.where(total, total, 1), jnp.float32),
    )


def draw_image(
    key: PRNGKeyArray, item: Int[Array, ""], num_images: int
) -> Int[Array, ""]:
    """Returns the image of an item; every image occurs once per epoch.

    Args:
      key: The run's data key, the same for all items.
      item: Number of the item since the start of the run: step * batch_size + index in
        the batch. Hence any number of devices draws the same global batch, and a
        resumed run draws the batches of an uninterrupted one.
      num_images: Number of images, which is the length of an epoch.
    """
    epoch, place = item // num_images, item % num_images
    return jax.random.permutation(jax.random.fold_in(key, epoch), num_images)[place]


def draw_center(
    key: PRNGKeyArray, height: Int[Array, ""], width: Int[Array, ""], tile_size: int
) -> Float[Array, "2"]:
    """Returns a centre for a tile, uniform over the pixels of the image.

    Tiles extend beyond the border, into the mirrored image, so that pixels at the
    border occur as often as all others. The pixels of a tile that is not rotated fall
    on pixels of the image. Uniform centres give uniform phases, which is the "shift" in
    the paper's list of augmentations.

    Args:
      key: Key of this item.
      height: Number of rows of the image.
      width: Number of columns of the image.
      tile_size: Side of the tile, in pixels.
    """
    sides = jnp.stack([height, width])
    pixel = jnp.floor(jax.random.uniform(key, (2,)) * sides)
    return _on_pixel(jnp.minimum(pixel, sides - 1), tile_size)


def draw_weighted_center(
    key: PRNGKeyArray,
    centers: Centers,
    image: Int[Array, ""],
    width: Int[Array, ""],
    tile_size: int,
) -> Float[Array, "2"]:
    """Returns a centre for a tile, drawn from the density of `SamplingSettings`.

    Args:
      key: Key of this item.
      centers: Pixels of all images.
      image: Index of the image.
      width: Number of columns of the image.
      tile_size: Side of the tile, in pixels.
    """
    which, where = jax.random.split(key)
    in_cell = jax.random.bernoulli(which, centers.cell_share[image])
    num_cells = centers.num_cells[image]
    first = jnp.where(in_cell, 0, num_cells)
    count = jnp.where(in_cell, num_cells, centers.num_background[image])
    chosen = first + jax.random.randint(where, (), 0, count)
    pixel = centers.pixels[centers.start[image] + chosen]
    row, column = jnp.divmod(pixel, width)
    return _on_pixel(jnp.stack([row, column]).astype(jnp.float32), tile_size)


def _on_pixel(pixel: Float[Array, "2"], tile_size: int) -> Float[Array, "2"]:
    """Returns the centre of a tile whose middle pixel is given.

    A side of an even number of pixels has its centre half a pixel further.
    """
    return pixel + (tile_size - 1) % 2 / 2
