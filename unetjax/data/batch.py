"""The batch: what the data rooms hand to the training step."""

from collections.abc import Callable
from typing import TypedDict

from jaxtyping import Array, Float, Int, PRNGKeyArray


class Batch(TypedDict):
    """One batch; h and w are the network's output size for H and W.

    Attributes:
      image: Tiles, scaled to network input.
      label: Class of every output pixel; negative where nobody annotated.
      weight: Weight map w(x) of Eq. (2); 0 where the pixel does not count.
    """

    image: Float[Array, "B H W C"]
    label: Int[Array, "B h w"]
    weight: Float[Array, "B h w"]


# A change of one's own, made last, of one tile: from image [H, W, C], label [h, w],
# weight [h, w] and a key to image, label and weight of the same shapes. It is compiled
# with the step and so must be pure.
Transform = Callable[
    [
        Float[Array, "H W C"],
        Int[Array, "h w"],
        Float[Array, "h w"],
        PRNGKeyArray,
    ],
    tuple[Float[Array, "H W C"], Int[Array, "h w"], Float[Array, "h w"]],
]
