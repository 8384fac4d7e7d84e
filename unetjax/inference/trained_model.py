"""A trained network with all it takes to use it."""

from typing import Any, NamedTuple

from jaxtyping import PyTree

from unetjax.network.input_scaling import Clip, Scaling
from unetjax.network.unet import UNet


class TrainedModel(NamedTuple):
    """A trained network with all it takes to use it.

    Attributes:
      model: The network.
      params: Its parameters.
      model_state: Its other collections (batch statistics).
      scaling: From stored grey values to network input.
      class_names: Name of every class, background first; empty if they have none.
      instances: Options of the post-processing that numbers cells, as JSON data.
      about: What the network was trained on, its scores, its origin, as JSON data.
      clip: Bounds of the stored grey values before the scaling; None is no bound.
    """

    model: UNet
    params: PyTree
    model_state: dict[str, Any]
    scaling: Scaling
    class_names: tuple[str, ...]
    instances: dict[str, Any]
    about: dict[str, Any]
    clip: Clip = (None, None)
