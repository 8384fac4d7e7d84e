"""The metric writers of a run: its own files, TensorBoard, W&B and MLflow.

`records.jsonl` in the run folder is authoritative; other writers show the same numbers.
A run that was killed and resumed, by two processes, must look like one run in each.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from unetjax.reporting import records
from unetjax.reporting.metric_writer import MetricWriter, MultiWriter
from unetjax.reporting.mlflow import MLflowWriter
from unetjax.reporting.records import Record
from unetjax.reporting.tensorboard import TensorBoardWriter
from unetjax.reporting.wandb import WandbWriter

WriterName = Literal["tensorboard", "wandb", "mlflow"]

_TOOLS = {
    "tensorboard": TensorBoardWriter,
    "wandb": WandbWriter,
    "mlflow": MLflowWriter,
}


class JsonlWriter(MetricWriter):
    """Appends records to a file, one JSON object per line."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def write_record(self, record: Record) -> None:
        """Appends the record."""
        records.append(self._path, record)


class CsvWriter(MetricWriter):
    """Keeps a table, `.csv`, beside the `.jsonl` file of the records.

    A new name adds a column to all rows, so the table is rewritten as a whole: after
    evaluations and at the end, not for every record of training.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def write_record(self, record: Record) -> None:
        """Rewrites the table if the record is not one of training."""
        if record.kind != "train":
            records.write_csv(self._path)

    def close(self, *, failed: bool) -> None:
        """Rewrites the table."""
        if self._path.exists():
            records.write_csv(self._path)


@contextlib.contextmanager
def open_writers(
    names: Sequence[WriterName],
    workdir: str | os.PathLike[str],
    *,
    step: int,
    config: Mapping[str, Any],
) -> Iterator[MetricWriter]:
    """Yields a writer to `records.jsonl`, `records.csv` and the tracking tools named.

    A tool that is new to the run receives its earlier records as well. One that fails
    later is dropped with a warning. If the block raises, the tools show the run as
    failed, until it resumes.

    Args:
      names: The tracking tools, beside the files of the run folder.
      workdir: The run folder. What a tool writes to disk is in a subfolder of its name.
      step: Updates done so far; `records.jsonl` holds no records of later steps.
      config: The options of the run by their dotted names.

    Raises:
      ModuleNotFoundError: If the library of a tool is missing; names the extra.
    """
    workdir = pathlib.Path(workdir)
    path = workdir / "records.jsonl"
    writer, failed = MultiWriter([JsonlWriter(path), CsvWriter(path)]), True
    try:
        for name in names:
            tool = _TOOLS[name](workdir, step=step, config=config)
            writer.add_optional(name, tool)
            for record in records.read(path):
                if record.step > tool.last_step:
                    tool.write_record(record)
        yield writer
        failed = False
    finally:
        writer.close(failed=failed)
