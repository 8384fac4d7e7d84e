"""Weights & Biases, online or offline as its own settings have it."""

import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Real

from unetjax.files import folders
from unetjax.reporting.metric_writer import Picture, Sink, missing, numbers
from unetjax.reporting.records import Record


def open_sink(workdir: pathlib.Path, *, step: int, config: Mapping[str, Any]) -> Sink:
    """Returns a sink that is one W&B run, also over several processes.

    Project, entity, account and mode come from where W&B looks for them: WANDB_PROJECT,
    WANDB_MODE=offline and so on. Its history never goes back, so steps that it has
    already, of a process that was killed, are not told again; a run repeats them bit
    for bit.

    Args:
      workdir: The run folder; local files lie in `workdir/wandb`.
      step: Updates done so far.
      config: Shown as the config of the run.
    """
    try:
        import wandb
    except ImportError as error:
        raise missing("wandb") from error

    folder = workdir / "wandb"
    folder.mkdir(exist_ok=True)
    name = folder / "run_id"
    known = name.exists()
    if not known:
        with folders.write_atomically(name) as temporary:
            temporary.write_text(secrets.token_hex(4))
    run = wandb.init(
        dir=str(workdir),
        id=name.read_text(),
        name=workdir.absolute().name,
        config=dict(config),
        resume="allow",
    )

    def log(step: int, values: dict[str, Any]) -> None:
        if step >= run.step:
            run.log(values, step=step)

    def record(record: Record) -> None:
        log(record.step, dict(numbers(record)))

    def picture(step: int, name: str, picture: Picture) -> None:
        log(step, {name: wandb.Image(picture)})

    def histogram(step: int, name: str, values: Real[np.ndarray, "..."]) -> None:
        log(step, {name: wandb.Histogram(values.ravel().tolist())})

    def close(failed: bool) -> None:
        run.finish(exit_code=int(failed))

    seen = step if known and step else -1
    return Sink(record, picture, histogram, close, seen)
