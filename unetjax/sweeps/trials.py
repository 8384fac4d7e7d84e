"""The trials of a sweep: from what is varied to named configurations."""

import ast
import hashlib
import itertools
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from unetjax import settings
from unetjax.training import config as configs
from unetjax.training.config import ExperimentConfig

Overrides = Mapping[str, Any]  # values by the dotted name of their option

_LONGEST = 120  # characters of a folder's name


class Trial(NamedTuple):
    """One run of a sweep.

    Attributes:
      name: Of its folder; a function of the overrides alone.
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
    """Returns the trials of a sweep, every combination of what is varied once.

    Args:
      base: What the trials have in common.
      listed: Overrides of one run each, such as a config file's `sweep()` yields.
      grid: Names of options with their values.
      seeds: Number of seeds, from that of `base` on; 0 leaves it alone.
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
    """Returns the trial of some overrides; a text is read as its option's type."""
    config = override(base, overrides)
    options = configs.to_dict(config)
    return Trial(
        trial_name({name: value_of(options, name) for name in overrides}), config
    )


def override(base: ExperimentConfig, overrides: Overrides) -> ExperimentConfig:
    """Returns the configuration with some options changed.

    Args:
      base: The configuration.
      overrides: Values by dotted name; a text such as "1e-4" is read as a number where
        the option is one.

    Raises:
      ValueError: If an option is unknown, or has an illegal value.
    """
    options = dict(settings.flatten(configs.to_dict(base)))
    for name, value in overrides.items():
        configs.check_name(name)
        is_text = isinstance(options[name], str)
        options[name] = (
            _literal(value) if isinstance(value, str) and not is_text else value
        )
    return configs.from_dict(settings.unflatten(options))


def value_of(options: Mapping[str, Any], name: str) -> object:
    """Returns the value of a dotted name in nested options."""
    for part in name.split("."):
        options = options[part]
    return options


def trial_name(values: Overrides) -> str:
    """Returns a folder name for values of options, another one for other values.

    Example:
      >>> trial_name({"seed": 1, "data.fold": "2/5", "model.norm": "batch"})
      'data.fold=2of5,model.norm=batch,seed=1'
    """
    text = ",".join(f"{name}={_word(name, values[name])}" for name in sorted(values))
    if len(text) <= _LONGEST:
        return text or "base"
    return f"{text[:_LONGEST]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def parse_grid(words: str) -> tuple[str, list[str]]:
    """Returns option and values of words such as "optimizer.learning_rate=1e-4,1e-3".

    Raises:
      ValueError: If there is no option or no value.
    """
    name, _, values = words.partition("=")
    if not name or not values:
        raise ValueError(
            f"--grid must be such as optimizer.learning_rate=1e-4,1e-3, got {words!r}."
        )
    return name, values.split(",")


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # whose type the config refuses, naming the option


def words_of(value: object) -> str:
    """Returns a value as a launcher reads it."""
    return value if isinstance(value, str) else repr(value)


def _word(name: str, value: object) -> str:
    """A value without characters that folder names must not have."""
    text = words_of(value)
    if name == "data.fold":  # numbers and one slash
        text = text.replace("/", "of")
    return urllib.parse.quote(text, safe="+ ")  # one to one


def _refuse_varied_twice(axes: Sequence[Sequence[Overrides]]) -> None:
    names = [name for axis in axes for name in {n: 0 for part in axis for n in part}]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"{', '.join(twice)} would be varied twice; name every option in one "
            "place: the file's sweep(), a grid, the seeds or the folds."
        )
