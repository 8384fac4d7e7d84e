"""The experiment as one typed value, checked before data or devices are touched."""

import dataclasses
import difflib
import inspect
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import flax.linen as nn
import numpy as np

from unetjax.augmentation.augment import AugmentationSettings
from unetjax.data.open_data import DataSettings
from unetjax.data.sampling import SamplingSettings
from unetjax.instances.components import instances_from_probs
from unetjax.instances.settings import InstanceSettings
from unetjax.losses import LossName, Reduction
from unetjax.network import input_scaling
from unetjax.network.input_scaling import Clip, Scaling
from unetjax.network.unet import UNet
from unetjax.reporting.writers import SinkName
from unetjax.training.optimizers import OptimizerSettings
from unetjax.weight_maps.settings import WeightMapSettings

T = TypeVar("T")

# Fields that may differ when a run goes on: they change no update made so far.
FREE_TO_CHANGE = frozenset(
    {
        "num_steps",
        "log_every",
        "evaluate_every",
        "patience",
        "sinks",
        "num_pictures",
        "histograms",
        "tune_instances",
    }
)


@dataclass(frozen=True)
class LossSettings:
    """Which number is minimised, see `losses.build_loss`."""

    name: LossName = "cross_entropy"
    reduction: Reduction = "weighted_mean"


@dataclass(frozen=True)
class ExperimentConfig:
    """Everything that decides a run, and nothing about the machine it runs on.

    Attributes:
      seed: Of all randomness.
      num_steps: Number of updates.
      batch_size: Tiles of an update, over all devices.
      tile_size: Side of the input tiles, in pixels.
      scaling: From stored grey values to network input.
      clip: Least and largest grey value, as stored, before that; None is no bound.
      log_every: Steps between two records.
      log_grad_norms: Whether records hold the norm of every array's gradient.
      evaluate_every: Steps between two evaluations, each with a checkpoint.
      patience: Evaluations in a row without a better `best_metric` after which the run
        is finished before its last step; 0 for no such limit.
      best_metric: The validation metric by which the best model is chosen.
      tune_instances: Whether, after the last step, the options of `instances` that suit
        the held-out images best are stored with the model, see `tuning`.
      deterministic: Whether a GPU shall repeat a run bit for bit, at some cost of
        speed, as a CPU always does.
      sinks: Where else to show records and pictures, see `reporting.sinks`.
      num_pictures: Held-out images drawn at every evaluation.
      histograms: Whether every evaluation shows the sinks what each part of the network
        makes of a tile of the first held-out image.
      model: The network.
      loss: What is minimised.
      optimizer: How.
      weight_map: Eq. (2).
      augmentation: Strengths of the random changes.
      sampling: Where tiles lie.
      data: Where the images are, and which of them are held out.
      instances: From probabilities to cells.
    """

    seed: int = 0
    num_steps: int = 10_000
    batch_size: int = 1
    tile_size: int = 572
    scaling: Scaling = "unit"
    clip: Clip = (None, None)
    log_every: int = 50
    log_grad_norms: bool = False
    evaluate_every: int = 500
    patience: int = 0
    best_metric: str = "mean_iou"
    tune_instances: bool = False
    deterministic: bool = False
    sinks: tuple[SinkName, ...] = ()
    num_pictures: int = 3
    histograms: bool = False
    model: UNet = UNet()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    weight_map: WeightMapSettings = WeightMapSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    sampling: SamplingSettings = SamplingSettings()
    data: DataSettings = DataSettings()
    instances: InstanceSettings = InstanceSettings()


def from_dict(options: Mapping[str, Any]) -> ExperimentConfig:
    """Returns the checked configuration of nested options; missing ones are defaults.

    Raises:
      ValueError: If an option is unknown, has a wrong type or an illegal value, or does
        not go together with another.
    """
    config = build(ExperimentConfig, options, where="config")
    check(config)
    return config


def to_dict(config: ExperimentConfig) -> dict[str, Any]:
    """Returns all options as nested dictionaries, which JSON can hold."""
    return {name: _plain(value) for name, value in vars(config).items()}


def check(config: ExperimentConfig) -> None:
    """Refuses options that do not go together.

    Raises:
      ValueError: FileNaming the option and what is accepted.
    """
    least = {
        "num_steps": 0,
        "batch_size": 1,
        "log_every": 1,
        "evaluate_every": 1,
        "patience": 0,
        "num_pictures": 0,
    }
    for name, smallest in least.items():
        if getattr(config, name) < smallest:
            raise ValueError(
                f"config.{name} must be at least {smallest}, got "
                f"{getattr(config, name)}."
            )
    for name in config.sinks:
        if name not in typing.get_args(SinkName):
            raise ValueError(
                f"config.sinks may name {', '.join(typing.get_args(SinkName))}, got "
                f"{name!r}; records.jsonl and records.csv are written without it."
            )
    try:
        input_scaling.check_clip(config.clip)
    except ValueError as error:
        raise ValueError(f"config.{error}") from None
    try:
        output_size(config)
    except ValueError as error:
        raise ValueError(f"config.tile_size: {error}") from None
    nothing = np.zeros((1, 1, config.model.num_classes))
    try:
        instances_from_probs(nothing, **vars(config.instances))
    except ValueError as error:
        raise ValueError(f"config.instances: {error}") from None


def output_size(config: ExperimentConfig) -> int:
    """Returns the side of the network's output for the tiles of the config."""
    return config.model.geometry.output_size(config.tile_size)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns "name: old value, now new value" for every option that differs."""
    before, after = dict(flatten(old)), dict(flatten(new))
    return [
        f"{name}: {json.dumps(before.get(name))}, now {json.dumps(after.get(name))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and name not in FREE_TO_CHANGE
    ]


def flatten(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every option of nested ones, under its name with dots, and its value."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def check_name(name: str, options: Mapping[str, Any]) -> None:
    """Refuses a dotted name that none of the nested options has.

    Raises:
      ValueError: FileNaming those that may be meant.

    Example:
      >>> check_name("optimizer.learning_rate", to_dict(ExperimentConfig()))
    """
    known = [known for known, _ in flatten(options)]
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=1)
    if not close:  # the section is wrong, or left out
        last = name.split(".")[-1]
        close = [k for k in known if k.split(".")[-1] == last] or known
    raise ValueError(
        f"config has no option {name!r}; did you mean {', '.join(close[:5])}?"
    )


def build(factory: type[T], section: Mapping[str, Any], *, where: str) -> T:
    """Makes a `factory` with one section of a config as its keyword arguments.

    The fields of the class are the schema: names, types and choices are read off its
    annotations, and sections within the section are built in the same way.

    Args:
      factory: A NamedTuple or linen Module.
      section: Field values by name.
      where: Name of the section, for the error message.

    Raises:
      ValueError: If a name in `section` is unknown, or a value is of a wrong type or
        refused by the class.

    Example:
      >>> build(LossSettings, {"name": "soft_dice"}, where="config.loss").name
      'soft_dice'
    """
    fields = _fields(factory)
    for name in section:
        if name not in fields:
            close = difflib.get_close_matches(name, fields, n=1)
            hint = close[0] if close else ", ".join(fields)
            raise ValueError(f"{where} has no option {name!r}; did you mean {hint}?")
    values = {
        name: _typed(fields[name], value, where=f"{where}.{name}")
        for name, value in section.items()
    }
    try:
        return factory(**values)
    except ValueError as error:
        raise ValueError(f"{where}.{error}") from None


def _fields(factory: type) -> dict[str, Any]:
    """The settable fields of a class with their annotations."""
    hints = typing.get_type_hints(factory)
    return {
        name: hints[name]
        for name in inspect.signature(factory).parameters
        if not (issubclass(factory, nn.Module) and name in ("parent", "name"))
    }


def _typed(hint: object, value: object, *, where: str) -> object:
    """The value as its field wants it."""
    if isinstance(value, Mapping) and inspect.isclass(hint):
        return build(hint, value, where=where)
    choices = [hint, *typing.get_args(hint)] if _is_union(hint) else [hint]
    if isinstance(value, list | tuple):
        if any(typing.get_origin(choice) is tuple for choice in choices):
            return tuple(value)
    elif any(_accepts(choice, value) for choice in choices):
        return float(value) if isinstance(value, int) and hint is float else value
    raise ValueError(f"{where} must be {_in_words(hint)}, got {value!r}.")


def _is_union(hint: object) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _accepts(hint: object, value: object) -> bool:
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if inspect.isclass(hint) else False


def _in_words(hint: object) -> str:
    if _is_union(hint):
        return " or ".join(_in_words(choice) for choice in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return "a list of numbers"
    kinds: dict[object, str] = {float: "a number", int: "a whole number"}
    kinds |= {bool: "True or False", str: "a text"}
    return kinds.get(hint, str(hint))


def _plain(value: object) -> object:
    if isinstance(value, nn.Module):
        return {name: _plain(getattr(value, name)) for name in _fields(type(value))}
    if dataclasses.is_dataclass(value):
        return {name: _plain(part) for name, part in vars(value).items()}
    return value
