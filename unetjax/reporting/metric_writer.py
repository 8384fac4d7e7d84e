"""What a viewer of runs can be told, whatever its library."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Real, UInt8

from unetjax.reporting.records import Record

Picture = UInt8[np.ndarray, "_ _ 3"]


class Sink(NamedTuple):
    """What a viewer can be told, as functions.

    Attributes:
      record: Shows the numbers of a record, named `kind/name`.
      picture: Shows a picture of a step, by its name.
      histogram: Shows the values of an array of a step, by its name.
      close: Waits until all of it has arrived; told whether the run failed, which is
        to end before its last step, for whatever reason.
      seen: The last step of an earlier process that the viewer knows; -1 if it knows
        nothing and must be told all of it.
    """

    record: Callable[[Record], object]
    picture: Callable[[int, str, Picture], object]
    histogram: Callable[[int, str, Real[np.ndarray, "..."]], object]
    close: Callable[[bool], object]
    seen: int = -1


def _nothing(*values: object) -> None:
    """Shows nothing."""


NO_SINK = Sink(_nothing, _nothing, _nothing, _nothing)


def numbers(record: Record) -> dict[str, float]:
    """Returns the numbers of a record by the names that viewers group them by.

    Example:
      >>> numbers(Record(10, "train", {"loss": 0.5, "note": "fine"}))
      {'train/loss': 0.5}
    """
    return {
        f"{record.kind}/{name}": float(value)
        for name, value in record.values.items()
        if not isinstance(value, str)
    }


def missing(name: str) -> ModuleNotFoundError:
    """Returns the error of a sink whose library is not installed."""
    return ModuleNotFoundError(
        f'the sink {name!r} needs its library: pip install "unetjax[{name}]".'
    )
