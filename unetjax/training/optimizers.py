"""Optimizers and learning-rate schedules, as Optax chains."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from unetjax.settings import check_fields, check_range

Schedule = Literal["constant", "cosine", "staircase"]
L2Scope = Literal["kernels", "blocks"]

_BLOCKS = ("encoder_", "bottleneck", "decoder_")


@dataclass(frozen=True)
class OptimizerSettings:
    """Optimizer and learning-rate schedule; the defaults are the paper's.

    Attributes:
      name: `sgd` with momentum (paper, Sec. 3), or `adam`.
      learning_rate: Peak learning rate. The paper does not state it. With momentum m
        the effective step of SGD is 1 / (1 - m) times as large.
      momentum: Of SGD: v = m v + g, p = p - lr v.
      nesterov: Whether SGD uses Nesterov momentum.
      beta1: Of Adam: decay rate of the running mean of gradients.
      beta2: Of Adam: decay rate of the running mean of squared gradients.
      schedule: `constant`; `cosine` decay to 0 at the last step; `staircase`,
        multiplied by `decay_rate` every `decay_steps`.
      warmup_steps: Steps of linear increase from 0 before the schedule.
      decay_rate: Of `staircase`: factor.
      decay_steps: Of `staircase`: interval, in steps.
      weight_decay: Factor r of an L2 penalty r / 2 |w|^2, which the reported loss does
        not include.
      l2_scope: Parameters in that penalty. `kernels`: all kernels, no biases. `blocks`:
        kernels and biases of the convolution blocks, but neither up-convolutions nor
        head (jakeret/tf_unet).
      clip_norm: Largest Euclidean norm of the whole gradient; 0 does not clip.
      bias_rate: Learning rate of the biases relative to that of the kernels; 2 in the
        authors' later software (Falk et al. 2019).
      average: Decay rate of a running mean of the parameters, which is evaluated and
        stored as the model instead of the latest ones; 0 for none. The mean of the
        first updates is shorter.
    """

    name: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 1e-3
    momentum: float = 0.99
    nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    decay_rate: float = 0.95
    decay_steps: int = 1000
    weight_decay: float = 0.0
    l2_scope: L2Scope = "kernels"
    clip_norm: float = 0.0
    bias_rate: float = 1.0
    average: float = 0.0

    def __post_init__(self) -> None:
        """Validates all fields."""
        check_fields(self)
        for name in ("momentum", "beta1", "beta2", "average"):
            check_range(name, getattr(self, name), at_least=0, below=1)
        for name in (
            *("learning_rate", "warmup_steps", "weight_decay"),
            *("clip_norm", "bias_rate"),
        ):
            check_range(name, getattr(self, name), at_least=0)
        check_range("decay_rate", self.decay_rate, above=0)
        check_range("decay_steps", self.decay_steps, at_least=1)


def learning_rate(
    settings: OptimizerSettings,
    num_steps: int,
    *,
    peak: float | Float[Array, ""] | None = None,
) -> optax.Schedule:
    """Returns the learning rate as a function of the number of completed updates.

    Args:
      settings: The schedule.
      num_steps: Number of updates.
      peak: Instead of `settings.learning_rate`; may be traced.
    """
    peak = settings.learning_rate if peak is None else peak
    warmup = settings.warmup_steps
    schedules = {
        "constant": optax.constant_schedule(peak),
        "cosine": optax.cosine_decay_schedule(peak, max(num_steps - warmup, 1)),
        "staircase": optax.exponential_decay(
            peak, settings.decay_steps, settings.decay_rate, staircase=True
        ),
    }
    schedule = schedules[settings.schedule]
    if not warmup:
        return schedule
    return optax.join_schedules(
        [optax.linear_schedule(0.0, peak, warmup), schedule], [warmup]
    )


def build_optimizer(
    settings: OptimizerSettings,
    num_steps: int,
    *,
    peak: Float[Array, ""] | None = None,
) -> optax.GradientTransformation:
    """Returns the chain: L2 penalty, clipping, optimizer, bias rate, running mean.

    Args:
      settings: Optimizer and schedule.
      num_steps: Number of updates.
      peak: Instead of `settings.learning_rate`; may be traced.
    """
    rate = learning_rate(settings, num_steps, peak=peak)
    if settings.name == "sgd":
        rule = optax.sgd(rate, settings.momentum or None, nesterov=settings.nesterov)
    else:
        rule = optax.adam(rate, settings.beta1, settings.beta2)
    chain = list[optax.GradientTransformation]()
    if settings.weight_decay:
        scope = kernels if settings.l2_scope == "kernels" else block_params
        chain.append(optax.add_decayed_weights(settings.weight_decay, mask=scope))
    if settings.clip_norm:
        chain.append(optax.clip_by_global_norm(settings.clip_norm))
    chain.append(rule)
    if settings.bias_rate != 1:
        chain.append(optax.masked(optax.scale(settings.bias_rate), biases))
    if settings.average:
        chain.append(_average(settings.average))  # last: it needs the final updates
    return optax.chain(*chain)


class AverageState(NamedTuple):
    """Running mean of the parameters, a part of the state of the optimizer.

    Attributes:
      count: Number of completed updates.
      params: The mean.
    """

    count: Int[Array, ""]
    params: PyTree[Float[Array, "..."]]


def averaged_params(
    opt_state: optax.OptState, params: PyTree[Float[Array, "..."]]
) -> PyTree[Float[Array, "..."]]:
    """Returns the running mean of the parameters; `params` if none is kept."""
    nodes = jax.tree.leaves(
        opt_state, is_leaf=lambda node: isinstance(node, AverageState)
    )
    averages = [node for node in nodes if isinstance(node, AverageState)]
    return averages[0].params if averages else params


def _average(decay: float) -> optax.GradientTransformation:
    """Leaves the updates as they are, and averages the parameters after them."""

    def init(params: PyTree) -> AverageState:
        return AverageState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params))

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None
    ) -> tuple[PyTree, AverageState]:
        if params is None:
            raise ValueError("the running mean needs params; pass those of the model.")
        # The mean over about a tenth of the updates so far, until `decay` is reached:
        # the initial parameters, which are random, must not stay in it for long.
        rate = jnp.minimum(decay, (1 + state.count) / (10 + state.count))
        latest = optax.apply_updates(params, updates)
        mean = optax.tree.update_moment(latest, state.params, rate, 1)
        return updates, AverageState(state.count + 1, mean)

    return optax.GradientTransformation(init, update)


def kernels(params: PyTree) -> PyTree[bool]:
    """Returns which parameters are kernels, not biases or scales of norms."""
    return jax.tree.map(lambda x: x.ndim == 4, params)


def biases(params: PyTree) -> PyTree[bool]:
    """Returns which parameters are biases."""
    return jax.tree.map_with_path(lambda path, _: _names(path)[-1] == "bias", params)


def block_params(params: PyTree) -> PyTree[bool]:
    """Returns which parameters belong to convolution blocks."""
    return jax.tree.map_with_path(
        lambda path, _: _names(path)[0].startswith(_BLOCKS), params
    )


def _names(path: tuple[jax.tree_util.DictKey, ...]) -> list[str]:
    return jax.tree_util.keystr(path, simple=True, separator="/").split("/")
