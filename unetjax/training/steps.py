"""Training state, and the training step as a pure function of (state, batch, key)."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from unetjax import losses
from unetjax.data.batch import Batch
from unetjax.devices import parallel
from unetjax.losses import Loss
from unetjax.network.forward import forward
from unetjax.network.unet import UNet
from unetjax.targets.target import num_maps

CROSS_ENTROPY = losses.build_loss()


class TrainState(NamedTuple):
    """Everything a checkpoint must hold, and nothing that is code.

    Attributes:
      step: Number of completed updates.
      params: Model parameters, float32.
      model_state: Other collections of the model; {} for the paper's network.
      opt_state: State of the optax transformation.
    """

    step: Int[Array, ""]
    params: PyTree[Float[Array, "..."]]
    model_state: dict[str, Any]
    opt_state: optax.OptState


class Metrics(NamedTuple):
    """Scalars of one step, over the global batch.

    Attributes:
      loss: The number that was minimised, in nats for the cross-entropy.
      accuracy: Share of annotated pixels whose most probable class is the true one;
        NaN where nobody annotated.
      grad_norm: Euclidean norm of the gradient.
      grad_norms: The same of every array by its path, where asked for.
    """

    loss: Float[Array, ""]
    accuracy: Float[Array, ""]
    grad_norm: Float[Array, ""]
    grad_norms: dict[str, Float[Array, ""]] | None = None


def init_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    key: PRNGKeyArray,
    image: Float[Array, "B H W C"],
) -> TrainState:
    """Returns the state before the first update.

    Args:
      model: Module mapping images to logits.
      optimizer: Optax transformation.
      key: Random key of the parameters.
      image: Any batch of legal size; only its shape matters.
    """
    variables = model.init(key, image, train=False)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state={k: v for k, v in variables.items() if k != "params"},
        opt_state=optimizer.init(params),
    )


def train_step(
    state: TrainState,
    batch: Batch,
    key: PRNGKeyArray,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    loss: Loss = CROSS_ENTROPY,
    log_grad_norms: bool = False,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """Computes one optimizer update.

    Args:
      state: State before the update.
      batch: This device's shard of the global batch.
      key: Dropout key of the run. The step and the device are folded in here, so that a
        resumed run repeats its dropout masks.
      model: Module from images to logits, such as `UNet`.
      optimizer: The transformation that made `state.opt_state`.
      loss: Sums over pixels, and the value computed from them.
      log_grad_norms: Whether the metrics contain the gradient norm of every array.
      axis_name: Name of the mapped axis to sum over, under `jax.shard_map` or
        `jax.pmap`; None on one device.

    Returns:
      The updated state and the metrics, equal on every device.

    Raises:
      ValueError: If sizes, labels, parameters or loss do not fit the model, see `UNet`
        and `losses.weighted_cross_entropy`.
    """
    key = jax.random.fold_in(key, state.step)
    if axis_name is not None:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))

    def local_sums(params: PyTree) -> tuple[PyTree, tuple[Array, dict[str, Any]]]:
        outputs, model_state = forward(
            model, params, state.model_state, batch["image"], key=key
        )
        maps = [batch["maps"]] if loss.num_maps else []
        sums = loss.sums(outputs, batch["label"], batch["weight"], *maps)  # checks them
        logits = outputs[..., : outputs.shape[-1] - loss.num_maps]
        return sums, (_count_hits(logits, batch["label"]), model_state)

    _check_maps(model, loss, batch)
    params = state.params
    if axis_name is not None:
        # With its default checks `shard_map` would sum the gradients of replicated
        # parameters by itself, and the sum below would count every device again.
        params = parallel.as_varying(params, axis_name)
    local, pull_back, (hits, model_state) = jax.vjp(local_sums, params, has_aux=True)
    # Sums cross devices, means never do: shards may differ in weight.
    sums = local
    if axis_name is not None:
        sums, hits = jax.lax.psum((local, hits), axis_name)
        model_state = jax.lax.pmean(model_state, axis_name)
    value, cotangents = jax.value_and_grad(loss.value)(sums)
    if axis_name is not None:
        cotangents = parallel.as_varying(cotangents, axis_name)
    (grads,) = pull_back(cotangents)
    if axis_name is not None:
        grads = jax.lax.psum(grads, axis_name)

    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    state = TrainState(state.step + 1, params, model_state, opt_state)
    norms = array_norms(grads) if log_grad_norms else None
    return state, Metrics(value, hits[0] / hits[1], optax.tree.norm(grads), norms)


def array_norms(tree: PyTree[Float[Array, "..."]]) -> dict[str, Float[Array, ""]]:
    """Returns the Euclidean norm of every array by its path.

    Example:
      >>> array_norms({"head": {"bias": jnp.array([3.0, 4.0])}})
      {'head/bias': Array(5., dtype=float32)}
    """
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): optax.tree.norm(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _check_maps(model: nn.Module, loss: Loss, batch: Batch) -> None:
    """Refuses a loss or a batch of another target than that of the model."""
    target = model.target if isinstance(model, UNet) else "classes"
    if loss.num_maps != num_maps(target):
        raise ValueError(
            f"loss must be that of the target {target!r} of the model; use "
            f"losses.build_loss(target={target!r})."
        )
    if loss.num_maps and "maps" not in batch:
        raise ValueError(
            f"batch must have the maps of the target {target!r}; add them as "
            "batch['maps'], from targets.encode."
        )


def _count_hits(
    logits: Float[Array, "B h w K"], label: Int[Array, "B h w"]
) -> Float[Array, "2"]:
    """Number of right pixels, and of annotated ones."""
    annotated = label >= 0
    right = annotated & (logits.argmax(axis=-1) == label)
    return jnp.stack([right.sum(), annotated.sum()]).astype(jnp.float32)


def items_of(step: int, batch_size: int, num_devices: int) -> Int[Array, "D B"]:
    """Returns the numbers of the items of a step, split over devices."""
    items = step * batch_size + jnp.arange(batch_size)
    return parallel.shard(items, num_devices)
