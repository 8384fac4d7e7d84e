"""What was rewritten for speed, beside its plain formulation: both give equal numbers.

A test holds each pair to equal values and gradients.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from experiments.benchmarks import measuring, network
from experiments.benchmarks.measuring import OURS, Case, Contender, Row
from experiments.benchmarks.plan import Plan
from unetjax.network import blocks, convolution
from unetjax.network.unet import UNet

_PLAIN = "plain"


class _Pair(NamedTuple):
    """One operation, written twice, with its arguments."""

    name: str
    ours: Callable[..., Array]
    plain: Callable[..., Array]
    arguments: tuple[Array, ...]


def rewrites(plan: Plan, _: dict[str, float]) -> Iterator[list[Row]]:
    """Measures operations with their gradients, and a step that saves memory."""
    for pair in _pairs(plan.rewritten_size):
        contenders = [
            _contender(name, function, pair.arguments)
            for name, function in ((OURS, pair.ours), (_PLAIN, pair.plain))
        ]
        case = Case("rewrites", pair.name)
        yield measuring.measure(case, contenders, plan.effort)
    yield _rematerialised(plan)


def _pairs(size: int) -> Iterator[_Pair]:
    """The operations on maps of `size` pixels at 16 features, smaller at more."""
    for side, channels, features in (
        (size, 1, 16),
        (size, 16, 16),
        (size * 2 // 3, 32, 16),
        (size, 64, 64),
        (size // 2, 256, 256),
        (size // 4, 512, 512),
    ):
        yield _Pair(
            f"3x3 convolution, {side} pixels, {channels} to {features} channels",
            convolution.fast,
            convolution.plain,
            (_normal(1, side, side, channels), _normal(3, 3, channels, features)),
        )
    yield _Pair(
        f"up-convolution, {size // 2} pixels, 128 to 64 channels",
        _up_conv,
        _transposed,
        (_normal(1, size // 2, size // 2, 128), _normal(2, 2, 64, 128), _normal(64)),
    )
    yield _Pair(
        f"2x2 maxima, {size} pixels, 16 channels",
        blocks.max_pool,
        functools.partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2)),
        (_normal(1, size, size, 16),),
    )


def _contender(
    name: str, function: Callable[..., Array], arguments: tuple[Array, ...]
) -> Contender:
    def value_and_gradients(*arguments: Array) -> tuple[Array, ...]:
        value, pull_back = jax.vjp(function, *arguments)
        return value, *pull_back(value)

    compiled, compile_seconds = network.compile_ahead(
        jax.jit(value_and_gradients), *arguments
    )

    def run(n: int) -> object:
        return jax.block_until_ready([compiled(*arguments) for _ in range(n)])

    return Contender(name, run, "float32", compile_seconds, network.memory_of(compiled))


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


def _rematerialised(plan: Plan) -> list[Row]:
    """A training step that keeps all activations, and one that computes them again."""
    features = plan.features[0]
    model = UNet(features=features, depth=plan.depth)
    contenders = [
        network.our_training(
            model.clone(remat=remat), "sgd", plan.tile_size, 1, "float32"
        )
        for remat in (False, True)
    ]
    contenders[1] = contenders[1]._replace(name="unetjax, remat=True")
    case = Case("rewrites", f"memory of a step, {network.sizes(plan, features, 1)}")
    return measuring.measure(case, contenders, plan.effort)


def _normal(*shape: int) -> Array:
    return jax.random.normal(jax.random.key(0), shape, jnp.float32)
