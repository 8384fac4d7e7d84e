"""TensorBoard's event files, written without TensorFlow."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Real

from unetjax.reporting.metric_writer import Picture, Sink, missing, numbers
from unetjax.reporting.records import Record


def open_sink(workdir: pathlib.Path, *, step: int, config: Mapping[str, Any]) -> Sink:
    """Returns a sink that writes into `workdir/tensorboard`.

    Event files are append-only. Where an earlier process wrote steps that were lost
    with it, the new file begins with the mark by which TensorBoard drops them.

    Args:
      workdir: The run folder; `tensorboard --logdir` takes it, or the folder above.
      step: Updates done so far.
      config: Not shown; the run folder has it.
    """
    try:
        import tensorboardX
    except ImportError as error:
        raise missing("tensorboard") from error

    folder = workdir / "tensorboard"
    files = len(list(folder.glob("*tfevents*"))) if folder.is_dir() else 0
    # Before the first update a run starts again: its picture of step 0 as well.
    lost = step + 1 if step else 0
    writer = tensorboardX.SummaryWriter(
        str(folder),
        purge_step=lost if files else None,
        filename_suffix=f".{files:04d}",  # files of one second keep their order
    )

    def record(record: Record) -> None:
        for name, value in numbers(record).items():
            if math.isfinite(value):  # NaN, nothing to count, is no point of a curve
                writer.add_scalar(name, value, record.step)

    def picture(step: int, name: str, picture: Picture) -> None:
        writer.add_image(name, picture, step, dataformats="HWC")
        writer.flush()

    def histogram(step: int, name: str, values: Real[np.ndarray, "..."]) -> None:
        writer.add_histogram(name, values, step)

    seen = step if files and step else -1

    def close(failed: bool) -> None:
        writer.close()  # which knows no state of a run

    return Sink(record, picture, histogram, close, seen)
