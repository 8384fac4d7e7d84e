"""Adaptive search by Optuna: trials chosen by earlier ones, hopeless ones given up.

The journal `search.journal` in the folder of the sweep is all that workers share. Any
number may join at any time, and the trial of one that died is taken over, with what its
run folder holds.
"""

import contextlib
import hashlib
import math
import time
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from unetjax.files import folders
from unetjax.reporting import records
from unetjax.reporting.report import Table
from unetjax.sweeps import results, trials, workers
from unetjax.sweeps.trials import Trial
from unetjax.sweeps.workers import Pruned, Sweep
from unetjax.training import config as configs
from unetjax.training.config import ExperimentConfig

if TYPE_CHECKING:
    import optuna

_POLL = 1.0  # seconds between looks at trials of other workers
_JOURNAL = "search.journal"
_FOLDER = "folder"  # the trial's attribute in the journal
_DIGITS = 3  # of numbers in folder names


class Range(NamedTuple):
    """Values of an option between two numbers, both included.

    Attributes:
      low: The least.
      high: The largest.
      log: Whether equal factors are equally likely, instead of equal differences.
    """

    low: float
    high: float
    log: bool


Space = Mapping[str, Range | list[str]]  # by dotted name; a list is of choices


def parse_space(words: Sequence[str]) -> Space:
    """Returns the search space of words, one an option.

    Args:
      words: Such as "optimizer.learning_rate=1e-5..1e-2:log", "model.depth=2..4" or
        "optimizer.name=sgd,adam".

    Raises:
      ValueError: If one is neither a range nor a list of choices.

    Example:
      >>> parse_space(["optimizer.learning_rate=1e-5..1e-2:log"])
      {'optimizer.learning_rate': Range(low=1e-05, high=0.01, log=True)}
    """
    space = dict[str, Range | list[str]]()
    for word in words:
        name, _, values = word.partition("=")
        body, _, scale = values.partition(":")
        low, dots, high = body.partition("..")
        try:
            if not dots:
                space[name] = _choices(values)
                continue
            space[name] = Range(float(low), float(high), scale == "log")
            lowest = 0.0 if scale == "log" else -math.inf
            if scale not in ("", "log") or not lowest < float(low) <= float(high):
                raise ValueError
        except ValueError:
            raise ValueError(
                "--search must be such as optimizer.learning_rate=1e-5..1e-2:log, "
                f"model.depth=2..4 or optimizer.name=sgd,adam, got {word!r}."
            ) from None
    return space


def run(sweep: Sweep, space: Space, *, num_trials: int) -> Table:
    """Searches until so many trials have ended, and returns their table.

    The best value of `best_metric` over the evaluations of a trial is maximised. A
    trial whose value is below the median of others at the same step is given up.

    Args:
      sweep: Where, and what trials have in common.
      space: What is searched.
      num_trials: Number of trials over all workers and launches.

    Raises:
      ModuleNotFoundError: If Optuna is not installed.
      ValueError: If an option of the space is unknown, or a value illegal.
    """
    _check(sweep.base, space)
    optuna = _import_optuna()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    results.open_folder(sweep.folder, sweep.base)
    study = _open_study(optuna, sweep)
    while True:
        with contextlib.ExitStack() as held:
            with folders.claim(sweep.folder / ".claims" / "search", timeout=math.inf):
                _free_dead_trials(optuna, study, sweep)
                found = _ask(optuna, study, sweep, space, num_trials, held)
            if found is not None:
                _run_trial(optuna, study, sweep, *found)
        if found is None:
            if not _in_state(study, optuna.trial.TrialState.RUNNING):
                return workers.write_results(sweep)
            time.sleep(_POLL)


def _check(base: ExperimentConfig, space: Space) -> None:
    """Refuses a space whose ends are no legal configurations."""
    options = configs.to_dict(base)
    for name, values in space.items():
        configs.check_name(name)
        is_int = isinstance(trials.value_of(options, name), int)
        ends = values if isinstance(values, list) else [values.low, values.high]
        for value in ends:
            if is_int and isinstance(value, float) and value.is_integer():
                value = int(value)
            trials.override(base, {name: value})


def _import_optuna() -> types.ModuleType:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'an adaptive search needs Optuna: pip install "unetjax[optuna]".'
        ) from error
    return optuna


def _open_study(optuna: types.ModuleType, sweep: Sweep) -> "optuna.Study":
    path = str(sweep.folder / _JOURNAL)
    journal = optuna.storages.journal
    # The lock by opening a file works on every system, links on Windows do not.
    backend = journal.JournalFileBackend(path, journal.JournalFileOpenLock(path))
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name="search",
        direction="maximize",
        sampler=_sampler(optuna, sweep, 0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        load_if_exists=True,
    )


def _sampler(
    optuna: types.ModuleType, sweep: Sweep, number: int
) -> "optuna.samplers.BaseSampler":
    """A sampler with a seed of its own for every trial.

    So no two workers propose the same, and a search by one worker can be repeated.
    """
    digest = hashlib.sha256(f"{sweep.base.seed} {number}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    return optuna.samplers.TPESampler(seed=seed, multivariate=False)


def _free_dead_trials(
    optuna: types.ModuleType, study: "optuna.Study", sweep: Sweep
) -> None:
    """Puts trials whose worker has died back in the queue, with their run folders.

    To be called while no other worker asks for a trial: one without a folder then is of
    a worker that died while asking.
    """
    state = optuna.trial.TrialState
    queued = {t.user_attrs.get(_FOLDER) for t in _in_state(study, state.WAITING)}
    for trial in _in_state(study, state.RUNNING):
        name = trial.user_attrs.get(_FOLDER)
        if name is not None:
            try:
                with workers.claim(sweep, name):
                    pass
            except folders.FolderInUseError:
                continue
            if name not in queued:
                study.enqueue_trial(trial.params, user_attrs={_FOLDER: name})
        study.tell(trial.number, state=state.FAIL)


def _ask(
    optuna: types.ModuleType,
    study: "optuna.Study",
    sweep: Sweep,
    space: Space,
    num_trials: int,
    held: contextlib.ExitStack,
) -> "tuple[optuna.Trial, Trial] | None":
    """The next trial, claimed; None if there are enough."""
    state = optuna.trial.TrialState
    counted = [t for t in study.get_trials(deepcopy=False) if t.state != state.FAIL]
    if len(counted) >= num_trials and not _in_state(study, state.WAITING):
        return None
    proposed = study.ask()
    study.sampler = _sampler(optuna, sweep, proposed.number)
    options = configs.to_dict(sweep.base)
    values = {
        name: _suggest(proposed, name, space[name], trials.value_of(options, name))
        for name in space
    }
    config = trials.override(sweep.base, values)
    name = proposed.user_attrs.get(_FOLDER) or _folder_name(proposed.number, values)
    held.enter_context(workers.claim(sweep, name))
    proposed.set_user_attr(_FOLDER, name)
    return proposed, Trial(name, config)


def _suggest(
    proposed: "optuna.Trial", name: str, values: Range | list[str], current: object
) -> Any:  # noqa: ANN401
    if isinstance(values, list):
        return proposed.suggest_categorical(name, values)
    if isinstance(current, int):
        low, high = int(values.low), int(values.high)
        return proposed.suggest_int(name, low, high, log=values.log)
    return proposed.suggest_float(name, values.low, values.high, log=values.log)


def _run_trial(
    optuna: types.ModuleType,
    study: "optuna.Study",
    sweep: Sweep,
    proposed: "optuna.Trial",
    trial: Trial,
) -> None:
    """Runs a trial to its end, telling the study every evaluation."""
    metric, last = trial.config.best_metric, trial.config.num_steps
    print(f"trial {proposed.number}: {trial.name}")

    reported = set[int]()

    def report(step: int, value: float) -> None:
        # A step whose state was lost is computed again, with the same score.
        if math.isfinite(value) and step not in reported:
            proposed.report(value, step)
            reported.add(step)

    def watch(step: int, scores: Mapping[str, float]) -> None:
        report(step, scores[metric])
        if step < last and proposed.should_prune():
            raise Pruned(f"below the median of earlier trials at step {step}.")

    for record in records.read(sweep.folder / trial.name / "records.jsonl"):
        if record.kind == "validation":  # of a worker that died
            report(record.step, float(record.values[metric]))
    if workers.is_done(sweep, trial):
        outcome = results.read_outcome(sweep.folder / trial.name)
    else:
        outcome = workers.run_trial(sweep, trial, watch=watch)
    if outcome.state == "finished" and metric in outcome.scores:
        study.tell(proposed, results.score_of(outcome))
    else:
        study.tell(proposed, state=optuna.trial.TrialState.PRUNED)
    workers.write_results(sweep)


def _in_state(study: "optuna.Study", state: object) -> "list[optuna.trial.FrozenTrial]":
    return [t for t in study.get_trials(deepcopy=False) if t.state == state]


def _folder_name(number: int, values: Mapping[str, Any]) -> str:
    """A name that sorts by the trial's number, which makes it the only one."""
    rounded = {
        name: float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
        for name, value in values.items()
    }
    return f"{number:04d},{trials.trial_name(rounded)}"


def _choices(values: str) -> list[str]:
    choices = values.split(",")
    if "" in choices:
        raise ValueError
    return choices
