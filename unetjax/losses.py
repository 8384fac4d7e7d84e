"""Losses: weighted cross-entropy, Eq. (1), and soft Dice, as sums and a final value.

A loss has two parts: sums over pixels, which add over batches and devices, and a value
computed once from the global sums, so that uneven shards cannot bias it.
"""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from unetjax.settings import check_choice
from unetjax.targets.target import TargetName, activate_maps, num_maps

LossName = Literal["cross_entropy", "soft_dice", "cross_entropy_dice"]
Reduction = Literal["weighted_mean", "sum", "mean"]

# Of soft Dice, in pixels: a class that is absent and not predicted has coefficient 1.
_EPS = 1e-5


def weighted_cross_entropy(
    logits: Float[Array, "*batch K"],
    labels: Int[Array, "*batch"],
    weights: Float[Array, "*batch"],
) -> Float[Array, "*batch"]:
    r"""Weighted softmax cross-entropy at every pixel, the summand of Eq. (1).

    .. math:: -w(x) \, \log p_{\ell(x)}(x)

    The paper prints Eq. (1) without the minus sign, which a loss to be minimised needs.
    Class weights are a weight map as well: `class_weights[labels]`.

    Args:
      logits: Activations a_k(x), before the softmax.
      labels: True class of every pixel, in [0, K); a negative label ignores the pixel.
      weights: Weight map w(x) of Eq. (2), dimensionless; 0 ignores a pixel.

    Returns:
      Loss in nats, unreduced.

    Raises:
      TypeError: If the labels are no integers.
      ValueError: If shapes do not fit, or a label is K or more. Values are unknown
        while JAX traces a function: inside `jax.jit` such a label makes the loss NaN.

    Example:
      >>> import jax.numpy as jnp
      >>> weighted_cross_entropy(jnp.zeros((1, 2)), jnp.array([1]), jnp.array([5.0]))
      Array([3.465736], dtype=float32)
    """
    _check_labels(logits, labels, weights)
    weights = valid_weights(labels, weights)
    pixels = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), jnp.maximum(labels, 0)
    )
    # Not just a product: 0 * inf or 0 * NaN at an ignored pixel would spoil the sum.
    return jnp.where(weights > 0, weights * pixels, 0.0)


def soft_dice(
    logits: Float[Array, "*batch K"],
    labels: Int[Array, "*batch"],
    weights: Float[Array, "*batch"] | None = None,
) -> Float[Array, ""]:
    r"""Returns one minus the mean soft Dice coefficient of the classes, in [0, 1].

    .. math:: 1 - \frac1K \sum_k \frac{2 \sum_x w p_k y_k + \epsilon}
              {\sum_x w p_k + \sum_x w y_k + \epsilon}

    The sums run over the whole batch. A perfect one-hot prediction has loss 0. Unlike
    `optax.losses.dice_loss` it has pixel weights and ignored pixels, and its sums can
    be added over devices.

    Args:
      logits: Activations a_k(x), before the softmax.
      labels: True class of every pixel, in [0, K); a negative label ignores the pixel.
      weights: Weight of every pixel, dimensionless; 1 by default.

    Raises:
      TypeError: If the labels are no integers.
      ValueError: As `weighted_cross_entropy`; inside `jax.jit` a label of K or more
        makes the loss NaN.

    Example:
      >>> labels = jnp.array([1, 1, 1, 0, 0, 0, 1, 1])
      >>> round(float(soft_dice(jnp.zeros((8, 2)), labels)), 4)
      0.5079
    """
    weights = jnp.ones_like(labels, jnp.float32) if weights is None else weights
    return _dice_value(_dice_sums(logits, labels, weights))


class Loss(NamedTuple):
    """A loss that can be computed over any number of devices.

    Attributes:
      sums: From outputs, labels and weights to sums over pixels, which add over shards;
        of a target that is regressed, its maps are the fourth argument.
      value: From the global sums to the loss.
      num_maps: How many of the last outputs are maps, not logits.
    """

    sums: Callable[..., PyTree[Float[Array, "..."]]]
    value: Callable[[PyTree[Float[Array, "..."]]], Float[Array, ""]]
    num_maps: int = 0


def build_loss(
    name: LossName = "cross_entropy",
    reduction: Reduction = "weighted_mean",
    target: TargetName = "classes",
) -> Loss:
    """Returns a loss by name.

    Args:
      name: `cross_entropy` (Eq. 1), `soft_dice`, or `cross_entropy_dice`, the sum of
        both, as in nnU-Net; its soft Dice is unweighted but for ignored pixels.
      reduction: Of the cross-entropy; soft Dice has none. `weighted_mean`: summed loss
        over summed weight, independent of tile size and of the scale of the weights.
        `sum`: Eq. (1) literally. `mean`: summed loss over the number of pixels.
      target: What the network learns. Of `distances` and `neighbours` the error of the
        maps is added, see `map_error`.

    Raises:
      ValueError: If a name is unknown.
    """
    check_choice("name", name, LossName)
    check_choice("reduction", reduction, Reduction)
    check_choice("target", target, TargetName)
    loss = _class_loss(name, reduction)
    if not num_maps(target):
        return loss
    return Loss(
        functools.partial(_sums_with_maps, loss.sums, target),
        functools.partial(_value_with_maps, loss.value),
        num_maps=num_maps(target),
    )


def _class_loss(name: LossName, reduction: Reduction) -> Loss:
    if name == "soft_dice":
        return Loss(_dice_sums, _dice_value)
    values = {"weighted_mean": weighted_mean, "sum": _sum, "mean": _pixel_mean}
    cross_entropy = Loss(_cross_entropy_sums, values[reduction])
    if name == "cross_entropy":
        return cross_entropy
    return Loss(_combined_sums, functools.partial(_combined_value, cross_entropy))


class PixelSums(NamedTuple):
    """Sums over the pixels of a batch that are not ignored."""

    loss: Float[Array, ""]
    weight: Float[Array, ""]
    pixels: Float[Array, ""]


def weighted_mean(sums: PixelSums) -> Float[Array, ""]:
    """Returns summed loss over summed weight; 0 if no pixel is annotated."""
    return sums.loss / jnp.where(sums.weight > 0, sums.weight, 1.0)


def valid_weights(
    labels: Int[Array, "*batch"], weights: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Returns the weights, set to 0 at ignored pixels, whose label is negative."""
    return jnp.where(labels >= 0, weights, 0.0)


def _check_labels(logits: Array, labels: Array, weights: Array) -> None:
    """Refuses labels and weights that are not those of the logits."""
    shape, expected, num_classes = labels.shape, logits.shape[:-1], logits.shape[-1]
    if shape == logits.shape:
        raise ValueError(
            f"labels must be one class per pixel, of shape {list(expected)}, got "
            f"one-hot labels of shape {list(shape)}; use labels.argmax(axis=-1)."
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"labels must be integers, got {labels.dtype}; use labels.astype('int32')."
        )
    for name, given in (("labels", shape), ("weights", jnp.shape(weights))):
        if given != expected and (given or name == "labels"):
            raise ValueError(
                f"{name} must have the shape of the output of the network, "
                f"{list(expected)}, got {list(given)}; crop them with "
                "unetjax.network.blocks.center_crop(..., like=logits)."
            )
    if not isinstance(labels, jax.core.Tracer) and labels.size:
        # By NumPy: under jit, jnp would trace even the maximum of a constant.
        largest = int(np.asarray(labels).max())
        if largest >= num_classes:
            raise ValueError(
                f"labels must be below the number of classes, {num_classes}, got "
                f"{largest}; raise num_classes, or use -1 for pixels to ignore."
            )


def _sum(sums: PixelSums) -> Float[Array, ""]:
    return sums.loss


def _pixel_mean(sums: PixelSums) -> Float[Array, ""]:
    return sums.loss / jnp.maximum(sums.pixels, 1.0)


def _cross_entropy_sums(logits: Array, labels: Array, weights: Array) -> PixelSums:
    pixels = weighted_cross_entropy(logits, labels, weights)
    weights = valid_weights(labels, weights)
    return PixelSums(pixels.sum(), weights.sum(), (weights > 0).sum(dtype=jnp.float32))


class _DiceSums(NamedTuple):
    both: Float[Array, " K"]
    predicted: Float[Array, " K"]
    true: Float[Array, " K"]


def _dice_sums(logits: Array, labels: Array, weights: Array) -> _DiceSums:
    _check_labels(logits, labels, weights)
    num_classes = logits.shape[-1]
    weights = valid_weights(labels, weights)
    # A class that does not exist must not pass for a pixel of no class.
    weight = jnp.where((labels >= num_classes) & (weights > 0), jnp.nan, weights)
    weight = weight[..., None]
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


def _combined_sums(
    logits: Array, labels: Array, weights: Array
) -> tuple[PixelSums, _DiceSums]:
    # Weights that favour borders or rare classes make the cross-entropy find them; the
    # overlap is measured as it will be scored.
    unweighted = jnp.where(weights > 0, 1.0, 0.0)
    return (
        _cross_entropy_sums(logits, labels, weights),
        _dice_sums(logits, labels, unweighted),
    )


def _combined_value(
    cross_entropy: Loss, sums: tuple[PixelSums, _DiceSums]
) -> Float[Array, ""]:
    return cross_entropy.value(sums[0]) + _dice_value(sums[1])


class MapSums(NamedTuple):
    """Sums over the pixels of a batch whose maps are learned."""

    error: Float[Array, ""]
    pixels: Float[Array, ""]


def map_error(
    outputs: Float[Array, "*batch E"],
    maps: Float[Array, "*batch E"],
    labels: Int[Array, "*batch"],
    weights: Float[Array, "*batch"],
    *,
    target: TargetName,
) -> MapSums:
    """Returns the summed error of the maps of a target, and over how many pixels.

    `distances`: the absolute difference on cells, as they say nothing of the
    background. `neighbours`: the smooth L1 error (Scherr et al. 2020) wherever the
    label is not ignored. Both are summed over the maps.

    Args:
      outputs: The further outputs of the network, not activated.
      maps: What they shall be, in [0, 1].
      labels: Class of every pixel; negative ones are ignored.
      weights: Weight map; only where it is 0 matters, which ignores a pixel.
      target: Which maps these are.
    """
    least = 1 if target == "distances" else 0
    counts = (labels >= least) & (weights > 0)
    predicted = activate_maps(outputs.astype(jnp.float32), target)
    if target == "distances":
        error = jnp.abs(predicted - maps)
    else:
        error = optax.huber_loss(predicted, maps)
    error = jnp.where(counts, error.sum(axis=-1), 0.0)
    return MapSums(error.sum(), counts.sum(dtype=jnp.float32))


def _sums_with_maps(
    class_sums: Callable[..., PyTree],
    target: TargetName,
    outputs: Array,
    labels: Array,
    weights: Array,
    maps: Array,
) -> tuple[PyTree, MapSums]:
    split = outputs.shape[-1] - maps.shape[-1]
    return (
        class_sums(outputs[..., :split], labels, weights),
        map_error(outputs[..., split:], maps, labels, weights, target=target),
    )


def _value_with_maps(
    class_value: Callable[..., Float[Array, ""]], sums: tuple[PyTree, MapSums]
) -> Float[Array, ""]:
    classes, maps = sums
    return class_value(classes) + maps.error / jnp.maximum(maps.pixels, 1.0)
