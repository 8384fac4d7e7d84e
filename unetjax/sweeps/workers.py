"""One worker of a sweep; any number of them may share a folder, and any may die."""

import contextlib
import pathlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from unetjax import settings
from unetjax.files import folders
from unetjax.reporting.report import Table
from unetjax.sweeps import results, side_by_side, trials
from unetjax.sweeps.results import Outcome
from unetjax.sweeps.trials import Trial
from unetjax.training import config as configs
from unetjax.training import experiment, run_folder, run_report, stopping
from unetjax.training.config import ExperimentConfig

_POLL = 1.0  # seconds between looks at trials of other workers

Watch = Callable[[int, Mapping[str, float]], object]


class Pruned(stopping.EndedEarlyError):
    """A trial was given up, as it is worse than others at the same step."""


class Sweep(NamedTuple):
    """What the trials of a sweep have in common.

    Attributes:
      folder: Where every trial has a folder of its own.
      base: The configuration that trials vary.
      command: Words that train `base`, to which overrides are added.
      origin: Words that started the sweep.
    """

    folder: pathlib.Path
    base: ExperimentConfig
    command: Sequence[str]
    origin: Sequence[str]


def run_all(sweep: Sweep, listed: Sequence[Trial], *, at_once: int = 1) -> Table:
    """Runs trials until all have ended, and returns their table.

    Trials that have ended are skipped, broken ones go on, and those that another worker
    holds are waited for: if it dies, its trials are taken over.

    Args:
      sweep: Where, and what trials have in common.
      listed: The trials.
      at_once: How many trials to train side by side in one compiled program, where
        they differ in seed and learning rate only; see `side_by_side`.

    Raises:
      Exception: What ends a run beside divergence, see `experiment.run`.
    """
    results.open_folder(sweep.folder, sweep.base)
    while waiting := [t for t in listed if not is_done(sweep, t)]:
        has_run = False
        for first in waiting:
            group = [first, *_companions(first, waiting)] if at_once > 1 else []
            with contextlib.ExitStack() as stack:
                mine = _claim_some(sweep, group or [first], at_once, stack)
                if mine:
                    has_run = True
                    count = sum(is_done(sweep, t) for t in listed)
                    names = " | ".join(trial.name for trial in mine)
                    print(f"{count} of {len(listed)} trials ended; now {names}")
                    run_group(sweep, mine)
        if not has_run:
            time.sleep(_POLL)
    return write_results(sweep)


def run_group(sweep: Sweep, group: Sequence[Trial]) -> None:
    """Runs trials that this worker has claimed, and writes what came of them."""
    if len(group) > 1:
        _train_together(sweep, group)
    for trial in group:
        if not is_done(sweep, trial):  # those that diverged in the group have ended
            run_trial(sweep, trial)
    write_results(sweep)


def run_trial(sweep: Sweep, trial: Trial, *, watch: Watch | None = None) -> Outcome:
    """Runs one trial, from where it is to its end, and returns what came of it.

    Args:
      sweep: Where, and what trials have in common.
      trial: Which.
      watch: See `loop.train_and_evaluate`; may raise `Pruned`.
    """
    workdir, state, note = sweep.folder / trial.name, "finished", ""
    try:
        experiment.run(
            trial.config,
            experiment.open_split(trial.config),
            workdir,
            title=_title(sweep, trial),
            command=_command(sweep, trial),
            watch=watch,
        )
    except stopping.NotFiniteError as error:
        state, note = "diverged", str(error)
    except Pruned as error:
        state, note = "pruned", str(error)
    outcome = results.best_of(workdir, configs.to_dict(trial.config), state, note)
    results.write_outcome(workdir, outcome)
    return outcome


@contextlib.contextmanager
def claim(sweep: Sweep, name: str) -> Iterator[None]:
    """Holds a trial, also between its training and its report.

    Raises:
      FolderInUseError: If another worker holds it.
    """
    with folders.claim(sweep.folder / ".claims" / name):
        yield


def is_done(sweep: Sweep, trial: Trial) -> bool:
    """Returns whether a trial has ended, in whatever way."""
    return results.is_done(sweep.folder / trial.name, trial.config)


def write_results(sweep: Sweep) -> Table:
    """Writes the results of all trials so far, and returns their table."""
    return results.write(
        sweep.folder,
        sweep.base,
        title=sweep.folder.name,
        command=shlex.join(sweep.origin),
    )


def _claim_some(
    sweep: Sweep, wanted: Sequence[Trial], most: int, stack: contextlib.ExitStack
) -> list[Trial]:
    """Claims up to so many trials that nobody holds and that have not ended."""
    mine = []
    for trial in wanted:
        if len(mine) == most:
            break
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(claim(sweep, trial.name))
            except folders.FolderInUseError:
                continue
            if not is_done(sweep, trial):
                stack.push(held.pop_all())
                mine.append(trial)
    return mine


def _companions(first: Trial, others: Sequence[Trial]) -> list[Trial]:
    """Returns the trials that can be trained in one program with the first."""
    shared = side_by_side.shared(first.config)
    return [
        trial
        for trial in others
        if trial != first and side_by_side.shared(trial.config) == shared
    ]


def _train_together(sweep: Sweep, group: Sequence[Trial]) -> None:
    """Trains trials side by side; where they are too far apart, that is left undone."""
    split = experiment.open_split(group[0].config)
    runs = [run_folder.make_run(t.config, split, sweep.folder / t.name) for t in group]
    try:
        ends = side_by_side.train_side_by_side(runs)
    except side_by_side.StepsDifferError as error:
        print(f"{error} They go on one by one.")
        return
    for trial, end in zip(group, ends, strict=True):
        if end is not None:
            options, workdir = configs.to_dict(trial.config), sweep.folder / trial.name
            run_report.write_unfinished(
                workdir,
                trial.config,
                title=_title(sweep, trial),
                reason=str(end),
                command=_command(sweep, trial),
            )
            outcome = results.best_of(workdir, options, "diverged", str(end))
            results.write_outcome(workdir, outcome)


def _title(sweep: Sweep, trial: Trial) -> str:
    return f"{sweep.folder.name}: {trial.name}"


def _command(sweep: Sweep, trial: Trial) -> str:
    """What trains the trial alone."""
    base, options = (
        dict(settings.flatten(configs.to_dict(config)))
        for config in (sweep.base, trial.config)
    )
    changed = [
        f"--config.{name}={trials.words_of(value)}"
        for name, value in options.items()
        if value != base.get(name)
    ]
    workdir = f"--workdir={sweep.folder / trial.name}"
    return shlex.join([*sweep.command, *changed, workdir])
