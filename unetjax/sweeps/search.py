"""Hyperparameter search by Optuna, with pruning of trials below the median.

Workers share only the journal `search.journal` in the folder of the sweep. Any number
may join at any time; the trial of a worker that died is resumed by another one.
"""

import contextlib
import hashlib
import logging
import math
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from unetjax.files import folders
from unetjax.reporting import records
from unetjax.sweeps import results, trials, workers
from unetjax.sweeps.results import Outcome
from unetjax.sweeps.trials import Trial
from unetjax.sweeps.workers import PrunedError, Sweep, Watch
from unetjax.training import config as configs
from unetjax.training.config import ExperimentConfig

if TYPE_CHECKING:
    import optuna

_JOURNAL = "search.journal"
_FOLDER = "folder"  # attribute of a trial in the journal
_DIGITS = 3  # significant digits of numbers in folder names

_log = logging.getLogger(__name__)


class Range(NamedTuple):
    """Values of an option between two numbers, both included.

    Attributes:
      low: The smallest value.
      high: The largest value.
      log: Whether values are drawn uniformly on a logarithmic scale.
    """

    low: float
    high: float
    log: bool


Space = Mapping[str, Range | list[str]]  # by dotted name; a list is of choices


def parse_space(specs: Sequence[str]) -> Space:
    """Returns the search space of some specifications, one for each option.

    Args:
      specs: Such as "optimizer.learning_rate=1e-5..1e-2:log", "model.depth=2..4" or
        "optimizer.name=sgd,adam".

    Raises:
      ValueError: If one is neither a range nor a list of choices.

    Example:
      >>> parse_space(["optimizer.learning_rate=1e-5..1e-2:log"])
      {'optimizer.learning_rate': Range(low=1e-05, high=0.01, log=True)}
    """
    space = dict[str, Range | list[str]]()
    for spec in specs:
        name, _, values = spec.removeprefix("config.").partition("=")
        body, _, scale = values.partition(":")
        low, dots, high = body.partition("..")
        try:
            if dots:
                ends = Range(float(low), float(high), log=scale == "log")
                lowest = 0.0 if ends.log else -math.inf
                is_valid = scale in ("", "log") and lowest < ends.low <= ends.high
                space[name] = ends
            else:
                space[name] = values.split(",")
                is_valid = "" not in space[name]
        except ValueError:
            is_valid = False
        if not is_valid:
            raise ValueError(
                "--search must be of the form optimizer.learning_rate=1e-5..1e-2:log, "
                f"model.depth=2..4 or optimizer.name=sgd,adam, got {spec!r}."
            )
    return space


class Search(workers.TrialSource):
    """A source of trials that Optuna proposes, see `workers.TrialSource`.

    The best value of `best_metric` over the evaluations of a trial is maximised. A
    trial whose value is below the median of others at the same step is pruned.
    """

    def __init__(self, sweep: Sweep, space: Space, *, num_trials: int) -> None:
        """Opens or makes the study of a sweep.

        Args:
          sweep: The sweep.
          space: What is searched.
          num_trials: Number of trials over all workers and launches.

        Raises:
          ModuleNotFoundError: If Optuna is not installed.
          ValueError: If an option of the space is unknown, or a value illegal.
        """
        _check(sweep.base, space)
        self._optuna = _import_optuna()
        results.open_folder(sweep.folder, sweep.base)
        self._sweep, self._space, self._num_trials = sweep, space, num_trials
        self._study = open_study(sweep)
        self._proposed = dict[str, "optuna.Trial"]()  # by the name of the folder

    def claim_next(self, claims: contextlib.ExitStack) -> list[Trial]:
        """See `TrialSource`."""
        # One worker at a time counts the trials and asks for the next.
        lock = self._sweep.folder / ".claims" / "search"
        with folders.claim(lock, timeout=math.inf):
            self._requeue_dead_trials()
            counted = self._in_state("RUNNING", "COMPLETE", "PRUNED", "WAITING")
            if len(counted) >= self._num_trials and not self._in_state("WAITING"):
                return []
            return [self._ask(claims)]

    def has_ended(self) -> bool:
        """See `TrialSource`."""
        return not self._in_state("RUNNING")

    def watch(self, trial: Trial) -> Watch:
        """Returns what reports evaluations to the study, and prunes the trial."""
        proposed, reported = self._proposed[trial.name], set[int]()
        metric, last = trial.config.best_metric, trial.config.num_steps

        def report(step: int, value: float) -> None:
            # An update whose state was lost is repeated, with the same score.
            if math.isfinite(value) and step not in reported:
                proposed.report(value, step)
                reported.add(step)

        def watch(step: int, scores: Mapping[str, float]) -> None:
            report(step, scores[metric])
            if step < last and proposed.should_prune():
                raise PrunedError(f"below the median of earlier trials at step {step}.")

        for record in records.read(self._sweep.folder / trial.name / "records.jsonl"):
            if record.kind == "validation":  # from a worker that died
                report(record.step, float(record.values[metric]))
        return watch

    def finish(self, trial: Trial, outcome: Outcome) -> None:
        """Reports the outcome of a trial to the study."""
        proposed, states = self._proposed[trial.name], self._optuna.trial.TrialState
        if outcome.state == "finished" and trial.config.best_metric in outcome.scores:
            self._study.tell(proposed, results.score_of(outcome))
        else:
            self._study.tell(proposed, state=states.PRUNED)

    def _ask(self, claims: contextlib.ExitStack) -> Trial:
        """Returns the next trial that Optuna proposes, claimed."""
        proposed = self._study.ask()
        name, number = proposed.user_attrs.get(_FOLDER), self._num_folders()
        self._study.sampler = _sampler(self._optuna, self._sweep.base.seed, number)
        options = configs.to_dict(self._sweep.base)
        values = {
            name: _suggest(proposed, name, choices, trials.value_of(options, name))
            for name, choices in self._space.items()
        }
        config = configs.override(self._sweep.base, values)
        name = name or _folder_name(number, values)
        claims.enter_context(workers.claim(self._sweep, name))
        proposed.set_user_attr(_FOLDER, name)
        self._proposed[name] = proposed
        _log.info("training trial %s", name)
        return Trial(name, config)

    def _num_folders(self) -> int:
        """Returns how many trials were begun, those of dead workers counted once.

        Numbers of Optuna count every attempt, so that values drawn by them would depend
        on how often a worker died.
        """
        all_trials = self._study.get_trials(deepcopy=False)
        return len({trial.user_attrs.get(_FOLDER) for trial in all_trials} - {None})

    def _requeue_dead_trials(self) -> None:
        """Queues the trials of dead workers again, with their run folders.

        To be called while no other worker asks for a trial: one without a folder then
        belongs to a worker that died while asking.
        """
        failed = self._optuna.trial.TrialState.FAIL
        queued = {t.user_attrs.get(_FOLDER) for t in self._in_state("WAITING")}
        for trial in self._in_state("RUNNING"):
            name = trial.user_attrs.get(_FOLDER)
            if name is not None:
                try:
                    with workers.claim(self._sweep, name):
                        pass
                except folders.FolderInUseError:
                    continue
                if name not in queued:
                    self._study.enqueue_trial(trial.params, user_attrs={_FOLDER: name})
            self._study.tell(trial.number, state=failed)

    def _in_state(self, *names: str) -> "list[optuna.trial.FrozenTrial]":
        all_trials = self._study.get_trials(deepcopy=False)
        return [trial for trial in all_trials if trial.state.name in names]


def _check(base: ExperimentConfig, space: Space) -> None:
    """Checks that the ends of every range, and all choices, are legal values."""
    options = configs.to_dict(base)
    for name, values in space.items():
        configs.check_name(name)
        is_int = isinstance(trials.value_of(options, name), int)
        ends = values if isinstance(values, list) else [values.low, values.high]
        for value in ends:
            if is_int and isinstance(value, float) and value.is_integer():
                value = int(value)
            configs.override(base, {name: value})


def open_study(sweep: Sweep) -> "optuna.Study":
    """Opens the study of a search, or makes it; the folder of the sweep must exist."""
    optuna = _import_optuna()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path, journal = str(sweep.folder / _JOURNAL), optuna.storages.journal
    # Of Optuna's two locks, the one that opens a file also works on Windows.
    backend = journal.JournalFileBackend(path, journal.JournalFileOpenLock(path))
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name="search",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        load_if_exists=True,
    )


def _import_optuna() -> types.ModuleType:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'an adaptive search needs Optuna: pip install "unetjax[optuna]".'
        ) from error
    return optuna


def _sampler(
    optuna: types.ModuleType, seed: int, number: int
) -> "optuna.samplers.BaseSampler":
    """Returns a sampler with a seed of its own for each trial.

    Workers therefore never propose the same values, and a search by a single worker is
    reproducible, also where it dies and is started again.
    """
    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    return optuna.samplers.TPESampler(
        seed=int.from_bytes(digest[:4], "big"), multivariate=False
    )


def _suggest(
    proposed: "optuna.Trial", name: str, values: Range | list[str], current: object
) -> Any:  # noqa: ANN401
    if isinstance(values, list):
        return proposed.suggest_categorical(name, values)
    if isinstance(current, int):
        low, high = int(values.low), int(values.high)
        return proposed.suggest_int(name, low, high, log=values.log)
    return proposed.suggest_float(name, values.low, values.high, log=values.log)


def _folder_name(number: int, values: Mapping[str, Any]) -> str:
    """Returns a name that is unique, and sorts, by the trial's number."""
    rounded = {
        name: float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
        for name, value in values.items()
    }
    return f"{number:04d},{trials.trial_name(rounded)}"
