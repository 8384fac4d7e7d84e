"""The convolution of the network, and one that trains fast on a CPU.

Both are the same function; `fast` has gradients of its own, and computes by whatever
takes XLA's compiler for the CPU least time: `winograd` for many channels, shifted sums
for the one channel of a grey image, the definition for the rest.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from unetjax.network import winograd

# Features of the first convolution from which the definition is faster than sums.
_MANY_FEATURES = 64


def plain(
    x: Float[Array, "B H W C"], kernel: Float[Array, "K L C F"]
) -> Float[Array, "B h w F"]:
    """Returns the `VALID` convolution of stride 1 by its definition."""
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def fast(
    x: Float[Array, "B H W C"], kernel: Float[Array, "K K C F"]
) -> Float[Array, "B h w F"]:
    """Returns what `plain` does, in less time where there is no accelerator.

    Results agree with the definition to some 1e-5 of the largest one in float32; what
    is given in bfloat16 is computed in float32, as XLA does as well, and rounded. Other
    accelerators compute `plain`. Derivatives are those of reverse mode only
    (`jax.grad`, `jax.vjp`).
    """
    return lax.platform_dependent(x, kernel, cpu=_convolve, default=plain)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return fast(x, kernel), (x, kernel)


def _backward(residuals: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    return lax.platform_dependent(
        *residuals, slope, cpu=_gradients, default=_plain_gradients
    )


fast.defvjp(_forward, _backward)


def _wide(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """The function in float32 at least, its results as wide as its arguments."""

    @functools.wraps(function)
    def widened(*arrays: Array) -> PyTree:
        dtype = arrays[0].dtype
        wide = jnp.promote_types(dtype, jnp.float32)
        results = function(*(array.astype(wide) for array in arrays))
        return jax.tree.map(lambda x: x.astype(dtype), results)

    return widened


@_wide
def _convolve(x: Array, kernel: Array) -> Array:
    if winograd.pays(kernel):
        return winograd.convolve(x, kernel)
    if x.shape[-1] == 1 and kernel.shape[-1] < _MANY_FEATURES:
        return _shifted_sum(x, kernel)
    return plain(x, kernel)


@_wide
def _gradients(x: Array, kernel: Array, slope: Array) -> tuple[Array, Array]:
    if winograd.pays(kernel):
        return winograd.gradients(x, kernel, slope)
    (image_gradient,) = jax.vjp(lambda x: plain(x, kernel), x)[1](slope)
    return image_gradient, _kernel_gradient(x, slope)


def _plain_gradients(x: Array, kernel: Array, slope: Array) -> tuple[Array, Array]:
    return jax.vjp(plain, x, kernel)[1](slope)


def _shifted_sum(x: Array, kernel: Array) -> Array:
    """The convolution of one channel, a sum of products with numbers."""
    size = len(kernel)
    height, width = (n - size + 1 for n in x.shape[1:3])
    terms = [
        x[:, i : i + height, j : j + width] * kernel[i : i + 1, j : j + 1]
        for i in range(size)
        for j in range(size)
    ]
    return functools.reduce(jnp.add, terms)


def _kernel_gradient(x: Array, slope: Array) -> Array:
    """The gradient of the kernel, [K, K, C, F], by one more convolution.

    The one of two maps whose channels are fewer is the image: the work grows with the
    other's channels the least.
    """
    if x.shape[-1] <= slope.shape[-1]:
        return _correlate(x, slope).transpose(1, 2, 0, 3)
    rim = x.shape[1] - slope.shape[1]
    wide = jnp.pad(slope, ((0, 0), (rim, rim), (rim, rim), (0, 0)))
    return _correlate(wide, x)[:, ::-1, ::-1].transpose(1, 2, 3, 0)


def _correlate(image: Array, kernel: Array) -> Array:
    """Every channel of one map with every channel of the other, [C, K, K, F].

    What is a channel becomes the batch, and the batch becomes the channel. XLA derives
    the same convolution; but fused into it, turning the maps costs as much again.
    """
    images = lax.optimization_barrier(image.transpose(3, 1, 2, 0))
    kernels = lax.optimization_barrier(kernel.transpose(1, 2, 0, 3))
    return lax.optimization_barrier(plain(images, kernels))
