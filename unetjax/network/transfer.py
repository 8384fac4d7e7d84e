"""Transfer learning: parameters of a trained network as the start of another."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from unetjax.network.unet import UNet, num_input_channels
from unetjax.targets.target import MAPS

# Fields that may differ: they change neither shapes nor what is computed of parameters
# outside the head.
_FREE = frozenset(
    {
        *("num_classes", "target", "dropout_rate", "dropout_sites"),
        *("kernel_init", "bias_init", "remat", "dtype", "parent", "name"),
    }
)


def transfer(
    trained: UNet, trained_params: PyTree, model: UNet, params: PyTree
) -> PyTree[Float[Array, "..."]]:
    """Returns initial parameters of a network, taken from a trained one where possible.

    All blocks are copied. The head is copied by channel: classes by their number, maps
    of a target by their name; other channels keep their initial values. If the images
    have another number of channels, every input channel of the first convolution gets
    the sum of the trained ones, divided by the new number: a grey image stored as RGB
    then gives the activations of the grey image.

    Args:
      trained: The trained network.
      trained_params: Its parameters.
      model: The network to be trained, of the same architecture.
      params: Its initial parameters.

    Raises:
      ValueError: If the architectures differ.
    """
    differences = [
        f"{field.name} {getattr(trained, field.name)!r}, not "
        f"{getattr(model, field.name)!r}"
        for field in dataclasses.fields(model)
        if field.name not in _FREE
        and getattr(trained, field.name) != getattr(model, field.name)
    ]
    if differences:
        raise ValueError(
            "a network can start only from one of the same architecture; the trained "
            f"one has {', '.join(differences)}."
        )
    head = _start_head(trained, trained_params["head"], model, params["head"])
    blocks: dict[str, Any] = {**trained_params, "head": head}
    channels = num_input_channels(params)
    if num_input_channels(trained_params) != channels:
        first = "encoder_0" if model.depth else "bottleneck"
        conv = blocks[first]["conv_0"]
        conv = {**conv, "kernel": _with_channels(conv["kernel"], channels)}
        blocks[first] = {**blocks[first], "conv_0": conv}
    return jax.tree.map(jnp.asarray, blocks)


def _with_channels(
    kernel: Float[Array, "k k C F"], channels: int
) -> Float[Array, "k k D F"]:
    """Returns a kernel for images of another number of channels."""
    total = jnp.sum(jnp.asarray(kernel), axis=2, keepdims=True)
    return jnp.repeat(total / channels, channels, axis=2)


def _start_head(
    trained: UNet, trained_head: Mapping[str, Any], model: UNet, head: Mapping[str, Any]
) -> dict[str, Array]:
    """Returns the head with the channels that both networks have."""
    old, new = _channel_names(trained), _channel_names(model)
    both = [name for name in new if name in old]
    into = jnp.array([new.index(name) for name in both])
    taken = jnp.array([old.index(name) for name in both])
    return {
        name: jnp.asarray(values)
        .at[..., into]
        .set(jnp.asarray(trained_head[name])[..., taken])
        for name, values in head.items()
    }


def _channel_names(model: UNet) -> list[str]:
    """Names of the outputs of a network."""
    return [*model.class_numbers, *MAPS[model.target]]
