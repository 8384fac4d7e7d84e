"""Training with data: what drawing and weighting tiles and other targets cost."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from unetjax.data import device_dataset, synthetic
from unetjax.targets.target import MAPS, TargetName
from unetjax.training import config as configs
from unetjax.training import programs, run_folder
from unetjax.training.config import ExperimentConfig
from unetjax.weight_maps.settings import WeightMapSettings

from . import contenders, measuring, network
from .measuring import OURS, Case, Contender, Row
from .plan import Plan

_MOST = 1.05  # times the step without data, up to which training is compute-bound


def steps_with_data(plan: Plan, _: dict[str, float]) -> Iterator[list[Row]]:
    """Measures the step that a run takes, and one whose batch never changes."""
    batch_sizes = [size for size in plan.batch_sizes if size]
    for features, batch_size, dtype in itertools.product(
        plan.features, batch_sizes, plan.data_precisions
    ):
        config = network.experiment(plan, features, batch_size=batch_size, dtype=dtype)
        case = Case("data", f"{network.sizes(config)}, {dtype}", items=batch_size)
        fixed = network.our_training(config)._replace(name="unetjax, one fixed batch")
        drawn = _drawn(config, side=max(64, plan.map_size))
        ours, theirs = measuring.measure(case, [drawn, fixed], plan.effort)
        yield [ours._replace(note=verdict(1 / (theirs.ratio or math.nan))), theirs]


def steps_with_targets(plan: Plan, _: dict[str, float]) -> Iterator[list[Row]]:
    """Measures the step that a run takes, on Eq. (2) and on each other target."""
    for features in plan.features:
        classes = network.experiment(plan, features)
        case = Case("targets", f"{network.sizes(classes)}, float32", items=1)
        side = max(64, plan.map_size)
        others = [
            _drawn(_of_cells(classes, target), side=side)._replace(name=target)
            for target in MAPS
            if target != "classes"
        ]
        yield measuring.measure(
            case, [_drawn(classes, side=side), *others], plan.effort
        )


def verdict(ratio: float) -> str:
    """Returns what limits training, from the time with data over that without.

    Example:
      >>> verdict(1.02)
      'compute-bound: a step with data takes 1.02 times as long'
    """
    limit = "compute" if ratio <= _MOST else "input"
    return f"{limit}-bound: a step with data takes {ratio:.2f} times as long"


def _of_cells(config: ExperimentConfig, target: TargetName) -> ExperimentConfig:
    """The experiment with a target that needs no weights."""
    return replace(
        config,
        model=replace(config.model, target=target),
        weight_map=WeightMapSettings(w0=0.0, separation_border="none"),
    )


def _drawn(config: ExperimentConfig, *, side: int) -> Contender:
    """The step of a run, each on the next items of a data set of square images."""
    examples = [
        synthetic.touching_cells(0, i, size=(side, side), num_cells=side**2 // 2500)
        for i in range(4)
    ]
    data = device_dataset.load(examples, configs.data_pipeline(config))
    step = programs.build_step(config)

    def update(
        carry: tuple[PyTree, jax.Array], *arguments: PyTree
    ) -> tuple[PyTree, PyTree]:
        state, items = carry
        state, metrics = step(state, items, *arguments)
        return (state, items + config.batch_size), metrics

    carry = network.initial_state(config), jnp.arange(config.batch_size)
    keys = run_folder.make_keys(0)
    dtype = str(config.model.dtype)
    return contenders.of_update(OURS, update, carry, data, keys, precision=dtype)
