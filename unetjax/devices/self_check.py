"""Self-check of the compiler and the device, before any data are read."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jaxtyping import Array, Float, PyTree

from unetjax import losses
from unetjax.devices import memory
from unetjax.network.forward import forward
from unetjax.network.unet import UNet

_MODEL = UNet(features=2, depth=1)
_SIDE = 28  # pixels of the tile; the output has 12
_STEP = 1e-4  # of the central difference in float64
# Relative; products of GPUs and TPUs have 10 or 8 bits of mantissa by default.
_TOLERANCE = {"cpu": 1e-3}
_OTHER_TOLERANCE = 0.05
_ROWS = 32_769  # from which on jaxlib 0.10.2 goes wrong, see `runtime`


class _Case(NamedTuple):
    """A small training step.

    Attributes:
      params: Parameters of the network, float64.
      direction: Of the same shapes: where the derivative is taken.
      image: [H, W, 1], float64.
      label: [h, w].
      weight: [h, w], float64.
    """

    params: PyTree
    direction: PyTree
    image: np.ndarray
    label: np.ndarray
    weight: np.ndarray


@functools.cache
def check() -> None:
    """Compares compiled results with float64 ones computed by NumPy, once a process.

    A mapped sum, and the loss of a small network with its derivative in a direction:
    what silently went wrong in released versions of JAX, and what training consists of.

    Raises:
      OSError: If the device fails, or a result is wrong.
    """
    try:
        device = jax.local_devices()[0]
    # JAX raises the latter where JAX_PLATFORMS names what is not there.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise OSError(
            f"JAX finds no device ({reason}); install the build of jaxlib for it, or "
            "set JAX_PLATFORMS=cpu to do without it."
        ) from error
    case = _make_case()
    try:
        squares, loss, slope = jax.device_get(_compute(case))
    except jax.errors.JaxRuntimeError as error:
        if memory.is_exhausted(error):
            raise
        reason = str(error).partition("\n")[0]
        raise OSError(
            f"the device {device} cannot run a small network ({reason}); update its "
            "driver or its build of jaxlib, or set JAX_PLATFORMS=cpu to do without it."
        ) from error
    tolerance = _TOLERANCE.get(device.platform, _OTHER_TOLERANCE)
    low, high = (_loss(case, sign * _STEP) for sign in (-1, 1))
    found = {
        "a sum over rows": (squares, np.square(np.arange(_ROWS)), tolerance),
        "the loss of a small network": (loss, _loss(case, 0.0), tolerance),
        "its gradient": (slope, (high - low) / (2 * _STEP), tolerance),
    }
    for what, (ours, expected, rtol) in found.items():
        if not np.allclose(ours, expected, rtol=rtol, atol=0):
            raise OSError(
                f"jaxlib {jaxlib.__version__} computes {what} wrongly on {device}; "
                "install another version of JAX, or set JAX_PLATFORMS to another "
                "device."
            )


def _make_case() -> _Case:
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(
        lambda: _MODEL.init(
            jax.random.key(0), jnp.zeros((1, _SIDE, _SIDE, 1)), train=False
        )
    )["params"]

    def draw(like: jax.ShapeDtypeStruct) -> np.ndarray:
        return rng.normal(scale=0.4, size=like.shape)

    output = _MODEL.geometry.output_size(_SIDE)
    return _Case(
        jax.tree.map(draw, shapes),
        jax.tree.map(draw, shapes),
        rng.normal(size=(_SIDE, _SIDE, 1)),
        rng.integers(2, size=(output, output)),
        rng.uniform(1, 10, size=(output, output)),
    )


def _compute(case: _Case) -> tuple[Array, Array, Array]:
    """Squares of rows, loss and slope, compiled."""
    params, direction = (
        jax.tree.map(jnp.float32, tree) for tree in (case.params, case.direction)
    )
    matrix = jnp.eye(3)
    rows = np.zeros((_ROWS, 3), np.float32)
    rows[:, 0] = np.arange(_ROWS)

    def loss_of(params: PyTree) -> Array:
        image = jnp.float32(case.image)[None]
        logits, _ = forward(_MODEL, params, {}, image)
        label, weight = jnp.int32(case.label), jnp.float32(case.weight)
        pixels = losses.weighted_cross_entropy(logits[0], label, weight)
        return pixels.sum() / weight.sum()

    def compute(params: PyTree, rows: Array) -> tuple[Array, Array, Array]:
        squares = jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2))(rows)
        loss, grads = jax.value_and_grad(loss_of)(params)
        slopes = jax.tree.map(jnp.vdot, grads, direction)
        return squares, loss, jax.tree.reduce(jnp.add, slopes)

    return jax.jit(compute)(params, rows)


def _loss(case: _Case, step: float) -> float:
    """The loss at a point along the direction, in float64 by NumPy."""
    params = jax.tree.map(lambda p, d: p + step * d, case.params, case.direction)
    skip = _block(case.image, params["encoder_0"])
    height, width, channels = skip.shape
    blocks = skip.reshape(height // 2, 2, width // 2, 2, channels)
    x = _block(blocks.max(axis=(1, 3)), params["bottleneck"])
    up = params["up_0"]
    x = np.einsum("hwc,ijfc->hiwjf", x, up["kernel"])
    x = x.reshape(2 * x.shape[0], 2 * x.shape[2], -1) + up["bias"]
    margin = (height - x.shape[0]) // 2
    skip = skip[margin : height - margin, margin : width - margin]
    x = _block(np.concatenate([skip, x], axis=-1), params["decoder_0"])
    logits = x @ params["head"]["kernel"][0, 0] + params["head"]["bias"]
    true = np.take_along_axis(logits, case.label[..., None], axis=-1)[..., 0]
    pixels = np.logaddexp(logits[..., 0], logits[..., 1]) - true
    return float((case.weight * pixels).sum() / case.weight.sum())


def _block(
    x: Float[np.ndarray, "H W C"], params: dict[str, Any]
) -> Float[np.ndarray, "h w F"]:
    """Two 3x3 convolutions without padding, each followed by a ReLU."""
    for name in ("conv_0", "conv_1"):
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))
        x = np.einsum("hwcij,ijcf->hwf", windows, params[name]["kernel"])
        x = np.maximum(x + params[name]["bias"], 0)
    return x
