"""Which tile next: a pure function of the key and the item's number."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


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
    return jnp.minimum(pixel, sides - 1) + (tile_size - 1) % 2 / 2
