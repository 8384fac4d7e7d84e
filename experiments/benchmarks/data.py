"""Data and training together: what drawing, bending and weighting adds to a step."""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from experiments.benchmarks import measuring, network
from experiments.benchmarks.measuring import OURS, Case, Contender, Row
from experiments.benchmarks.plan import Plan
from unetjax.data import device_dataset, synthetic
from unetjax.network.unet import UNet
from unetjax.training import config as configs
from unetjax.training import programs, run_folder
from unetjax.training.config import ExperimentConfig
from unetjax.training.optimizers import OptimizerSettings

_FIXED = "unetjax, one fixed batch"
_FREE = 1.05  # a step with data takes at most so much longer: the data is no limit


def steps_with_data(plan: Plan, _: dict[str, float]) -> Iterator[list[Row]]:
    """Measures the step that a run takes beside one whose batch never changes."""
    sizes = [size for size in plan.batch_sizes if size]
    for features, batch_size, precision in itertools.product(
        plan.features, sizes, plan.data_precisions
    ):
        model = UNet(features=features, depth=plan.depth, dtype=precision)
        fixed = network.our_training(
            model, "sgd", plan.tile_size, batch_size, precision
        )
        case = Case(
            "data",
            f"{network.sizes(plan, features, batch_size)}, {precision}",
            items=batch_size,
        )
        contenders = [
            _drawn(model, plan, batch_size),
            fixed._replace(name=_FIXED),
        ]
        rows = measuring.measure(case, contenders, plan.effort)
        yield [rows[0]._replace(note=verdict(1 / _ratio(rows[1]))), rows[1]]


def verdict(ratio: float) -> str:
    """Returns what limits training, from the time with data over that without.

    Example:
      >>> verdict(1.02)
      'compute-bound: a step with data takes 1.02 times as long'
    """
    limit = "compute" if ratio <= _FREE else "input"
    return f"{limit}-bound: a step with data takes {ratio:.2f} times as long"


def _drawn(model: UNet, plan: Plan, batch_size: int) -> Contender:
    config = ExperimentConfig(
        model=model,
        tile_size=plan.tile_size,
        batch_size=batch_size,
        optimizer=OptimizerSettings(learning_rate=1e-4),
    )
    side = max(64, plan.map_size)
    examples = [
        synthetic.touching_cells(0, i, size=(side, side), num_cells=side**2 // 2500)
        for i in range(4)
    ]
    data = device_dataset.load(examples, configs.data_pipeline(config))
    keys = run_folder.make_keys(0)
    state = programs.initial_state(config, keys.init, channels=1)
    step = jax.jit(programs.build_step(config), donate_argnums=0)
    items = jnp.arange(batch_size)
    compiled, compile_seconds = network.compile_ahead(step, state, items, data, keys)

    def run(n: int) -> object:
        nonlocal state, items
        metrics = None
        for _ in range(n):
            state, metrics = compiled(state, items, data, keys)
            items = items + batch_size
        return jax.block_until_ready((state, metrics))

    return Contender(
        OURS,
        run,
        str(model.dtype),
        compile_seconds,
        memory=network.memory_of(compiled),
    )


def _ratio(row: Row) -> float:
    return row.ratio if row.ratio else float("nan")
