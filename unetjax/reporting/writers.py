"""Where else a run can be watched: its records and pictures, for other viewers.

The run folder holds the truth, `records.jsonl`; a sink shows the same. Two processes
that write one run, the second because the first was killed, must look like one.
"""

import contextlib
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from unetjax.reporting import mlflow, records, tensorboard, wandb
from unetjax.reporting.metric_writer import Sink

SinkName = Literal["tensorboard", "wandb", "mlflow"]

_OPENERS = {
    "tensorboard": tensorboard.open_sink,
    "wandb": wandb.open_sink,
    "mlflow": mlflow.open_sink,
}


@contextlib.contextmanager
def open_sinks(
    names: Sequence[SinkName],
    workdir: str | os.PathLike[str],
    *,
    step: int,
    config: Mapping[str, Any],
) -> Iterator[Sink]:
    """Yields one sink that hands on to all that are named; none is fine.

    A sink that is new to a run is told its earlier records as well. One that fails
    later on is left out, with a warning: it is not worth the run. If the block raises,
    the run is shown as one that failed, until it goes on.

    Args:
      names: Which.
      workdir: The run folder. What a sink writes to disk lies in a folder of its own
        name; records of steps after `step` are gone from `records.jsonl`.
      step: Updates done so far: the run goes on from here.
      config: The options of the run by their dotted names.

    Raises:
      ModuleNotFoundError: If the library of a sink is missing; it names the extra.
    """
    workdir = pathlib.Path(workdir)
    opened: dict[str, Sink] = {}

    def to_all(function: str) -> Callable[..., None]:
        def tell(*values: object) -> None:
            for name, sink in list(opened.items()):
                try:
                    getattr(sink, function)(*values)
                except Exception as error:  # of any library, over any network
                    del opened[name]
                    warnings.warn(
                        f"{name} shows this run no longer: {error}", stacklevel=3
                    )

        return tell

    failed = True
    try:
        for name in names:
            sink = _OPENERS[name](workdir, step=step, config=config)
            opened[name] = sink
            for record in records.read(workdir / "records.jsonl"):
                if record.step > sink.seen:
                    sink.record(record)
        yield Sink(
            record=to_all("record"),
            picture=to_all("picture"),
            histogram=to_all("histogram"),
            close=to_all("close"),
        )
        failed = False
    finally:
        to_all("close")(failed)
