"""Trials of a sweep: configurations with names, from overrides, grids, seeds, folds."""

import hashlib
import itertools
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from unetjax.training import config as configs
from unetjax.training.config import ExperimentConfig, Overrides

_LONGEST = 120  # characters of a folder's name


class Trial(NamedTuple):
    """One run of a sweep.

    Attributes:
      name: Name of its folder, a function of the overrides alone.
      config: The experiment.
    """

    name: str
    config: ExperimentConfig


def expand(
    base: ExperimentConfig,
    *,
    listed: Iterable[Overrides] = (),
    grid: Iterable[tuple[str, Sequence[object]]] = (),
    seeds: int = 0,
    folds: int = 0,
) -> list[Trial]:
    """Returns the trials of a sweep: every combination of the varied options, once.

    Args:
      base: What the trials have in common.
      listed: Overrides of one trial each, as `sweep()` of a config file yields them.
      grid: Names of options with their values.
      seeds: Number of seeds, counted from that of `base`; 0 does not vary it.
      folds: Number of folds of a cross-validation; 0 for none.

    Raises:
      ValueError: If an option is unknown, varied twice, or has an illegal value.

    Example:
      >>> grid = [("optimizer.learning_rate", ["1e-4", "1e-3"])]
      >>> for trial in expand(ExperimentConfig(), grid=grid, seeds=2):
      ...     print(trial.name)
      optimizer.learning_rate=0.0001,seed=0
      optimizer.learning_rate=0.0001,seed=1
      optimizer.learning_rate=0.001,seed=0
      optimizer.learning_rate=0.001,seed=1
    """
    axes = [[dict(overrides) for overrides in listed]]
    axes += [[{name: value} for value in values] for name, values in grid]
    axes.append([{"seed": base.seed + i} for i in range(seeds)])
    axes.append([{"data.fold": f"{i + 1}/{folds}"} for i in range(folds)])
    axes = [axis for axis in axes if axis]
    _refuse_varied_twice(axes)
    trials = {}
    for parts in itertools.product(*axes):
        overrides = {name: value for part in parts for name, value in part.items()}
        trial = make_trial(base, overrides)
        trials[trial.name] = trial
    return list(trials.values())


def make_trial(base: ExperimentConfig, overrides: Overrides) -> Trial:
    """Returns the trial of some overrides, see `config.override`."""
    config = configs.override(base, overrides)
    options = configs.to_dict(config)
    return Trial(
        trial_name({name: value_of(options, name) for name in overrides}), config
    )


def value_of(options: Mapping[str, Any], name: str) -> object:
    """Returns the value of a dotted name in nested options."""
    for part in name.split("."):
        options = options[part]
    return options


def trial_name(values: Overrides) -> str:
    """Returns a folder name for values of options; distinct values have distinct names.

    Example:
      >>> trial_name({"seed": 1, "data.fold": "2/5", "model.norm": "batch"})
      'data.fold=2of5,model.norm=batch,seed=1'
    """
    text = ",".join(f"{name}={_quoted(name, values[name])}" for name in sorted(values))
    if len(text) <= _LONGEST:
        return text or "base"
    return f"{text[:_LONGEST]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def parse_grid(spec: str) -> tuple[str, list[str]]:
    """Returns option and values of, for example, "optimizer.learning_rate=1e-4,1e-3".

    Raises:
      ValueError: If the option or its values are missing.
    """
    name, _, values = spec.removeprefix("config.").partition("=")
    if not name or not values:
        raise ValueError(
            "--grid must be of the form optimizer.learning_rate=1e-4,1e-3, got "
            f"{spec!r}."
        )
    return name, values.split(",")


def as_text(value: object) -> str:
    """Returns a value as it is written on a command line."""
    return value if isinstance(value, str) else repr(value)


def _quoted(name: str, value: object) -> str:
    """Returns a value without characters that are not allowed in folder names."""
    text = as_text(value)
    if name == "data.fold":  # two numbers and a slash
        text = text.replace("/", "of")
    return urllib.parse.quote(text, safe="+ ")  # reversible, so names stay distinct


def _refuse_varied_twice(axes: Sequence[Sequence[Overrides]]) -> None:
    names = [name for axis in axes for name in set[str]().union(*axis)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"{', '.join(twice)} would be varied twice; vary each option in one place "
            "only: sweep() of the config file, --grid, --seeds or --folds."
        )
