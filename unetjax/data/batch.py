"""`Batch`, the input of a training step, and `Transform`, a custom augmentation."""

from collections.abc import Callable
from typing import NotRequired, TypedDict

from jaxtyping import Array, Float, Int, PRNGKeyArray


class Batch(TypedDict):
    """One batch; h and w are the network's output size for H and W.

    Attributes:
      image: Tiles, scaled to network input.
      label: Class of every output pixel; negative labels are ignored.
      weight: Weight map w(x) of Eq. (2); 0 ignores a pixel.
      maps: Of targets that are regressed: what the further outputs of the network
        shall be, see `targets`.
    """

    image: Float[Array, "B H W C"]
    label: Int[Array, "B h w"]
    weight: Float[Array, "B h w"]
    maps: NotRequired[Float[Array, "B h w E"]]


# A custom augmentation, applied last to every tile: from image, label, weight and a key
# to image, label and weight of the same shapes. It is compiled with the training step
# and must be a pure function.
Transform = Callable[
    [
        Float[Array, "H W C"],
        Int[Array, "h w"],
        Float[Array, "h w"],
        PRNGKeyArray,
    ],
    tuple[Float[Array, "H W C"], Int[Array, "h w"], Float[Array, "h w"]],
]
