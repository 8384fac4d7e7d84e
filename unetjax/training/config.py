"""The configuration of an experiment: `ExperimentConfig`, built and compared."""

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unetjax import settings
from unetjax.augmentation.augment import AugmentationSettings
from unetjax.data.batch import Transform
from unetjax.data.device_dataset import DataPipeline
from unetjax.data.open_data import DataSettings
from unetjax.data.sampling import SamplingSettings
from unetjax.devices.settings import DeviceSettings
from unetjax.files import json_files
from unetjax.instances.settings import InstanceSettings
from unetjax.losses import LossName, Reduction
from unetjax.metrics import cells
from unetjax.network import initializers
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet
from unetjax.reporting.writers import WriterName
from unetjax.targets.target import MAPS, num_logits
from unetjax.training.optimizers import OptimizerSettings
from unetjax.weight_maps.settings import WeightMapSettings

Overrides = Mapping[str, Any]  # values by the dotted name of their option

_TRUTHS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
# Options that may differ when a run is resumed: they change no update made so far.
FREE_TO_CHANGE = frozenset(
    {
        "num_steps",
        "log_every",
        "evaluate_every",
        "patience",
        "writers",
        "num_pictures",
        "histograms",
        "data.keep_split",
        "tune_instances",
        "devices.partition",
    }
)


@dataclass(frozen=True)
class LossSettings:
    """Which loss is minimised, see `losses.build_loss`."""

    name: LossName = "cross_entropy"
    reduction: Reduction = "weighted_mean"

    def __post_init__(self) -> None:
        """Validates all fields."""
        settings.check_fields(self)


@dataclass(frozen=True)
class ExperimentConfig:
    """All options of an experiment; none of them depends on the machine.

    Every section validates itself. Rules across sections are checked here.

    Attributes:
      seed: Seed of parameters, tiles, augmentation and dropout, in [0, 2^32).
      num_steps: Number of updates.
      batch_size: Number of tiles in an update, over all devices.
      tile_size: Side of the input tiles, in pixels.
      log_every: Steps between two records.
      log_grad_norms: Whether records hold the gradient norm of every parameter array.
      evaluate_every: Steps between two evaluations, each with a checkpoint.
      patience: Number of consecutive evaluations without a better `best_metric` after
        which training stops early; 0 never stops early.
      best_metric: Validation metric that chooses the best model.
      tune_instances: Whether, after the last step, the settings in `instances` that
        score best on the validation images are stored with the model; see
        `evaluation.postprocessing_search`.
      deterministic: Whether runs on a GPU repeat bit for bit, as they always do on a
        CPU, at some cost of speed.
      writers: Metric writers besides the run folder, see `reporting.writers`.
      num_pictures: Number of validation images drawn at every evaluation.
      histograms: Whether every evaluation sends histograms of all activations, for a
        tile of the first validation image, to the metric writers.
      pretrained: Folder of a trained model whose parameters are the initial ones, see
        `network.transfer`; "" for random ones.
      input_scaling: From stored grey values to network input.
      model: The network.
      loss: The loss.
      optimizer: Optimizer and learning-rate schedule.
      weight_map: Weight map, Eq. (2).
      augmentation: Strengths of the random transformations.
      sampling: Where tiles are centred.
      data: Where the images are, and how they are split.
      instances: Post-processing from probabilities to instances.
      devices: How a step is spread over devices.

    Raises:
      ValueError: On construction, for a value that is not accepted.
    """

    seed: int = 0
    num_steps: int = 10_000
    batch_size: int = 1
    tile_size: int = 572
    log_every: int = 50
    log_grad_norms: bool = False
    evaluate_every: int = 500
    patience: int = 0
    best_metric: str = "mean_iou"
    tune_instances: bool = False
    deterministic: bool = False
    writers: tuple[WriterName, ...] = ()
    num_pictures: int = 3
    histograms: bool = False
    pretrained: str = ""
    input_scaling: InputScaling = InputScaling()
    model: UNet = UNet()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    weight_map: WeightMapSettings = WeightMapSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    sampling: SamplingSettings = SamplingSettings()
    data: DataSettings = DataSettings()
    instances: InstanceSettings = InstanceSettings()
    devices: DeviceSettings = DeviceSettings()

    def __post_init__(self) -> None:
        """Validates all fields, and the rules across sections."""
        settings.check_fields(self)
        settings.check_range("seed", self.seed, at_least=0, below=2**32)
        for name in ("num_steps", "patience", "num_pictures"):
            settings.check_range(name, getattr(self, name), at_least=0)
        for name in ("batch_size", "log_every", "evaluate_every"):
            settings.check_range(name, getattr(self, name), at_least=1)
        num_classes = self.model.num_classes
        metrics = cells.metric_names(num_classes)
        if self.best_metric not in metrics:
            raise ValueError(
                f"best_metric must be one of {', '.join(metrics)}, got "
                f"{self.best_metric!r}."
            )
        try:
            output_size(self)
        except ValueError as error:
            raise ValueError(
                f"tile_size{str(error).removeprefix('input_size')}"
            ) from None
        if self.instances.seeds == "maps" and self.model.target == "classes":
            raise ValueError(
                "instances.seeds 'maps' needs a network that learns maps, got "
                "model.target 'classes'; set one of "
                f"{', '.join(name for name in MAPS if MAPS[name])}."
            )
        balance = self.weight_map.class_balance
        expected = num_logits(num_classes, self.model.target)
        if not isinstance(balance, str) and len(balance) != expected:
            raise ValueError(
                "weight_map.class_balance must have one weight for each of the "
                f"{expected} classes, got {len(balance)}."
            )


# Options of earlier versions, as the files of old run folders still have them.
RENAMED = {
    "sinks": "writers",
    "scaling": "input_scaling.method",
    "clip": "input_scaling.clip",
    "data.holdout": "data.validation_fraction",
    "weight_map.ridge": "weight_map.separation_border",
}
RENAMED_VALUES = {
    "model.kernel_init": initializers.RENAMED,
    "optimizer.l2_scope": {"tf_unet": "blocks"},
}


def from_dict(options: Mapping[str, Any]) -> ExperimentConfig:
    """Returns the configuration of nested options; missing ones have their defaults.

    Raises:
      ValueError: If an option is unknown or its value is not accepted.
    """
    for name, _ in settings.flatten(options):
        _refuse_renamed(name)
    return settings.build(ExperimentConfig, options, where="config")


def from_saved(options: Mapping[str, Any], *, where: str) -> ExperimentConfig:
    """Returns the configuration of a file that an earlier version may have written.

    Args:
      options: The nested options in the file.
      where: Path of the file, for messages.

    Raises:
      CorruptFilesError: If the file does not hold options.
      ValueError: If an option or its value is not accepted any more.
    """
    try:
        return from_dict(_with_new_names(options))
    except ValueError as error:
        raise ValueError(
            f"{where} was written by another version of unetjax: {error}"
        ) from None
    except (AttributeError, TypeError, RecursionError):  # other JSON than options
        raise json_files.CorruptFilesError(
            f"{where} is damaged: it does not hold options."
        ) from None


def _with_new_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of an earlier version under the names of this one."""
    flat = settings.flatten(options)
    values = {RENAMED.get(name, name): value for name, value in flat}
    for name, renamed in RENAMED_VALUES.items():
        if values.get(name) in renamed:
            values[name] = renamed[values[name]]
    named = ("data.validation", "data.validation_images")
    if "data.seed" not in values and not any(values.get(name) for name in named):
        values["data.seed"] = values.get("seed", 0)  # which drew the split as well
    return settings.unflatten(values)


def override(base: ExperimentConfig, overrides: Overrides) -> ExperimentConfig:
    """Returns a configuration with some options changed.

    Args:
      base: The configuration.
      overrides: Values by dotted name; a string such as "1e-4" is parsed where the
        option is not a string.

    Raises:
      ValueError: If an option is unknown, or has an illegal value.
    """
    options = dict(settings.flatten(to_dict(base)))
    for name, value in overrides.items():
        check_name(name)
        if isinstance(value, str):
            value = _parsed(value, like=options[name])
        options[name] = value
    return from_dict(settings.unflatten(options))


def check_name(name: str) -> None:
    """Refuses the dotted name of an option that does not exist.

    Raises:
      ValueError: If there is no such option; the message suggests the nearest.

    Example:
      >>> check_name("optimizer.learning_rate")
    """
    _refuse_renamed(name)
    known = [known for known, _ in settings.flatten(to_dict(ExperimentConfig()))]
    if name not in known:
        hint = settings.suggest(name, known, others=_neighbours(name, known))
        raise ValueError(f"config has no option {name!r}; {hint}")


def _neighbours(name: str, known: Sequence[str]) -> list[str]:
    """The options of the named section, or else those and the sections at the top."""
    section = f"{name.partition('.')[0]}."
    inside = [option for option in known if option.startswith(section)]
    return inside or list(dict.fromkeys(option.partition(".")[0] for option in known))


def _refuse_renamed(name: str) -> None:
    if name in RENAMED:
        raise ValueError(f"config.{name} is now called config.{RENAMED[name]}.")


def to_dict(config: ExperimentConfig) -> dict[str, Any]:
    """Returns all options as nested dictionaries, fit for JSON."""
    return settings.to_dict(config)


def output_size(config: ExperimentConfig) -> int:
    """Returns the side of the network's output for the tiles of the config."""
    return config.model.geometry.output_size(config.tile_size)


def data_pipeline(
    config: ExperimentConfig, *, transform: Transform | None = None
) -> DataPipeline:
    """Returns how training batches are made of images.

    Args:
      config: The experiment.
      transform: A custom augmentation of every tile, see `data.batch.Transform`.
    """
    return DataPipeline(
        tile_size=config.tile_size,
        output_size=output_size(config),
        num_classes=config.model.num_classes,
        target=config.model.target,
        input_scaling=config.input_scaling,
        weight_map=config.weight_map,
        augmentation=config.augmentation,
        sampling=config.sampling,
        transform=transform,
    )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns "name: old value, now new value" for every option that differs.

    Options that a resumed run may change are left out.
    """
    before, after = dict(settings.flatten(old)), dict(settings.flatten(new))
    return [
        f"{name}: {json.dumps(before.get(name))}, now {json.dumps(after.get(name))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and name not in FREE_TO_CHANGE
    ]


def digest(config: ExperimentConfig) -> str:
    """Returns a hash of the options that a resumed run may not change."""
    flat = settings.flatten(to_dict(config))
    return json_files.digest({k: x for k, x in flat if k not in FREE_TO_CHANGE})


def _parsed(text: str, *, like: object) -> object:
    """Returns the value of an option as text, given its present value."""
    if isinstance(like, str):
        return text
    if isinstance(like, bool) and text.lower() in _TRUTHS:
        return _TRUTHS[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text  # the config refuses its type and names the option
    is_list_of_one = like == () and isinstance(value, str)
    return (value,) if is_list_of_one else value
