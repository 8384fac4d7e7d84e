"""Weights & Biases, online or offline according to its own settings."""

import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Real

from unetjax.files import folders
from unetjax.reporting.metric_writer import MetricWriter, missing, numbers
from unetjax.reporting.pictures import Picture
from unetjax.reporting.records import Record


class WandbWriter(MetricWriter):
    """Writes one W&B run, also when several processes continue each other.

    Project, entity, account and mode are taken from W&B's settings, such as the
    environment variables WANDB_PROJECT and WANDB_MODE=offline. Its history cannot go
    back, so steps that a killed process has already written are skipped: a resumed run
    repeats them bit for bit.

    Args:
      workdir: The run folder; local files are in `workdir/wandb`.
      step: Updates done so far.
      config: Shown as the config of the run.
    """

    def __init__(
        self, workdir: pathlib.Path, *, step: int, config: Mapping[str, Any]
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise missing("wandb") from error
        folder = workdir / "wandb"
        folder.mkdir(exist_ok=True)
        run_id = folder / "run_id"
        if run_id.exists():
            self.last_step = step or -1
        else:
            with folders.write_atomically(run_id) as temporary:
                temporary.write_text(secrets.token_hex(4))
        self._wandb = wandb
        self._run = wandb.init(
            dir=str(workdir),
            id=run_id.read_text(),
            name=workdir.absolute().name,
            config=dict(config),
            resume="allow",
        )

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        if step >= self._run.step:
            self._run.log(dict(values), step=step)

    def write_record(self, record: Record) -> None:
        """Writes the numbers as metrics."""
        self._log(record.step, numbers(record))

    def write_picture(self, step: int, name: str, picture: Picture) -> None:
        """Writes the picture as an image."""
        self._log(step, {name: self._wandb.Image(picture)})

    def write_histogram(
        self, step: int, name: str, values: Real[np.ndarray, "..."]
    ) -> None:
        """Writes the histogram."""
        self._log(step, {name: self._wandb.Histogram(values.ravel().tolist())})

    def close(self, *, failed: bool) -> None:
        """Finishes the run, with exit code 1 if it failed."""
        self._run.finish(exit_code=int(failed))
