"""Losses in two halves: sums over pixels, and a number made of those sums.

Sums add over pixels, batches and devices; the number is made once, from the global
sums, so that uneven shards cannot bias it.
"""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from unetjax.settings import check_choice

LossName = Literal["cross_entropy", "soft_dice"]
Reduction = Literal["weighted_mean", "sum", "mean"]

_EPS = 1e-5  # of soft Dice, in pixels: an absent class that nobody predicts scores 1


def weighted_cross_entropy(
    logits: Float[Array, "*batch K"],
    labels: Int[Array, "*batch"],
    weights: Float[Array, "*batch"],
) -> Float[Array, "*batch"]:
    r"""Weighted softmax cross-entropy at every pixel, the summand of Eq. (1).

    .. math:: -w(x) \, \log p_{\ell(x)}(x)

    The paper prints Eq. (1) without its minus sign; the energy is minimised, so it is
    here. Class weights are a weight map as well: `class_weights[labels]`.

    Args:
      logits: Activations a_k(x), before the softmax.
      labels: True class of every pixel, in [0, K); a negative label ignores the pixel.
      weights: Weight map w(x) of Eq. (2), dimensionless; 0 ignores a pixel.

    Returns:
      Loss in nats, unreduced.

    Example:
      >>> import jax.numpy as jnp
      >>> weighted_cross_entropy(jnp.zeros((1, 2)), jnp.array([1]), jnp.array([5.0]))
      Array([3.465736], dtype=float32)
    """
    weights = counted(labels, weights)
    pixels = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), jnp.maximum(labels, 0)
    )
    # A pixel that does not count must not poison the sum, whatever its logits.
    return jnp.where(weights > 0, weights * pixels, 0.0)


def soft_dice(
    logits: Float[Array, "*batch K"],
    labels: Int[Array, "*batch"],
    weights: Float[Array, "*batch"] | None = None,
) -> Float[Array, ""]:
    r"""Returns one minus the mean soft Dice coefficient of the classes, in [0, 1].

    .. math:: 1 - \frac1K \sum_k \frac{2 \sum_x w p_k y_k + \epsilon}
              {\sum_x w p_k + \sum_x w y_k + \epsilon}

    Sums run over the whole batch and measure the overlap of each class with itself;
    for a perfect one-hot prediction the loss is 0.

    Args:
      logits: Activations a_k(x), before the softmax.
      labels: True class of every pixel, in [0, K); a negative label ignores the pixel.
      weights: Weight of every pixel, dimensionless; 1 by default.

    Example:
      >>> labels = jnp.array([1, 1, 1, 0, 0, 0, 1, 1])
      >>> round(float(soft_dice(jnp.zeros((8, 2)), labels)), 4)
      0.5079
    """
    weights = jnp.ones_like(labels, jnp.float32) if weights is None else weights
    return _dice_value(_dice_sums(logits, labels, weights))


class Loss(NamedTuple):
    """A loss that any number of devices can share.

    Attributes:
      sums: From logits, labels and weights to sums over pixels; sums of shards add.
      value: From the global sums to the number that is minimised.
    """

    sums: Callable[[Array, Array, Array], PyTree[Float[Array, "..."]]]
    value: Callable[[PyTree[Float[Array, "..."]]], Float[Array, ""]]


def build_loss(
    name: LossName = "cross_entropy", reduction: Reduction = "weighted_mean"
) -> Loss:
    """Returns a loss by name.

    Args:
      name: `cross_entropy` (Eq. 1) or `soft_dice`.
      reduction: Of the cross-entropy; soft Dice is a ratio of sums already.
        `weighted_mean`: summed loss over summed weight, whatever tile size and weight
        scale. `sum`: Eq. (1) literally. `mean`: summed loss over the number of pixels.

    Raises:
      ValueError: If a name is unknown.
    """
    check_choice("name", name, LossName)
    check_choice("reduction", reduction, Reduction)
    if name == "soft_dice":
        return Loss(_dice_sums, _dice_value)
    values = {"weighted_mean": weighted_mean, "sum": _sum, "mean": _pixel_mean}
    return Loss(_cross_entropy_sums, values[reduction])


class PixelSums(NamedTuple):
    """Sums over the counted pixels of a batch."""

    loss: Float[Array, ""]
    weight: Float[Array, ""]
    pixels: Float[Array, ""]


def weighted_mean(sums: PixelSums) -> Float[Array, ""]:
    """Returns summed loss over summed weight; 0 where nothing is annotated."""
    return sums.loss / jnp.where(sums.weight > 0, sums.weight, 1.0)


def counted(
    labels: Int[Array, "*batch"], weights: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Returns the weights, 0 where the label is negative: nobody annotated there."""
    return jnp.where(labels >= 0, weights, 0.0)


def _sum(sums: PixelSums) -> Float[Array, ""]:
    return sums.loss


def _pixel_mean(sums: PixelSums) -> Float[Array, ""]:
    return sums.loss / jnp.maximum(sums.pixels, 1.0)


def _cross_entropy_sums(logits: Array, labels: Array, weights: Array) -> PixelSums:
    pixels = weighted_cross_entropy(logits, labels, weights)
    weights = counted(labels, weights)
    return PixelSums(pixels.sum(), weights.sum(), (weights > 0).sum(dtype=jnp.float32))


class _DiceSums(NamedTuple):
    both: Float[Array, " K"]
    predicted: Float[Array, " K"]
    true: Float[Array, " K"]


def _dice_sums(logits: Array, labels: Array, weights: Array) -> _DiceSums:
    num_classes = logits.shape[-1]
    weight = counted(labels, weights)[..., None]
    probs = jax.nn.softmax(logits.astype(jnp.float32))
    one_hot = jax.nn.one_hot(labels, num_classes)  # all zero at negative labels
    total = functools.partial(jnp.sum, axis=tuple(range(labels.ndim)))
    return _DiceSums(
        both=total(weight * probs * one_hot),
        predicted=total(weight * probs),
        true=total(weight * one_hot),
    )


def _dice_value(sums: _DiceSums) -> Float[Array, ""]:
    dice = (2 * sums.both + _EPS) / (sums.predicted + sums.true + _EPS)
    return 1 - dice.mean()
