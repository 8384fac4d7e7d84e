"""Which tile next: a pure function of the key and the item's number."""

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
    """Where the centres of tiles lie.

    Attributes:
      centers: `uniform`: on every pixel of the image alike. `weighted`: with density 1
        on cells, `background` on background, the separation border between
        touching cells included, and 0 on ignored pixels (Falk et al. 2019).
      background: Density on background, of `weighted`; at least 0.
      jitter: Largest distance along either axis by which a centre is then moved, in
        pixels. It randomises the phase; half a period in Falk et al. 2019, 8 at depth
        4. Uniform centres have any phase already.
    """

    centers: Rule = "uniform"
    background: float = 0.1
    jitter: float = 0.0

    def __post_init__(self) -> None:
        """Validates all fields."""
        check_fields(self)
        for name in ("background", "jitter"):
            check_range(name, getattr(self, name), at_least=0)


UNIFORM = SamplingSettings()


class Centers(NamedTuple):
    """The pixels on which tiles may be centred: cells first, image by image.

    One random index then draws from any density of two values, exactly and without a
    search. The shares are those of a density of `SamplingSettings`.

    Attributes:
      pixels: Number of each pixel within its image, counted row by row.
      start: Index in `pixels` of the first one of every image.
      num_cells: How many of them lie on cells, in every image.
      num_background: How many follow that do not.
      cell_share: Probability that the centre lies on a cell, in every image.
    """

    pixels: Int[Array, " M"]
    start: Int[Array, " I"]
    num_cells: Int[Array, " I"]
    num_background: Int[Array, " I"]
    cell_share: Float[Array, " I"]


def find_centers(
    labels: Sequence[Int[np.ndarray, "_ _"]], settings: SamplingSettings
) -> Centers | None:
    """Returns where tiles may be centred; None if on every pixel alike.

    An image without any annotation, or with background alone where that has density 0,
    is sampled evenly.

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
    """Returns which image the item of a run shows; each image once per epoch.

    Args:
      key: The run's data key, the same for all items.
      item: Number of the item since the start of the run: step * batch_size + place in
        the batch. Hence any number of devices draws the same global batch, and a
        resumed run goes on with the batches it would have seen.
      num_images: Number of images; one epoch.
    """
    epoch, place = item // num_images, item % num_images
    return jax.random.permutation(jax.random.fold_in(key, epoch), num_images)[place]


def draw_center(
    key: PRNGKeyArray, height: Int[Array, ""], width: Int[Array, ""], tile_size: int
) -> Float[Array, "2"]:
    """Returns the centre of a tile, its middle on any pixel of the image alike.

    Tiles reach beyond the border, into the mirror image, so that pixels at the border
    count as often as all others. The centre is such that the pixels of a tile that is
    not turned lie on pixels of the image; as it is uniform, so is the phase of the
    tile, "shift" in the paper's list of augmentations.

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
    """Returns the centre of a tile on one of the pixels given, by their density.

    Args:
      key: Key of this item.
      centers: Pixels of all images.
      image: Which image the tile is cut from.
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
    """The centre of a tile whose middle is a pixel; half a pixel on for even sides."""
    return pixel + (tile_size - 1) % 2 / 2
