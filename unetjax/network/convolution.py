"""Convolution by its definition, and an equivalent one that trains faster on a CPU.

`fast` has custom gradients and chooses what XLA compiles to the fastest program for the
CPU: `winograd` for many channels, shifted sums for the single channel of a grey image,
the definition otherwise.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from unetjax.network import winograd

# With so many features the definition is faster than shifted sums.
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
    """Returns the same as `plain`, in less time on a CPU.

    In float32 results agree with the definition to about 1e-5 of the largest one.
    bfloat16 is computed in float32 and rounded, as XLA does on CPUs. Accelerators
    compute `plain`. Only reverse-mode differentiation is supported (`jax.grad`,
    `jax.vjp`).
    """
    return lax.platform_dependent(x, kernel, cpu=_convolve, default=plain)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return fast(x, kernel), (x, kernel)


def _backward(residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    return lax.platform_dependent(
        *residuals, cotangent, cpu=_gradients, default=_plain_gradients
    )


fast.defvjp(_forward, _backward)


def _in_float32(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Computes in float32 at least; results have the type of the first argument."""

    @functools.wraps(function)
    def wrapper(*arrays: Array) -> PyTree:
        dtype = arrays[0].dtype
        wide = jnp.promote_types(dtype, jnp.float32)
        results = function(*(array.astype(wide) for array in arrays))
        return jax.tree.map(lambda x: x.astype(dtype), results)

    return wrapper


@_in_float32
def _convolve(x: Array, kernel: Array) -> Array:
    if winograd.pays(kernel):
        return winograd.convolve(x, kernel)
    if x.shape[-1] == 1 and kernel.shape[-1] < _MANY_FEATURES:
        return _shifted_sum(x, kernel)
    return plain(x, kernel)


@_in_float32
def _gradients(x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
    if winograd.pays(kernel):
        return winograd.gradients(x, kernel, cotangent)
    (image_gradient,) = jax.vjp(lambda x: plain(x, kernel), x)[1](cotangent)
    return image_gradient, _kernel_gradient(x, cotangent)


def _plain_gradients(x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
    return jax.vjp(plain, x, kernel)[1](cotangent)


def _shifted_sum(x: Array, kernel: Array) -> Array:
    """The convolution of one channel as a sum of shifted, scaled images."""
    size = len(kernel)
    height, width = (n - size + 1 for n in x.shape[1:3])
    terms = [
        x[:, i : i + height, j : j + width] * kernel[i : i + 1, j : j + 1]
        for i in range(size)
        for j in range(size)
    ]
    return functools.reduce(jnp.add, terms)


def _kernel_gradient(x: Array, cotangent: Array) -> Array:
    """The gradient of the kernel, [K, K, C, F], as a convolution of the two maps.

    The map with fewer channels takes the place of the image, which is faster.
    """
    if x.shape[-1] <= cotangent.shape[-1]:
        return _correlate(x, cotangent).transpose(1, 2, 0, 3)
    lost = x.shape[1] - cotangent.shape[1]
    padded = jnp.pad(cotangent, ((0, 0), (lost, lost), (lost, lost), (0, 0)))
    return _correlate(padded, x)[:, ::-1, ::-1].transpose(1, 2, 3, 0)


def _correlate(image: Array, kernel: Array) -> Array:
    """Correlates each channel of one map with each channel of the other, [C, K, K, F].

    Channels become the batch, and the batch becomes the channels. XLA derives the same
    convolution, but fuses the transposition into it, which doubles its time; the
    barriers prevent that.
    """
    images = lax.optimization_barrier(image.transpose(3, 1, 2, 0))
    kernels = lax.optimization_barrier(kernel.transpose(1, 2, 0, 3))
    return lax.optimization_barrier(plain(images, kernels))
