"""The folder of a run: its lock, config, images, records, and what damage leaves."""

import contextlib
import math
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from unetjax import settings
from unetjax.data import identity
from unetjax.data.batch import Transform
from unetjax.data.examples import Example
from unetjax.data.splits import Split
from unetjax.devices import runtime
from unetjax.evaluation import scoring
from unetjax.files import folders, json_files
from unetjax.inference import image_statistics
from unetjax.inference.image_statistics import ImageStatistics
from unetjax.inference.magnification import TOLERATED, object_diameter
from unetjax.inference.trained_model import Provenance, TrainedModel
from unetjax.model_io import model_folder
from unetjax.network.input_scaling import InputScaling
from unetjax.reporting import records, writers
from unetjax.reporting.metric_writer import MetricWriter
from unetjax.training import checkpoints, optimizers
from unetjax.training import config as configs
from unetjax.training.checkpoints import Manager, Origin
from unetjax.training.config import ExperimentConfig
from unetjax.training.steps import TrainState

Path = str | os.PathLike[str]

CONFIG, DATA, RECORDS = "config.json", "data.json", "records.jsonl"
DAMAGED = "damaged"  # subfolder for what was damaged and had to make room
_MOST_MEASURED = 100  # training images whose grey values are described in the model


class Keys(NamedTuple):
    """The random keys of a run, one for each use."""

    init: PRNGKeyArray
    data: PRNGKeyArray
    dropout: PRNGKeyArray


def make_keys(seed: int) -> Keys:
    """Returns the random keys of all runs with this seed."""
    return Keys(*jax.random.split(jax.random.key(seed), 3))


class Run(NamedTuple):
    """Everything about a run except its state.

    Attributes:
      config: The experiment.
      workdir: The run folder.
      split: Images to train on and to validate on.
      watch: Called with step and scores after every evaluation, the state being saved.
      keys: The random keys.
      writer: Receives records, pictures and histograms.
      images: Names and hashes of the images, see `data.identity.describe`.
      object_diameter: Median diameter of the objects of the training images, in pixels.
      statistics: Grey values and pixel size of the training images.
      transform: A change of every drawn tile, see `data.batch.Transform`.
    """

    config: ExperimentConfig
    workdir: pathlib.Path
    split: Split
    watch: Callable[[int, Mapping[str, float]], object] | None
    keys: Keys
    images: identity.Images
    object_diameter: float | None
    statistics: ImageStatistics
    writer: MetricWriter = MetricWriter()
    transform: Transform | None = None


def make_run(
    config: ExperimentConfig,
    split: Split,
    workdir: Path,
    *,
    watch: Callable[[int, Mapping[str, float]], object] | None = None,
    transform: Transform | None = None,
) -> Run:
    """Returns a run with its random keys; the arguments are `train_and_evaluate`'s.

    Raises:
      ValueError: If the run is to be deterministic, and the device is not set up so.
    """
    if config.deterministic:
        runtime.check_deterministic(jax.default_backend())
    # All pixels are read for these two, so once and not at every evaluation.
    images = identity.describe(split)
    diameter = object_diameter(*(example.instances for example in split.train))
    return Run(
        config,
        pathlib.Path(workdir),
        split,
        watch,
        make_keys(config.seed),
        images,
        diameter,
        _measure_images(split.train, config.input_scaling),
        transform=transform,
    )


def _measure_images(
    examples: Sequence[Example], scaling: InputScaling
) -> ImageStatistics:
    """Returns the statistics of training images, of many of them of an even selection.

    Their pixel size is known if that of all is, and nearly the same.
    """
    chosen = examples[:: -(-len(examples) // _MOST_MEASURED)]
    sides = [np.sqrt(np.prod(x.pixel_size)) for x in examples if x.pixel_size]
    alike = len(sides) == len(examples) and max(sides) <= TOLERATED * min(sides)
    return image_statistics.measure(
        (example.image for example in chosen),
        scaling,
        pixel_size=float(np.median(sides)) if alike else None,
    )


@contextlib.contextmanager
def open_run(run: Run) -> Iterator[Manager]:
    """Locks the folder of a run, checks its config and images, opens its checkpoints.

    What a killed process left half-written is removed.

    Raises:
      FileExistsError: If the folder holds other files, or another process uses it.
      ValueError: If it was made with another config, or with other images.
    """
    check_folder(run.workdir)
    with folders.claim(run.workdir):
        for folder in (run.workdir, run.workdir / "pictures"):
            folders.remove_temporaries(folder)
        path = run.workdir / "checkpoints"
        if not path.exists():  # without these files the folder would not be a run's
            _agree(run, None)
        with checkpoints.open_checkpoints(path) as manager:
            _agree(run, checkpoints.latest_origin(manager))
            yield manager


def _agree(run: Run, origin: Origin | None) -> None:
    """Checks config and images of a run against its folder, and writes them there."""
    _agree_on_data(run, origin)  # first, as planned configs depend on the images
    agree_on_config(
        run.workdir / CONFIG,
        run.config,
        holder="a run",
        original=origin.config if origin else None,
    )


def agree_on_config(
    path: pathlib.Path,
    config: ExperimentConfig,
    *,
    holder: str,
    original: str | None = None,
) -> None:
    """Writes the config into a folder, after comparing it with the one found there.

    Args:
      path: The file, in that folder. Where it is damaged, `original` decides.
      config: The experiment.
      holder: What the folder holds, such as "a run".
      original: Digest of the config of the folder, if another file has it.

    Raises:
      ValueError: If the file has another config, options that may change apart, or is
        damaged and the config is not the original one.
    """
    options = configs.to_dict(config)

    def compare(found: Any) -> str:  # noqa: ANN401
        old = configs.from_saved(found, where=str(path))
        changed = configs.differences(configs.to_dict(old), options)
        if not changed:
            return ""
        return (
            f"{path.parent} holds {holder} with another config ({'; '.join(changed)}); "
            "use that config to resume it, or another folder."
        )

    _agree_on_file(
        path,
        options,
        compare,
        is_original=None if original is None else configs.digest(config) == original,
        otherwise="the config of this command is not that of the checkpoints; use the "
        f"config with which {path.parent} was begun.",
    )


def _agree_on_data(run: Run, origin: Origin | None) -> None:
    """Writes the images into the folder of a run, after comparing them likewise."""
    path = run.workdir / DATA

    def compare(found: Any) -> str:  # noqa: ANN401
        old = identity.check(found, where=str(path))
        changed = identity.differences(old, run.images)
        return identity.refusal(str(run.workdir), changed) if changed else ""

    _agree_on_file(
        path,
        run.images,
        compare,
        is_original=None
        if origin is None
        else json_files.digest(run.images) == origin.data,
        otherwise="the images are not those of the checkpoints; put those back with "
        f"which {run.workdir} was begun.",
    )


def _agree_on_file(
    path: pathlib.Path,
    data: object,
    compare: Callable[[Any], str],
    *,
    is_original: bool | None,
    otherwise: str,
) -> None:
    """Writes a file of a folder, after comparing it with the one found there.

    Args:
      path: The file.
      data: What it shall hold.
      compare: From what it holds to the message by which other data are refused.
      is_original: Whether the data are those of the checkpoints, which decide where the
        file is damaged; None without any.
      otherwise: The message where they are not.

    Raises:
      ValueError: If the file holds other data, or is damaged and they are not original.
    """
    found, refusal, damage = None, "", ""
    try:
        found = json_files.read(path)
        refusal = compare(found)
    except FileNotFoundError:
        damage = "" if is_original is None else f"{path} is missing."
    except json_files.CorruptFilesError as error:
        damage = str(error)
    except ValueError:  # of an option that does not exist
        if not is_original:
            raise
        damage = f"{path} is damaged."
    if damage and is_original is False:
        raise ValueError(f"{damage.rstrip('.')}, and {otherwise}")
    if refusal and not is_original:
        raise ValueError(refusal)
    if damage or refusal:
        damage = damage or f"{path} is damaged."
        warnings.warn(f"{damage} It was written again.", stacklevel=2)
    if json_files.digest(found) != json_files.digest(data):
        json_files.write(path, data)


def planned_steps(workdir: Path) -> int | None:
    """Returns for how many steps a run was begun; None of a new one.

    None as well where its config is damaged: resuming the run says what to do.
    """
    path = pathlib.Path(workdir) / CONFIG
    try:
        return configs.from_saved(json_files.read(path), where=str(path)).num_steps
    except (OSError, ValueError, AttributeError):
        return None


def keep_split(workdir: Path, split: Split) -> Split:
    """Returns the images of the split with which a run was begun; all of a new run.

    Raises:
      ValueError: If its record of them is damaged, or if images are missing or changed.
    """
    path = pathlib.Path(workdir) / DATA
    try:
        found = json_files.read(path)
    except FileNotFoundError:
        return split
    return identity.keep_split(identity.check(found, where=str(path)), split)


def origin(run: Run) -> Origin:
    """Returns what a checkpoint records of a run, as it is now."""
    path = run.workdir / RECORDS
    return Origin(
        config=configs.digest(run.config),
        data=json_files.digest(run.images),
        records=path.read_text(encoding="utf-8") if path.exists() else "",
    )


def best_step(run: Run) -> int | None:
    """Returns the step of the last of the best scores in the records, if any."""
    finite = {step: x for step, x in scores(run).items() if math.isfinite(x)}
    return max(finite, key=lambda step: (finite[step], step), default=None)


def resume(run: Run, manager: Manager, like: TrainState) -> TrainState | None:
    """Returns the latest sound state, None for a new run; mends the folder of the run.

    Records return to what they were at that step. A missing or damaged model is written
    again from the checkpoint of its step.

    Args:
      run: The run.
      manager: Its checkpoints.
      like: A state of the same shapes, on the devices on which to restore it.

    Raises:
      CorruptCheckpointError: If there are checkpoints and all of them are damaged, or
        if the model is, and the checkpoint of its step as well.
    """
    damaged = run.workdir / DAMAGED
    saved = checkpoints.restore_latest(manager, like, damaged=damaged)
    step = 0 if saved is None else int(saved.state.step)
    restore_records(run, saved.origin if saved else None, step)
    restore_model(run, manager, like)
    return None if saved is None else saved.state


def restore_records(run: Run, origin: Origin | None, step: int) -> None:
    """Returns the records to what they were when a step was saved.

    Args:
      run: The run.
      origin: That of the checkpoint; without one, records of later steps are dropped.
      step: The step of the checkpoint; 0 without one.
    """
    path = run.workdir / RECORDS
    if origin is None:
        if step:
            records.truncate_after(path, step)
        else:
            path.unlink(missing_ok=True)
        return
    content = origin.records.encode()
    present = path.read_bytes() if path.exists() else b""
    if present == content:
        return
    if not present.startswith(content):
        warnings.warn(
            f"{path} is damaged; it was restored from the checkpoint of step {step}.",
            stacklevel=2,
        )
    with folders.write_atomically(path, replace=True) as temporary:
        temporary.write_bytes(content)


def restore_model(run: Run, manager: Manager, like: TrainState) -> None:
    """Writes the best model again from its checkpoint, if it is missing or damaged.

    Args:
      run: The run.
      manager: Its checkpoints.
      like: See `resume`.

    Raises:
      CorruptCheckpointError: If that checkpoint is missing or damaged as well.
    """
    folder, problem = run.workdir / "model", ""
    model_folder.recover(folder)
    if folder.exists():
        try:
            model_folder.verify(folder)
        except json_files.CorruptFilesError as error:
            target = folders.set_aside(folder, run.workdir / DAMAGED)
            problem = f"{str(error).partition(':')[0]}; {folder} was moved to {target}"
    step = best_step(run)
    if folder.exists() or step is None:
        if problem:
            warnings.warn(f"{problem}.", stacklevel=2)
        return
    try:
        state = checkpoints.restore(manager, step, like).state
    except checkpoints.CorruptCheckpointError as error:
        raise checkpoints.CorruptCheckpointError(
            f"{problem or f'{folder} is missing'}, and cannot be made again: {error} "
            "Start again in another workdir."
        ) from None
    scores = next(
        record.values
        for record in records.read(run.workdir / RECORDS)
        if record.step == step and record.kind == "validation"
    )
    model_folder.save_model(folder, as_trained_model(run, state, scores))
    warnings.warn(
        f"{problem or f'{folder} is missing'}; it was written again from the "
        f"checkpoint of step {step}.",
        stacklevel=2,
    )


def as_trained_model(
    run: Run, state: TrainState, scores: Mapping[str, Any] | None = None
) -> TrainedModel:
    """Returns the network of a state with all that its use requires.

    Args:
      run: The run.
      state: The state.
      scores: Its scores on the validation images, if it has been evaluated.
    """
    config, train = run.config, run.split.train
    return TrainedModel(
        model=config.model,
        params=optimizers.averaged_params(state.opt_state, state.params),
        model_state=state.model_state,
        input_scaling=config.input_scaling,
        class_names=_class_names(config),
        instances=config.instances,
        selected_channels=config.data.channels,
        object_diameter=run.object_diameter,
        provenance=Provenance(
            step=None if scores is None else int(state.step),
            scores=scoring.without_nan(scores or {}),
            num_train_images=len(train),
            image_dtype=str(train[0].image.dtype),
            images=run.statistics,
            config=configs.to_dict(config),
        ),
    )


def _class_names(config: ExperimentConfig) -> tuple[str, ...]:
    if config.model.num_classes == 2:
        return "background", "cell" if config.tune_instances else "foreground"
    return config.model.class_numbers


def scores(run: Run) -> dict[int, float]:
    """Returns the best metric of every evaluation so far, by its step."""
    return {
        record.step: float(record.values[run.config.best_metric])
        for record in records.read(run.workdir / RECORDS)
        if record.kind == "validation"
    }


def open_writers(
    run: Run, step: int
) -> contextlib.AbstractContextManager[MetricWriter]:
    """Opens the metric writers of a run that starts or resumes at a step."""
    options = dict(settings.flatten(configs.to_dict(run.config)))
    return writers.open_writers(
        run.config.writers, run.workdir, step=step, config=options
    )


def check_folder(workdir: pathlib.Path) -> None:
    """Refuses a folder with files that are not of a run, or that cannot be made.

    Raises:
      FileExistsError: If it holds other files, or is a file.
      OSError: If it does not exist and cannot be made.
    """
    if workdir.is_dir():
        is_run = any((workdir / name).exists() for name in (CONFIG, DATA))
        if not is_run and not folders.is_unused(workdir):
            raise FileExistsError(
                f"{workdir} holds files and no run of unetjax; nothing of it was "
                "touched. Name a new or empty folder."
            )
    elif workdir.exists():
        raise FileExistsError(f"{workdir} is a file; name a new or empty folder.")
    else:
        workdir.mkdir(parents=True)
        workdir.rmdir()
