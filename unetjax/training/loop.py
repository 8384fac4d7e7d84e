"""The training loop: step, record, evaluate, save; for one run or several at once."""

import contextlib
import json
import logging
import math
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Array, Int, PyTree

from unetjax import signals
from unetjax.data import device_dataset
from unetjax.data.batch import Transform
from unetjax.data.device_dataset import DeviceDataset
from unetjax.data.splits import Split
from unetjax.devices import parallel, processes
from unetjax.evaluation import postprocessing_search, scoring
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import model_folder
from unetjax.reporting import console, environment
from unetjax.reporting.records import Record
from unetjax.training import (
    checkpoints,
    programs,
    run_folder,
    run_log,
    steps,
    stopping,
)
from unetjax.training import config as configs
from unetjax.training.checkpoints import Manager
from unetjax.training.config import ExperimentConfig
from unetjax.training.run_folder import Run
from unetjax.training.steps import Metrics, TrainState

Path = str | os.PathLike[str]
T = TypeVar("T")

_log = logging.getLogger(__name__)


def train_and_evaluate(
    config: ExperimentConfig,
    split: Split,
    workdir: Path,
    *,
    watch: Callable[[int, Mapping[str, float]], object] | None = None,
    transform: Transform | None = None,
) -> TrainedModel:
    """Trains to the last step, resuming where an earlier call was interrupted.

    The run folder receives `config.json`, `environment.json`, `records.jsonl`, the same
    as `records.csv`, `checkpoints/`, `pictures/` of some validation images (before the
    first update and at every evaluation), and the best model so far as `model/`, which
    is complete at any time. A run that has reached its last step, or has stopped early
    for lack of progress, is finished; calling this again then trains no further.

    Args:
      config: The experiment.
      split: Images to train on and to validate on.
      workdir: The run folder, new or of an earlier call with the same config.
      watch: Called with step and scores after every evaluation, once the state is
        saved; an exception from it ends the run.
      transform: A custom change to every drawn tile, see `data.batch.Transform`. It is
        not part of the config: pass the same one to resume a run.

    Returns:
      The best model by `config.best_metric` on the validation images.

    Raises:
      FileExistsError: If `workdir` holds other files, or another process uses it.
      ValueError: If `workdir` was made with another config, or a loss is not finite;
        the last checkpoint then precedes it.
      Interrupted: On SIGINT or SIGTERM, after the state was saved.
    """
    run = run_folder.make_run(config, split, workdir, watch=watch, transform=transform)
    with run_folder.open_run(run) as manager:
        _train(run, manager)
        folder = run.workdir / "model"
        if not config.tune_instances:
            return model_folder.load_model(folder)
        return postprocessing_search.store_best(
            folder, split.validation, best_metric=config.best_metric
        )


def _train(run: Run, manager: Manager) -> None:
    """Trains a single run from its latest checkpoint.

    Raises:
      NotFiniteError: If the run diverges.
    """
    config = run.config
    num_devices = parallel.usable_devices(config.batch_size)
    data = programs.load_data(run)
    first = programs.initial_state(config, run.keys.init, channels=data.image.shape[-1])
    state, data, keys = parallel.replicate((first, data, run.keys), num_devices)
    restored = run_folder.resume(run, manager, state)
    if restored is None and config.pretrained:
        first = programs.warm_start(config, first)
        restored = parallel.replicate(first, num_devices)
    state = state if restored is None else restored
    if processes.count() > 1:
        _share(config, data, state)
    advance = programs.compile_step(
        programs.build_step, config, transform=run.transform, num_devices=num_devices
    )
    (error,) = drive(
        [run],
        [manager],
        state,
        lambda state, items: advance(state, items, data, keys),
        step=int(state.step),
    )
    if error is not None:
        raise error


def follow() -> None:
    """Computes this process's part of a run that process 0 trains, to its end.

    Config, images and state come from there, see `devices.processes`; nothing is read
    from disk, and nothing is written.

    Raises:
      LeaderEndedError: If process 0 ends before the last step.
      LostProcessError: If it is gone.
    """
    if processes.await_order() == processes.END:
        return
    arrays = processes.share()
    options = json.loads(arrays.pop("config").tobytes())
    config = configs.from_dict(options)
    num_devices = parallel.usable_devices(config.batch_size)
    data = device_dataset.from_arrays(arrays)
    keys = run_folder.make_keys(config.seed)
    like = jax.eval_shape(
        lambda: programs.initial_state(config, keys.init, channels=data.image.shape[-1])
    )
    leaves = list(processes.share().values())
    state = jax.tree.unflatten(jax.tree.structure(like), leaves)
    step = int(state.step)
    state, data, keys = parallel.replicate((state, data, keys), num_devices)
    advance = programs.compile_step(
        programs.build_step, config, transform=None, num_devices=num_devices
    )
    with signals.first_signal() as received:
        while processes.await_order(interrupted=bool(received)) == processes.STEP:
            items = parallel.own_rows(
                steps.items_of(step, config.batch_size, num_devices)
            )
            state, metrics = advance(state, items, data, keys)
            jax.block_until_ready(metrics)
            step += 1


def _share(config: ExperimentConfig, data: DeviceDataset, state: TrainState) -> None:
    """Gives all other processes what `follow` needs."""
    processes.give_order(processes.STEP)
    options = json.dumps(configs.to_dict(config)).encode()
    arrays = device_dataset.to_arrays(data)
    processes.share({"config": np.frombuffer(options, np.uint8), **arrays})
    leaves = jax.tree.leaves(jax.device_get(state))
    processes.share({str(i): leaf for i, leaf in enumerate(leaves)})


@dataclass
class _Member:
    """A run in the loop, and how far it is.

    Attributes:
      run: The run.
      index: Its place among the runs of the loop.
      manager: Its checkpoints.
      scores: The best metric of every evaluation so far.
      saved_step: Step of the latest checkpoint with scores.
      error: Why the run diverged, if it did; nothing more is computed or written of it.
    """

    run: Run
    index: int
    manager: Manager
    scores: list[float]
    saved_step: int
    error: stopping.NotFiniteError | None = None

    def is_active(self, step: int) -> bool:
        """Whether the run takes part in the next update."""
        config = self.run.config
        is_over = step >= config.num_steps or stopping.no_progress(
            self.scores, config.patience
        )
        return self.error is None and not is_over

    @contextlib.contextmanager
    def open_writers(self, step: int) -> Iterator[None]:
        """Opens the metric writers, and closes those of a diverged run as failed."""
        with (
            contextlib.suppress(stopping.NotFiniteError),
            run_folder.open_writers(self.run, step) as writer,
        ):
            self.run = self.run._replace(writer=writer)
            yield
            if self.error is not None:
                raise self.error

    def start(self, state: TrainState) -> None:
        """Draws the untrained network, or evaluates it where no update follows."""
        if self.run.config.num_steps:
            run_log.draw_untrained(self.run, state)
        elif not self.scores:
            self.evaluate(state)

    def record(self, step: int, metrics: Metrics) -> float | None:
        """Writes the metrics of a step, and returns its loss."""
        return self._unless_diverged(run_log.write_metrics, self.run, step, metrics)

    def evaluate(self, state: TrainState) -> None:
        """Scores a state, and saves it with its scores."""
        scores = self._unless_diverged(
            evaluate_and_save, self.run, self.manager, state, self.scores
        )
        if scores is not None:
            self.scores, self.saved_step = scores, int(state.step)

    def save(self, state: TrainState) -> None:
        """Saves a state without scores."""
        self._unless_diverged(_save, self.run, self.manager, state)

    def _unless_diverged(self, action: Callable[..., T], *args: object) -> T | None:
        """Returns what an action returns; None if the run diverges or has done so."""
        if self.error is not None:
            return None
        try:
            return action(*args)
        except stopping.NotFiniteError as error:
            self.error = error
            return None


def drive(
    runs: Sequence[Run],
    managers: Sequence[Manager],
    state: PyTree,
    advance: Callable[[PyTree, Int[Array, "D B"]], tuple[PyTree, PyTree]],
    *,
    step: int,
    pick: Callable[[PyTree, int], PyTree] = lambda tree, index: tree,
) -> list[stopping.NotFiniteError | None]:
    """Trains one run, or several in one program, from a step to the last.

    A run that diverges or stops early leaves the others alone.

    Args:
      runs: The runs, alike in everything that the loop reads of a config.
      managers: The checkpoints of each run.
      state: State of all runs after `step` updates; donated.
      advance: From state and numbers of items to the next state and its metrics.
      step: Number of updates done so far.
      pick: From state or metrics of all runs to those of the run at an index.

    Returns:
      For each run the error by which it diverged, or None.

    Raises:
      Interrupted: On SIGINT or SIGTERM, after the states were saved.
      OSError: If the last checkpoint of a run did not reach the disk.
    """
    config = runs[0].config
    num_devices = parallel.usable_devices(config.batch_size)
    members = [
        _Member(run, index, manager, [*run_folder.scores(run).values()], step)
        for index, (run, manager) in enumerate(zip(runs, managers, strict=True))
    ]
    _log_start(members, step)
    title = "training" if len(runs) == 1 else f"training {len(runs)} runs"
    with (
        contextlib.ExitStack() as writers,
        signals.first_signal() as received,
        console.progress(title, total=config.num_steps, done=step) as bar,
    ):
        for member in members:
            writers.enter_context(member.open_writers(step))
            if step == 0:
                member.start(pick(state, member.index))

        def write(step: int, metrics: PyTree, members: Sequence[_Member]) -> None:
            metrics = jax.device_get(metrics)
            losses = [m.record(step, pick(metrics, m.index)) for m in members]
            finite = [loss for loss in losses if loss is not None]
            bar.advance(loss=sum(finite) / len(finite) if finite else math.nan)

        log = run_log.DelayedLog(write)
        while active := [member for member in members if member.is_active(step)]:
            if processes.give_order(processes.STEP):
                received.append(signal.SIGTERM)  # another process was told to end
            items = steps.items_of(step, config.batch_size, num_devices)
            state, metrics = advance(state, parallel.own_rows(items))
            if processes.count() > 1:  # collectives of a CPU may run out of order
                jax.block_until_ready(metrics)
            step += 1
            log.push(step, metrics, active)
            is_due = step % config.evaluate_every == 0 or step == config.num_steps
            if is_due:
                log.flush()
                for member in active:
                    member.evaluate(pick(state, member.index))
            if received:
                log.flush()
                if not is_due:
                    for member in active:
                        member.save(pick(state, member.index))
                if any(member.error is None for member in members):
                    which = "" if len(runs) == 1 else f" {len(runs)} runs"
                    raise stopping.Interrupted(
                        received[0],
                        f"stopped{which} at step {step} of {config.num_steps}; run the "
                        "same command again to resume.",
                    )
    for member in members:
        if member.error is None:
            checkpoints.finish(member.manager, member.saved_step)
    return [member.error for member in members]


def _log_start(members: Sequence[_Member], step: int) -> None:
    """Notes where runs start, and logs which of them resume and which are finished."""
    for member in members:
        run, last = member.run, member.run.config.num_steps
        if member.is_active(step):
            environment.note_start(run.workdir, seed=run.config.seed, step=step)
            if step:
                _log.info("%s resumes at step %d of %d.", run.workdir, step, last)
        elif step < last:
            _log.info(
                "%s is finished: it stopped early, at step %d of %d; a larger patience "
                "resumes it.",
                *(run.workdir, step, last),
            )
        elif member.scores:
            _log.info(
                "%s is finished, at step %d; a larger num_steps resumes it.",
                *(run.workdir, step),
            )


def evaluate_and_save(
    run: Run, manager: Manager, state: TrainState, earlier: list[float]
) -> list[float]:
    """Scores the validation images, keeps the best model, saves the state.

    Args:
      run: The run.
      manager: Its checkpoints.
      state: The state to score.
      earlier: The best metric of every evaluation so far.

    Returns:
      The best metric of every evaluation, this one being the last.

    Raises:
      NotFiniteError: If a parameter is not finite; nothing is saved then.
    """
    config, step = run.config, int(state.step)
    stopping.check_finite_params(state.params, step)
    trained = run_folder.as_trained_model(run, state)
    metric, predictions = scoring.evaluate(
        trained, run.split.validation, keep=config.num_pictures
    )
    scores = metric.compute()
    value = scores[config.best_metric]
    run.writer.write_record(Record(step, "validation", {**scores}))
    run_log.warn_of_collapse(run, step, metric, predictions)
    run_log.draw_predictions(run, step, predictions)
    if config.histograms:
        run_log.write_activations(run, state)
    best = max((x for x in earlier if math.isfinite(x)), default=-math.inf)
    # Of equal scores the later one counts: the first network is barely trained.
    if value >= best or not (run.workdir / "model").exists():
        trained = run_folder.as_trained_model(run, state, scores)
        model_folder.save_model(run.workdir / "model", trained)
    _save(run, manager, state)
    if run.watch is not None:
        run.watch(step, scores)
    return [*earlier, value]


def _save(run: Run, manager: Manager, state: TrainState) -> None:
    stopping.check_finite_params(state.params, int(state.step))
    checkpoints.save(
        manager, state, run_folder.origin(run), best_step=run_folder.best_step(run)
    )
