"""`MetricWriter`: the interface by which a run writes metrics, pictures, histograms."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Real

from unetjax.reporting.pictures import Picture
from unetjax.reporting.records import Record


class MetricWriter:
    """Writes what a run reports, to a file or to a tracking server.

    This base class discards everything; a writer overrides what it supports.

    Attributes:
      last_step: The last step that an earlier process of the same run has written; -1
        if there was none, so that the writer needs all earlier records.
    """

    last_step: int = -1

    def write_record(self, record: Record) -> None:
        """Writes the numbers of a record."""

    def write_picture(self, step: int, name: str, picture: Picture) -> None:
        """Writes a picture under a name."""

    def write_histogram(
        self, step: int, name: str, values: Real[np.ndarray, "..."]
    ) -> None:
        """Writes the distribution of the values of an array under a name."""

    def close(self, *, failed: bool) -> None:
        """Waits until everything has been written.

        Args:
          failed: Whether the run ended with an error or was interrupted.
        """


class MultiWriter(MetricWriter):
    """Passes everything on to several writers; an optional one may fail.

    A server that is gone must not end a training: an optional writer that raises is
    dropped with a warning. What a required writer raises is raised.

    Args:
      required: Writers that receive everything first, and are closed last.
    """

    def __init__(self, required: Sequence[MetricWriter]) -> None:
        self._required, self._optional = required, dict[str, MetricWriter]()

    def add_optional(self, name: str, writer: MetricWriter) -> None:
        """Adds a writer that may fail; warnings call it by the name."""
        self._optional[name] = writer

    def _write(self, call: Callable[[MetricWriter], None]) -> None:
        for writer in self._required:
            call(writer)
        self._try(call)

    def _try(self, call: Callable[[MetricWriter], None]) -> None:
        for name, writer in list(self._optional.items()):
            try:
                call(writer)
            except Exception as error:  # of any library, over any network
                del self._optional[name]
                warnings.warn(
                    f"{name} failed and receives no more of this run: {error}",
                    stacklevel=4,
                )

    def write_record(self, record: Record) -> None:
        """Writes the record with every writer."""
        self._write(lambda writer: writer.write_record(record))

    def write_picture(self, step: int, name: str, picture: Picture) -> None:
        """Writes the picture with every writer."""
        self._write(lambda writer: writer.write_picture(step, name, picture))

    def write_histogram(
        self, step: int, name: str, values: Real[np.ndarray, "..."]
    ) -> None:
        """Writes the histogram with every writer."""
        self._write(lambda writer: writer.write_histogram(step, name, values))

    def close(self, *, failed: bool) -> None:
        """Closes every writer."""
        self._try(lambda writer: writer.close(failed=failed))
        for writer in self._required:
            writer.close(failed=failed)


def numbers(record: Record) -> dict[str, float]:
    """Returns the numbers of a record under the names `kind/name`.

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
    """Returns the error of a metric writer whose library is not installed."""
    return ModuleNotFoundError(
        f'the metric writer {name!r} needs its library: pip install "unetjax[{name}]".'
    )
