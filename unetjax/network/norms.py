"""Normalisation layers of the blocks: none (as in the paper), batch, layer or group."""

import math
from typing import Literal

import flax.linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

NormName = Literal["none", "batch", "layer", "group"]

# Norms whose output at a pixel does not depend on the rest of the tile in prediction.
# With any other, tiles and a pass over the whole image give different results.
KEEPS_TILES_EXACT = frozenset({"none", "batch", "layer"})

# Added to a variance before the square root.
EPSILON = {"batch": 1e-5, "layer": 1e-6, "group": 1e-6}


def normalize(
    x: Float[Array, "B H W C"], norm: NormName, *, train: bool, dtype: DTypeLike
) -> Float[Array, "B H W C"]:
    """Returns normalised activations; to be called inside a compact module.

    Args:
      x: Activations.
      norm: `none`; `batch`: running statistics in the collection `batch_stats`; in
        training each device uses the statistics of its own tiles; `layer`: over the
        channels of a pixel; `group`: over at most 8 groups of channels and the whole
        tile, so that tiled prediction no longer equals one pass.
      train: Whether `batch` uses and updates the statistics of this batch.
      dtype: Computation dtype; parameters and statistics stay float32.
    """
    if norm == "none":
        return x
    options = {"epsilon": EPSILON[norm], "dtype": dtype}
    if norm == "batch":
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, **options)(x)
    if norm == "layer":
        return nn.LayerNorm(**options)(x)
    return nn.GroupNorm(num_groups=num_groups(x.shape[-1]), **options)(x)


def num_groups(channels: int) -> int:
    """Returns the number of groups for the norm `group`: at most 8, of equal size."""
    return math.gcd(8, channels)
