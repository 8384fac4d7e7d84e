"""Several runs in one compiled program: seeds and learning rates by vmap.

A small network leaves most of an accelerator idle, and compiling takes longer than
training. Runs that differ in seed and learning rate only are one program over stacked
states. Each leaves an ordinary run folder, which may go on alone.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from unetjax.data import splits
from unetjax.data.batch import Transform
from unetjax.data.device_dataset import DeviceDataset
from unetjax.data.splits import Split
from unetjax.devices import parallel, runtime
from unetjax.reporting import console, environment
from unetjax.training import (
    checkpoints,
    loop,
    optimizers,
    run_folder,
    run_log,
    steps,
    stopping,
)
from unetjax.training.checkpoints import Manager
from unetjax.training.config import ExperimentConfig
from unetjax.training.run_folder import Keys, Run
from unetjax.training.steps import Metrics, TrainState


class StepsDifferError(ValueError):
    """The runs are at different steps."""


def shared(config: ExperimentConfig) -> ExperimentConfig:
    """Returns what runs side by side must have in common: all but seed and rate."""
    return replace(
        config, seed=0, optimizer=replace(config.optimizer, learning_rate=0.0)
    )


def contents(split: Split) -> list[list[str]]:
    """Returns which images a split has: runs side by side must have the same."""
    return [[splits.content_hash(example) for example in part] for part in split]


def train_side_by_side(runs: Sequence[Run]) -> list[stopping.NotFiniteError | None]:
    """Trains runs to their last step in one program, each into its own folder.

    They are what `loop.train_and_evaluate` makes of them one by one, up to rounding: a
    stacked convolution may sum in another order. Runs of an interrupted call go on
    together. A run that diverges or stops for want of progress leaves the others alone.

    Args:
      runs: At least one, alike but for `seed` and `optimizer.learning_rate`, with one
        split; their `watch` is called as in a single run.

    Returns:
      For every run why it has no finite end, or None.

    Raises:
      StepsDifferError: If the runs are at steps further apart than one evaluation.
      Interrupted: On SIGINT or SIGTERM, after all states were saved.
      ValueError: If the runs are not alike.
    """
    config = runs[0].config
    if any(shared(run.config) != shared(config) for run in runs):
        raise ValueError(
            "runs side by side may differ in seed and optimizer.learning_rate only; "
            "run others one by one."
        )
    if any(run.transform is not runs[0].transform for run in runs):
        raise ValueError("runs side by side must have one transform.")
    others = [run.split for run in runs if run.split is not runs[0].split]
    if any(contents(split) != contents(runs[0].split) for split in others):
        raise ValueError(
            "runs side by side must learn from the same images; name the held-out "
            "ones, as the seed would draw others."
        )
    with contextlib.ExitStack() as stack:
        managers = [stack.enter_context(run_folder.open_run(run)) for run in runs]
        return _train(runs, managers)


def build_steps(
    config: ExperimentConfig, *, transform: Transform | None = None
) -> Callable[..., PyTree]:
    """Returns the step of several runs, over stacked states, keys and learning rates.

    It takes (states, items, data, keys, rates, *, axis_name); see `loop.build_step`.
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
            optimizer = optimizers.build_optimizer(
                config.optimizer, config.num_steps, peak=rate
            )
            advance = loop.build_step(config, optimizer, transform=transform)
            return advance(state, items, data, keys, axis_name=axis_name)

        return jax.vmap(one)(states, keys, rates)

    return step


def _train(
    runs: Sequence[Run], managers: Sequence[Manager]
) -> list[stopping.NotFiniteError | None]:
    config = runs[0].config
    if config.deterministic:
        runtime.check_deterministic(jax.default_backend())
    num_devices = parallel.usable_devices(config.batch_size)
    data = loop.load_data(runs[0])
    likes = [
        loop.initial_state(run.config, run.keys.init, channels=data.image.shape[-1])
        for run in runs
    ]
    states = _states_of_one_step(config, managers, likes)
    step = int(states[0].step)
    scores = [run_folder.resume_records(run, step) for run in runs]
    rates = jnp.array([run.config.optimizer.learning_rate for run in runs])
    stacked, data, stacked_keys, rates = parallel.replicate(
        (_stack(states), data, _stack([run.keys for run in runs]), rates), num_devices
    )
    advance = parallel.data_parallel(
        build_steps(config, transform=runs[0].transform), num_devices=num_devices
    )

    ends: list[stopping.NotFiniteError | None] = [None] * len(runs)

    def going() -> list[int]:
        return [
            i
            for i, run in enumerate(runs)
            if ends[i] is None and not loop.is_over(run, step, scores[i])
        ]

    def note(step: int, metrics: Metrics, taking_part: Sequence[int]) -> float:
        """Records a step of every run that took part, and returns the mean loss."""
        values, losses = jax.device_get(metrics), list[float]()
        for i in taking_part:
            try:
                losses.append(run_log.record(runs[i], step, _pick(values, i)))
            except stopping.NotFiniteError as error:
                ends[i] = ends[i] or error
        return sum(losses) / max(len(losses), 1)

    for i in going():
        environment.note_start(runs[i].workdir, seed=runs[i].config.seed, step=step)
    with (
        contextlib.ExitStack() as stack,
        stopping.first_signal() as signals,
        console.progress(
            f"{len(runs)} side by side", total=config.num_steps, done=step
        ) as bar,
    ):
        runs = [
            run._replace(writer=stack.enter_context(run_folder.open_writers(run, step)))
            for run in runs
        ]
        for run, state in zip(runs, states, strict=True):
            if step == 0:
                run_log.draw_untrained(run, state)
        pending = None
        while now := going():
            items = steps.items_of(step, config.batch_size, num_devices)
            stacked, metrics = advance(stacked, items, data, stacked_keys, rates)
            step += 1
            # The metrics of the step before, so that nothing waits for this one.
            if pending is not None:
                bar.advance(loss=note(*pending))
            pending = (step, metrics, now)
            if step % config.evaluate_every == 0 or step == config.num_steps:
                bar.advance(loss=note(*pending))
                pending = None
                for i in now:
                    if ends[i] is not None:
                        continue
                    try:
                        scores[i] = loop.evaluate_and_save(
                            runs[i], managers[i], _pick(stacked, i), scores[i]
                        )
                    except stopping.NotFiniteError as error:
                        ends[i] = error
            if signals:
                if pending is not None:  # else all was saved a moment ago
                    note(*pending)
                    for i in going():
                        _save_if_finite(managers[i], _pick(stacked, i), config)
                raise stopping.Interrupted(
                    signals[0],
                    f"stopped {len(runs)} runs at step {step} of {config.num_steps}; "
                    "the same command goes on from there.",
                )
    for manager in managers:
        if (last := manager.latest_step()) is not None:
            checkpoints.finish(manager, last)
    return ends


def _states_of_one_step(
    config: ExperimentConfig,
    managers: Sequence[Manager],
    likes: Sequence[TrainState],
) -> list[TrainState]:
    """The states at the latest step that all runs have, the first ones at step 0.

    A run that was saved when others were not yet is taken back, one evaluation at most.
    """
    latest = [manager.latest_step() or 0 for manager in managers]
    step = min(latest)
    if max(latest) - step > config.evaluate_every:
        raise StepsDifferError(
            f"runs side by side must be at one step, got {min(latest)} to "
            f"{max(latest)}."
        )
    if step and any(step not in manager.all_steps() for manager in managers):
        raise StepsDifferError(f"not all runs have a checkpoint of step {step}.")
    states = list(likes)
    if step:
        try:
            states = [
                checkpoints.restore(manager, step, like)
                for manager, like in zip(managers, likes, strict=True)
            ]
        except checkpoints.CorruptCheckpointError as error:
            raise StepsDifferError(str(error)) from error
    for manager in managers:
        for later in manager.all_steps():
            if later > step:
                manager.delete(later)
    return states


def _save_if_finite(
    manager: Manager, state: TrainState, config: ExperimentConfig
) -> None:
    """Saves a state without scores; one that is not finite is better computed again."""
    with contextlib.suppress(stopping.NotFiniteError):
        stopping.check_finite_params(state.params, int(state.step))
        checkpoints.save(manager, state, {config.best_metric: -1.0})


def _stack(trees: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _pick(tree: PyTree, index: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[index], tree)
