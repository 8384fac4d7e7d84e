"""TensorBoard event files, written without TensorFlow."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Real

from unetjax.reporting.metric_writer import MetricWriter, missing, numbers
from unetjax.reporting.pictures import Picture
from unetjax.reporting.records import Record


class TensorBoardWriter(MetricWriter):
    """Writes event files into `workdir/tensorboard`.

    Event files are append-only. Where an earlier process wrote steps that were lost
    with it, the new file begins with the mark (`purge_step`) by which TensorBoard drops
    them.

    Args:
      workdir: The run folder; pass it, or its parent, to `tensorboard --logdir`.
      step: Updates done so far.
      config: Not written; the run folder has it.
    """

    def __init__(
        self, workdir: pathlib.Path, *, step: int, config: Mapping[str, Any]
    ) -> None:
        try:
            import tensorboardX
        except ImportError as error:
            raise missing("tensorboard") from error
        folder = workdir / "tensorboard"
        files = len(list(folder.glob("*tfevents*"))) if folder.is_dir() else 0
        # Before the first update a run starts again, with its picture of step 0.
        lost = step + 1 if step else 0
        self._writer = tensorboardX.SummaryWriter(
            str(folder),
            purge_step=lost if files else None,
            filename_suffix=f".{files:04d}",  # keeps files of one second in order
        )
        if files and step:
            self.last_step = step

    def write_record(self, record: Record) -> None:
        """Writes the finite numbers as scalars."""
        for name, value in numbers(record).items():
            if math.isfinite(value):  # NaN means nothing to count: no point of a curve
                self._writer.add_scalar(name, value, record.step)

    def write_picture(self, step: int, name: str, picture: Picture) -> None:
        """Writes the picture as an image."""
        self._writer.add_image(name, picture, step, dataformats="HWC")
        self._writer.flush()

    def write_histogram(
        self, step: int, name: str, values: Real[np.ndarray, "..."]
    ) -> None:
        """Writes the histogram."""
        self._writer.add_histogram(name, values, step)

    def close(self, *, failed: bool) -> None:
        """Closes the event file; TensorBoard has no status of a run."""
        self._writer.close()
