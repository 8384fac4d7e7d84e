"""Workers of a sweep: any number of processes may share a folder of trials."""

import contextlib
import logging
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

_POLL = 1.0  # seconds between looks at the trials of other workers

_log = logging.getLogger(__name__)

Watch = Callable[[int, Mapping[str, float]], object]


class PrunedError(stopping.EndedEarlyError):
    """A trial was stopped because it scores worse than others at the same step."""


class Sweep(NamedTuple):
    """What the trials of a sweep have in common.

    Attributes:
      folder: Folder of the sweep; each trial has a run folder in it.
      base: The configuration that trials vary.
      command: Arguments of the command that trains `base`; overrides are appended.
      origin: Arguments of the command that started the sweep.
    """

    folder: pathlib.Path
    base: ExperimentConfig
    command: Sequence[str]
    origin: Sequence[str]


class TrialSource:
    """Where a worker gets its trials: a list of them, or a search."""

    def claim_next(self, claims: contextlib.ExitStack) -> list[Trial]:
        """Returns the trials to run next, claimed; several are trained side by side.

        Args:
          claims: Receives the claims and releases them when it is closed.

        Returns:
          The trials; none if all have ended or other workers hold the rest.
        """
        raise NotImplementedError

    def has_ended(self) -> bool:
        """Returns whether no trial is left, neither free nor held by a worker."""
        raise NotImplementedError

    def watch(self, trial: Trial) -> Watch | None:
        """Returns what to call after each evaluation of a claimed trial, if anything.

        See `loop.train_and_evaluate`. It may raise `PrunedError`.
        """
        return None

    def finish(self, trial: Trial, outcome: Outcome) -> None:
        """Receives the outcome of a claimed trial; by default, does nothing."""


class Listed(TrialSource):
    """A source of trials that are all known beforehand.

    Trials that have ended are skipped. Those of other workers are waited for: if one
    dies, the kernel releases its claim and the trial is free again.
    """

    def __init__(
        self, sweep: Sweep, listed: Sequence[Trial], *, at_once: int = 1
    ) -> None:
        """Makes a source.

        Args:
          sweep: The sweep.
          listed: Its trials.
          at_once: How many trials to train side by side in one compiled program, where
            they differ in seed and learning rate only; see `side_by_side`.
        """
        self._sweep, self._at_once = sweep, at_once
        self._num_trials, self._waiting = len(listed), list(listed)

    def claim_next(self, claims: contextlib.ExitStack) -> list[Trial]:
        """See `TrialSource`."""
        self._waiting = [t for t in self._waiting if not is_done(self._sweep, t)]
        for first in self._waiting:
            candidates = [first]
            if self._at_once > 1:
                candidates += _companions(first, self._waiting)
            group = _claim_some(self._sweep, candidates, self._at_once, claims)
            if group:
                _log.info(
                    "%d of %d trials have ended; training %s.",
                    self._num_trials - len(self._waiting),
                    self._num_trials,
                    " | ".join(trial.name for trial in group),
                )
                return group
        return []

    def has_ended(self) -> bool:
        """See `TrialSource`."""
        return not self._waiting


def run(sweep: Sweep, source: TrialSource) -> Table:
    """Runs trials until all of a source have ended, and returns their table.

    Args:
      sweep: What trials have in common.
      source: Where they come from.

    Raises:
      Exception: What ends a run apart from divergence, see `experiment.run`.
    """
    results.open_folder(sweep.folder, sweep.base)
    command = shlex.join(sweep.origin)
    while True:
        with contextlib.ExitStack() as claims:
            group = source.claim_next(claims)
            if group:
                _run_group(sweep, group, source)
                results.write(sweep.folder, sweep.base, command=command)
        if not group:
            if source.has_ended():
                return results.write(sweep.folder, sweep.base, command=command)
            time.sleep(_POLL)


@contextlib.contextmanager
def claim(sweep: Sweep, name: str) -> Iterator[None]:
    """Holds a trial, also between its training and its report.

    Raises:
      FolderInUseError: If another worker holds it.
    """
    with folders.claim(sweep.folder / ".claims" / name):
        yield


def is_done(sweep: Sweep, trial: Trial) -> bool:
    """Returns whether a trial has ended, and with this very configuration."""
    folder = sweep.folder / trial.name
    if not (folder / results.OUTCOME).exists():
        return False
    outcome = results.read_outcome(folder)
    is_ended = outcome.state != "unfinished"  # as it is where the file is damaged
    return is_ended and configs.from_dict(outcome.config) == trial.config


def _run_group(sweep: Sweep, group: Sequence[Trial], source: TrialSource) -> None:
    """Runs claimed trials to their end, and reports their outcomes to the source."""
    if len(group) > 1:
        _train_together(sweep, group)
    for trial in group:
        watch = source.watch(trial)
        # It may have ended: by diverging in the group, or with a worker that was killed
        # before it could report.
        if is_done(sweep, trial):
            outcome = results.read_outcome(sweep.folder / trial.name)
        else:
            outcome = _run_trial(sweep, trial, watch)
        source.finish(trial, outcome)


def _run_trial(sweep: Sweep, trial: Trial, watch: Watch | None) -> Outcome:
    """Runs one trial to its end, resuming it if need be, and returns its outcome."""
    try:
        experiment.run(
            trial.config,
            experiment.open_split(trial.config),
            sweep.folder / trial.name,
            title=_title(sweep, trial),
            command=_command(sweep, trial),
            watch=watch,
        )
    except stopping.NotFiniteError as error:
        return _end(sweep, trial, "diverged", str(error))
    except PrunedError as error:
        return _end(sweep, trial, "pruned", str(error))
    return _end(sweep, trial, "finished", "")


def _end(sweep: Sweep, trial: Trial, state: results.State, note: str) -> Outcome:
    """Writes and returns the outcome of a trial, from its best model so far."""
    workdir = sweep.folder / trial.name
    outcome = results.best_of(workdir, configs.to_dict(trial.config), state, note)
    results.write_outcome(workdir, outcome)
    return outcome


def _claim_some(
    sweep: Sweep, candidates: Sequence[Trial], most: int, claims: contextlib.ExitStack
) -> list[Trial]:
    """Claims at most so many of the trials that are free and have not ended."""
    claimed = []
    for trial in candidates:
        if len(claimed) == most:
            break
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(claim(sweep, trial.name))
            except folders.FolderInUseError:
                continue
            # Another worker may have finished it since it was listed.
            if not is_done(sweep, trial):
                claims.push(held.pop_all())
                claimed.append(trial)
    return claimed


def _companions(first: Trial, others: Sequence[Trial]) -> list[Trial]:
    """Returns the trials that can be trained in one program with the first."""
    shared = side_by_side.shared(first.config)
    return [
        trial
        for trial in others
        if trial != first and side_by_side.shared(trial.config) == shared
    ]


def _train_together(sweep: Sweep, group: Sequence[Trial]) -> None:
    """Trains trials side by side, unless they are at steps too far apart for that."""
    split = experiment.open_split(group[0].config)
    runs = [run_folder.make_run(t.config, split, sweep.folder / t.name) for t in group]
    try:
        errors = side_by_side.train_side_by_side(runs)
    except side_by_side.StepsDifferError as error:
        _log.info("%s Training them sequentially instead.", error)
        return
    for trial, error in zip(group, errors, strict=True):
        if error is not None:
            run_report.write_unfinished(
                sweep.folder / trial.name,
                trial.config,
                title=_title(sweep, trial),
                reason=str(error),
                command=_command(sweep, trial),
            )
            _end(sweep, trial, "diverged", str(error))


def _title(sweep: Sweep, trial: Trial) -> str:
    return f"{sweep.folder.name}: {trial.name}"


def _command(sweep: Sweep, trial: Trial) -> str:
    """Returns the command that trains the trial alone."""
    base, options = (
        dict(settings.flatten(configs.to_dict(config)))
        for config in (sweep.base, trial.config)
    )
    changed = [
        f"--config.{name}={trials.as_text(value)}"
        for name, value in options.items()
        if value != base.get(name)
    ]
    workdir = f"--workdir={sweep.folder / trial.name}"
    return shlex.join([*sweep.command, *changed, workdir])
