"""The choice of target, the channels it adds to a network, and their activations."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

TargetName = Literal["classes", "distances", "neighbours", "border"]

# Channels that a target adds behind those of the classes.
MAPS: dict[TargetName, tuple[str, ...]] = {
    "classes": (),
    "distances": ("center distance", "boundary distance"),
    "neighbours": ("cell distance", "neighbour distance"),
    "border": ("border",),
}
# Targets whose further channels are regressed, not classified.
REGRESSION = frozenset({"distances", "neighbours"})


def num_maps(target: TargetName) -> int:
    """Returns how many of the last channels are regressed."""
    return len(MAPS[target]) if target in REGRESSION else 0


def num_logits(num_classes: int, target: TargetName) -> int:
    """Returns how many of the first channels are logits of one softmax.

    Example:
      >>> num_logits(2, "distances"), num_logits(2, "border")
      (2, 3)
    """
    return num_classes + len(MAPS[target]) - num_maps(target)


def activate(
    outputs: Float[Array, "*batch K"], *, num_classes: int, target: TargetName
) -> Float[Array, "*batch K"]:
    """Returns probabilities and maps from the outputs of a network, all in [0, 1].

    The softmax of the logits, followed by the maps: distances through the sigmoid,
    neighbour distances, which are linear, cut at 0 and 1.

    Args:
      outputs: What the network returns.
      num_classes: Number of classes, background included.
      target: What the network learned.
    """
    split = num_logits(num_classes, target)
    probs = jax.nn.softmax(outputs[..., :split])
    if target not in REGRESSION:
        return probs
    maps = activate_maps(outputs[..., split:], target).clip(0, 1)
    return jnp.concatenate([probs, maps], axis=-1)


def activate_maps(
    outputs: Float[Array, "*batch E"], target: TargetName
) -> Float[Array, "*batch E"]:
    """Returns the predicted maps from the further outputs of a network.

    Neighbour distances are not cut here: a loss would have no gradient beyond.
    """
    return jax.nn.sigmoid(outputs) if target == "distances" else outputs
