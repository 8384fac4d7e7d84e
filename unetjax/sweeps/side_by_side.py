"""Training of several runs in one compiled program, by vmap over their states.

A small network leaves most of an accelerator idle. Runs that differ only in seed and
learning rate can share it: one program advances their stacked states. Each of them
leaves an ordinary run folder, from which it can also be resumed alone.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from unetjax.data.batch import Transform
from unetjax.data.device_dataset import DeviceDataset
from unetjax.devices import parallel
from unetjax.training import checkpoints, loop, programs, run_folder, stopping
from unetjax.training.checkpoints import Manager
from unetjax.training.config import ExperimentConfig
from unetjax.training.run_folder import Keys, Run
from unetjax.training.steps import Metrics, TrainState


class StepsDifferError(ValueError):
    """The runs are at different steps."""


def shared(config: ExperimentConfig) -> ExperimentConfig:
    """Returns the configuration with seed and learning rate at fixed values.

    Runs side by side must have it in common.
    """
    return replace(
        config, seed=0, optimizer=replace(config.optimizer, learning_rate=0.0)
    )


def train_side_by_side(runs: Sequence[Run]) -> list[stopping.NotFiniteError | None]:
    """Trains runs to their last step in one program, each into its own folder.

    The results are those of `loop.train_and_evaluate` for each run, up to rounding: a
    stacked convolution may sum in another order. An interrupted call is resumed by the
    same call. A run that diverges or stops early leaves the others alone.

    Args:
      runs: At least one, with equal images and configurations but for `seed` and
        `optimizer.learning_rate`; their `watch` is called as in a single run.

    Returns:
      For each run the error by which it diverged, or None.

    Raises:
      StepsDifferError: If the runs are at steps further apart than one evaluation.
      Interrupted: On SIGINT or SIGTERM, after the states were saved.
      ValueError: If the runs differ in anything else.
    """
    config = runs[0].config
    if any(shared(run.config) != shared(config) for run in runs):
        raise ValueError(
            "runs side by side may differ in seed and optimizer.learning_rate only; "
            "train others sequentially."
        )
    if any(run.transform is not runs[0].transform for run in runs):
        raise ValueError("runs side by side must have one transform.")
    if any(run.split is not runs[0].split for run in runs):
        raise ValueError("runs side by side must have one split, the same object.")
    with contextlib.ExitStack() as stack:
        managers = [stack.enter_context(run_folder.open_run(run)) for run in runs]
        return _train(runs, managers)


def build_steps(
    config: ExperimentConfig, *, transform: Transform | None = None
) -> Callable[..., PyTree]:
    """Returns the step of several runs, over stacked states, keys and learning rates.

    It takes (states, items, data, keys, rates, *, axis_name), see
    `programs.build_step`.
    """

    def step(
        states: TrainState,
        items: Int[Array, " B"],
        data: DeviceDataset,
        keys: Keys,
        rates: Float[Array, " R"],
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        def one(
            state: TrainState, keys: Keys, rate: Float[Array, ""]
        ) -> tuple[TrainState, Metrics]:
            advance = programs.build_step(config, rate=rate, transform=transform)
            return advance(state, items, data, keys, axis_name=axis_name)

        return jax.vmap(one)(states, keys, rates)

    return step


def _train(
    runs: Sequence[Run], managers: Sequence[Manager]
) -> list[stopping.NotFiniteError | None]:
    config = runs[0].config
    num_devices = parallel.usable_devices(config.batch_size)
    data = programs.load_data(runs[0])
    initial = [
        programs.initial_state(run.config, run.keys.init, channels=data.image.shape[-1])
        for run in runs
    ]
    states = _states_of_one_step(runs, managers, initial)
    rates = jnp.array([run.config.optimizer.learning_rate for run in runs])
    stacked, data, keys, rates = parallel.replicate(
        (_stack(states), data, _stack([run.keys for run in runs]), rates), num_devices
    )
    advance = programs.compile_step(
        build_steps,
        shared(config),
        transform=runs[0].transform,
        num_devices=num_devices,
    )
    return loop.drive(
        runs,
        managers,
        stacked,
        lambda states, items: advance(states, items, data, keys, rates),
        step=int(states[0].step),
        pick=_pick,
    )


def _states_of_one_step(
    runs: Sequence[Run],
    managers: Sequence[Manager],
    initial: Sequence[TrainState],
) -> list[TrainState]:
    """Returns the states at the latest step that all runs have saved, else the initial.

    A killed process may have saved some runs but not yet the others. Those that are
    ahead by one evaluation are set back to it; their later checkpoints are deleted.
    """
    latest = [manager.latest_step() or 0 for manager in managers]
    step = min(latest)
    if max(latest) - step > runs[0].config.evaluate_every:
        raise StepsDifferError(
            f"runs side by side must be at one step, got {min(latest)} to "
            f"{max(latest)}."
        )
    if step and any(step not in manager.all_steps() for manager in managers):
        raise StepsDifferError(f"not all runs have a checkpoint of step {step}.")
    try:
        saved = [
            checkpoints.restore(manager, step, like)
            if step in manager.all_steps()
            else None
            for manager, like in zip(managers, initial, strict=True)
        ]
    except checkpoints.CorruptCheckpointError as error:
        raise StepsDifferError(str(error)) from error
    for run, manager, like, each in zip(runs, managers, initial, saved, strict=True):
        for later in manager.all_steps():
            if later > step:
                manager.delete(later)
        run_folder.restore_records(run, each.origin if each else None, step)
        run_folder.restore_model(run, manager, like)
    return [
        programs.warm_start(run.config, like) if each is None else each.state
        for run, like, each in zip(runs, initial, saved, strict=True)
    ]


def _stack(trees: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _pick(tree: PyTree, index: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[index], tree)
