"""The folder of a run: its lock, its config, and its records when it is resumed."""

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
from jaxtyping import PRNGKeyArray

from unetjax import settings
from unetjax.data.batch import Transform
from unetjax.data.splits import Split
from unetjax.devices import runtime
from unetjax.files import folders
from unetjax.reporting import records, writers
from unetjax.reporting.metric_writer import MetricWriter
from unetjax.training import checkpoints
from unetjax.training import config as configs
from unetjax.training.checkpoints import Manager
from unetjax.training.config import ExperimentConfig

Path = str | os.PathLike[str]


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
      transform: A change of every drawn tile, see `data.batch.Transform`.
    """

    config: ExperimentConfig
    workdir: pathlib.Path
    split: Split
    watch: Callable[[int, Mapping[str, float]], object] | None
    keys: Keys
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
    keys, workdir = make_keys(config.seed), pathlib.Path(workdir)
    return Run(config, workdir, split, watch, keys, transform=transform)


@contextlib.contextmanager
def open_run(run: Run) -> Iterator[Manager]:
    """Locks the folder of a run, checks its config, and opens its checkpoints.

    Raises:
      FileExistsError: If the folder holds other files, or another process uses it.
      ValueError: If it was made with another config.
    """
    _check_folder(run.workdir)
    with folders.claim(run.workdir):
        agree_on_config(run.workdir / "config.json", run.config, holder="a run")
        with checkpoints.open_checkpoints(
            run.workdir / "checkpoints", best_metric=run.config.best_metric
        ) as manager:
            yield manager


def agree_on_config(
    path: pathlib.Path, config: ExperimentConfig, *, holder: str
) -> None:
    """Writes the config into a new folder, or compares it with that of an old one.

    Args:
      path: The file, in that folder.
      config: The experiment.
      holder: What the folder holds, such as "a run".

    Raises:
      ValueError: If the file has another config, options that may change apart.
    """
    options = configs.to_dict(config)
    if path.exists():
        old = configs.from_saved(json.loads(path.read_text()), where=str(path))
        changed = configs.differences(configs.to_dict(old), options)
        if changed:
            raise ValueError(
                f"{path.parent} holds {holder} with another config "
                f"({'; '.join(changed)}); use that config to resume it, or another "
                "folder."
            )
    with folders.write_atomically(path, replace=True) as temporary:
        temporary.write_text(json.dumps(options, indent=2) + "\n")


def resume_records(run: Run, step: int) -> list[float]:
    """Drops the records of updates whose state was lost.

    Returns:
      The best metric of every evaluation so far.
    """
    path = run.workdir / "records.jsonl"
    records.truncate_after(path, step)
    return [
        float(record.values[run.config.best_metric])
        for record in records.read(path)
        if record.kind == "validation"
    ]


def open_writers(
    run: Run, step: int
) -> contextlib.AbstractContextManager[MetricWriter]:
    """Opens the metric writers of a run that starts or resumes at a step."""
    options = dict(settings.flatten(configs.to_dict(run.config)))
    return writers.open_writers(
        run.config.writers, run.workdir, step=step, config=options
    )


def _check_folder(workdir: pathlib.Path) -> None:
    """Refuses a folder with files that are not of a run."""
    if workdir.is_dir():
        if not (workdir / "config.json").exists() and not folders.is_unused(workdir):
            raise FileExistsError(
                f"{workdir} holds files and no run of unetjax; nothing of it was "
                "touched. Name a new or empty folder."
            )
    elif workdir.exists():
        raise FileExistsError(f"{workdir} is a file; name a new or empty folder.")
