"""The network alone, on a batch that never changes: forward pass and training step."""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from unetjax.devices import memory
from unetjax.network.forward import forward
from unetjax.network.unet import UNet
from unetjax.training import config as configs
from unetjax.training import cost, optimizers, programs
from unetjax.training.config import ExperimentConfig
from unetjax.training.optimizers import OptimizerSettings
from unetjax.training.steps import TrainState, train_step

from . import contenders, machine, measuring, torch_memory
from .measuring import OURS, Case, Contender, Row
from .plan import Plan, Rule

# Small enough that no loss becomes NaN, which might change the time of a step.
_LEARNING_RATE = 1e-4
_OUR_PART = 0.4  # of the device's memory; PyTorch needs some of it as well


def forward_passes(plan: Plan, peaks: dict[str, float]) -> Iterator[list[Row]]:
    """Measures one forward pass over a batch, with logits left on the device."""
    for features, batch_size in itertools.product(plan.features, plan.batch_sizes):
        config = experiment(plan, features)
        batch_size = batch_size or largest_batch(our_forward, config)
        config = replace(config, batch_size=batch_size)
        case = Case(
            "forward",
            sizes(config),
            items=batch_size,
            flops=batch_size * cost.flops(config, channels=1)[0],
        )
        ours = [our_forward(_with_dtype(config, dtype)) for dtype in plan.precisions]
        peers = _peers(plan, config, optimizer="")
        yield measuring.measure(case, [*ours, *peers], plan.effort, peaks=peaks)


def training_steps(plan: Plan, peaks: dict[str, float]) -> Iterator[list[Row]]:
    """Measures one update: forward, weighted loss, backward, optimizer."""
    for features, batch_size, rule in itertools.product(
        plan.features, plan.batch_sizes, plan.optimizers
    ):
        config = experiment(plan, features, optimizer=rule)
        batch_size = batch_size or largest_batch(our_training, config)
        config = replace(config, batch_size=batch_size)
        case = Case(
            "train",
            f"{sizes(config)}, {rule}",
            items=batch_size,
            flops=batch_size * cost.flops(config, channels=1)[1],
        )
        ours = [our_training(_with_dtype(config, dtype)) for dtype in plan.precisions]
        peers = _peers(plan, config, optimizer=rule)
        yield measuring.measure(case, [*ours, *peers], plan.effort, peaks=peaks)


def experiment(
    plan: Plan,
    features: int,
    *,
    batch_size: int = 1,
    optimizer: Rule = "sgd",
    dtype: str = "float32",
) -> ExperimentConfig:
    """Returns an experiment with the sizes of a plan."""
    return ExperimentConfig(
        model=UNet(features=features, depth=plan.depth, dtype=dtype),
        tile_size=plan.tile_size,
        batch_size=batch_size,
        optimizer=OptimizerSettings(name=optimizer, learning_rate=_LEARNING_RATE),
    )


def largest_batch(
    build: Callable[[ExperimentConfig], Contender], config: ExperimentConfig
) -> int:
    """Returns how many tiles fit into part of the memory: a power of two, at least 1.

    It is extrapolated from the memory of one and of two tiles in float32, as memory
    grows by the same amount for each tile.

    Args:
      build: From an experiment to a contender that knows its memory.
      config: The experiment, of any batch size.

    Raises:
      ValueError: If the memory of the device cannot be determined.
    """
    budget = int(_OUR_PART * memory.limit())
    one, two = (build(replace(config, batch_size=n)).memory or 0 for n in (1, 2))
    each = max(two - one, 1)
    count = max((budget - (one - each)) // each, 1)
    return 2 ** (count.bit_length() - 1)


def synthetic_batch(config: ExperimentConfig) -> dict[str, np.ndarray]:
    """Returns a batch drawn from a fixed seed; the weights are between 1 and 10."""
    rng = np.random.default_rng(0)
    side = configs.output_size(config)
    shape = (config.batch_size, side, side)
    image = rng.standard_normal((config.batch_size, *[config.tile_size] * 2, 1))
    return {
        "image": image.astype(np.float32),
        "label": rng.integers(0, config.model.num_classes, shape, dtype=np.int32),
        "weight": rng.uniform(1, 10, shape).astype(np.float32),
    }


def initial_state(config: ExperimentConfig) -> TrainState:
    """Returns the state of a fixed seed, which depends on no dtype or batch size."""
    config = replace(_with_dtype(config, "float32"), batch_size=1)
    return programs.initial_state(config, jax.random.key(0), channels=1)


def our_forward(config: ExperimentConfig) -> Contender:
    """Returns the forward pass, compiled."""

    def logits(params: PyTree, image: jax.Array) -> jax.Array:
        return forward(config.model, params, {}, image)[0]

    params = initial_state(config).params
    image = jnp.asarray(synthetic_batch(config)["image"])
    dtype = str(config.model.dtype)
    return contenders.of_function(OURS, logits, params, image, precision=dtype)


def our_training(config: ExperimentConfig) -> Contender:
    """Returns the training step that runs use, compiled."""
    step = functools.partial(
        train_step,
        model=config.model,
        optimizer=optimizers.build_optimizer(config.optimizer, config.num_steps),
    )
    batch = jax.tree.map(jnp.asarray, synthetic_batch(config))
    return contenders.of_update(
        OURS,
        step,
        initial_state(config),
        batch,
        jax.random.key(1),
        precision=str(config.model.dtype),
    )


def sizes(config: ExperimentConfig) -> str:
    """Returns the size of a step in words."""
    return (
        f"base {config.model.features}, {config.tile_size} pixels, "
        f"batch {config.batch_size}"
    )


def _with_dtype(config: ExperimentConfig, dtype: str) -> ExperimentConfig:
    return replace(config, model=config.model.clone(dtype=dtype))


def _peers(
    plan: Plan, config: ExperimentConfig, *, optimizer: str
) -> Iterator[Contender]:
    """The same work in PyTorch, eager and compiled, each with its own network.

    Args:
      plan: Sizes.
      config: The experiment.
      optimizer: Rule of the training step; "" for a forward pass.
    """
    params, batch = initial_state(config).params, synthetic_batch(config)

    def make(peer: ModuleType, where: str, precision: str, compiled: bool) -> Contender:
        net = peer.from_flax(config.model, params, device=where)
        how = {"optimizer": optimizer, "precision": precision}
        run = peer.work(net, batch, compiled=compiled, **how)
        first = measuring.seconds(run)
        peak = None
        if plan.watch_memory and not compiled:
            peak = torch_memory.peak(
                batch,
                features=config.model.features,
                depth=plan.depth,
                where=where,
                num_threads=machine.num_threads(),
                **how,
            )
        return Contender(name, run, precision, first, peak)

    for compiled in (False, True) if plan.compiled else (False,):
        name = "PyTorch compiled" if compiled else "PyTorch"
        for precision in plan.precisions:
            build = functools.partial(make, precision=precision, compiled=compiled)
            yield contenders.of_torch(name, precision, build)
