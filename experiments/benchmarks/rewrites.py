"""Operations that were rewritten for speed, and their plain formulations.

A test compares the values and gradients of each pair.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from unetjax.network import blocks, convolution

from . import contenders, measuring, network
from .measuring import OURS, Case, Contender, Row
from .plan import Plan


class Pair(NamedTuple):
    """One operation, written twice, with its arguments."""

    name: str
    ours: Callable[..., Array]
    plain: Callable[..., Array]
    arguments: tuple[Array, ...]


def rewrites(plan: Plan, _: dict[str, float]) -> Iterator[list[Row]]:
    """Measures operations with their gradients, and a step that saves memory."""
    for pair in pairs(plan.rewritten_size):
        found = [
            _with_gradients(OURS, pair.ours, pair.arguments),
            _with_gradients("plain", pair.plain, pair.arguments),
        ]
        yield measuring.measure(Case("rewrites", pair.name), found, plan.effort)
    yield rematerialised(plan)


def pairs(size: int) -> Iterator[Pair]:
    """Yields operations on maps of `size` pixels at 16 features, smaller at more."""
    for side, channels, features in (
        (size, 1, 16),
        (size, 16, 16),
        (size * 2 // 3, 32, 16),
        (size, 64, 64),
        (size // 2, 256, 256),
        (size // 4, 512, 512),
    ):
        yield Pair(
            f"3x3 convolution, {side} pixels, {channels} to {features} channels",
            convolution.fast,
            convolution.plain,
            (_normal(1, side, side, channels), _normal(3, 3, channels, features)),
        )
    yield Pair(
        f"up-convolution, {size // 2} pixels, 128 to 64 channels",
        _up_conv,
        _transposed,
        (_normal(1, size // 2, size // 2, 128), _normal(2, 2, 64, 128), _normal(64)),
    )
    yield Pair(
        f"2x2 maxima, {size} pixels, 16 channels",
        blocks.max_pool,
        functools.partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2)),
        (_normal(1, size, size, 16),),
    )


def rematerialised(plan: Plan) -> list[Row]:
    """Measures a step that keeps all activations, and one that recomputes them."""
    config = network.experiment(plan, plan.features[0])
    remat = replace(config, model=config.model.clone(remat=True))
    found = [
        network.our_training(config),
        network.our_training(remat)._replace(name="unetjax, remat=True"),
    ]
    case = Case("rewrites", f"memory of a step, {network.sizes(config)}")
    return measuring.measure(case, found, plan.effort)


def _with_gradients(
    name: str, function: Callable[..., Array], arguments: tuple[Array, ...]
) -> Contender:
    def value_and_gradients(*arguments: Array) -> tuple[Array, ...]:
        value, pull_back = jax.vjp(function, *arguments)
        return value, *pull_back(value)

    return contenders.of_function(
        name, value_and_gradients, *arguments, precision="float32"
    )


def _up_conv(x: Array, kernel: Array, bias: Array) -> Array:
    module = blocks.UpConv(kernel.shape[2], kernel_init=nn.initializers.zeros)
    y = module.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    return jnp.asarray(y)


def _transposed(x: Array, kernel: Array, bias: Array) -> Array:
    y = lax.conv_transpose(
        x,
        kernel,
        (2, 2),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        transpose_kernel=True,
    )
    return y + bias.reshape(1, 1, 1, -1)


def _normal(*shape: int) -> Array:
    return jax.random.normal(jax.random.key(0), shape, jnp.float32)
