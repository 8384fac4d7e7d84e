"""The batch: what the data rooms hand to the training step."""

from typing import TypedDict

from jaxtyping import Array, Float, Int


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
