"""What the segmentation of an image gives."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Segmentation(NamedTuple):
    """The segmentation of an image.

    Attributes:
      probs: Probability of every class, background first.
      label: Most probable class of every pixel.
      instances: Number of the cell of every pixel, 0 outside.
    """

    probs: Float[np.ndarray, "H W K"]
    label: Int[np.ndarray, "H W"]
    instances: Int[np.ndarray, "H W"]
