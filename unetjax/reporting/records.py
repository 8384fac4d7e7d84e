"""Records of metrics as JSON lines (`records.jsonl`), and as a CSV table."""

import csv
import io
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from unetjax.files import folders

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Record(NamedTuple):
    """Metrics of one step.

    Records contain no times, so that an interrupted and resumed run writes the same
    file as an uninterrupted one. Rates are shown on the console.

    Attributes:
      step: Number of optimizer steps before the measurement.
      kind: Such as "train", "validation" or "warning".
      values: Numbers and strings by name; the names "step" and "kind" are reserved, and
        the strings "NaN", "Infinity" and "-Infinity" are read back as numbers.
    """

    step: int
    kind: str
    values: dict[str, int | float | str]


def append(path: str | os.PathLike[str], record: Record) -> None:
    """Appends `record` as a line to the file, which is created if it is missing.

    An incomplete last line, which a killed process left, is removed before. NaN and
    infinities are written as the strings "NaN", "Infinity" and "-Infinity", so that any
    JSON parser can read the file.

    Raises:
      ValueError: If a value is named "step" or "kind".
    """
    line = _to_line(record)
    with open(path, "a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if file.read() not in (b"", b"\n"):
            file.seek(0)
            file.truncate(_complete_size(file.read()))
        file.write(line)


def read(path: str | os.PathLike[str]) -> list[Record]:
    """Returns all records of the file in order; none if the file is missing.

    An incomplete last line, which a killed process left, is ignored.

    Raises:
      ValueError: If another line is not a record; the message has its number.
    """
    return [_from_line(line, path, i + 1) for i, line in enumerate(_lines(path))]


def truncate_after(path: str | os.PathLike[str], step: int) -> None:
    """Deletes the records of steps after `step`, from which a run resumes.

    Other lines are kept byte for byte, so the file of a resumed run equals that of an
    uninterrupted one if all records of a step are written before its checkpoint.
    """
    lines = _lines(path)
    kept = [x for i, x in enumerate(lines) if _from_line(x, path, i + 1).step <= step]
    content = b"".join(kept)
    if not os.path.exists(path) or os.path.getsize(path) == len(content):
        return
    with folders.write_atomically(path, replace=True) as temporary:
        temporary.write_bytes(content)


def to_csv(records: Iterable[Record]) -> str:
    """Returns the records as a CSV table with one column for each name.

    Example:
      >>> print(to_csv([Record(10, "train", {"loss": 0.5})]), end="")
      step,kind,loss
      10,train,0.5
    """
    rows = [{"step": r.step, "kind": r.kind} | r.values for r in records]
    return csv_text(rows, dict.fromkeys(name for row in rows for name in row))


def csv_text(rows: Iterable[Mapping[str, object]], columns: Iterable[str]) -> str:
    """Returns rows as a CSV table; missing values and None are empty.

    Example:
      >>> print(csv_text([{"seed": 0, "ap50": None}], ["seed", "ap50"]), end="")
      seed,ap50
      0,
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def csv_of_pages(
    pages: Sequence[Sequence[Mapping[str, object]]], *, is_stack: bool
) -> str:
    """Returns the rows of all pages of a file as a CSV table, with the page of a stack.

    Args:
      pages: The rows of each page.
      is_stack: Whether there are several pages, which are counted from 0.
    """
    rows = [
        ({"page": page} if is_stack else {}) | dict(row)
        for page, rows in enumerate(pages)
        for row in rows
    ]
    return csv_text(rows, rows[0] if rows else ["id"])


def write_csv(path: str | os.PathLike[str]) -> None:
    """Writes the records of a file as a table next to it, with the suffix `.csv`.

    The table is rewritten from all records if it differs from them.
    """
    table = pathlib.Path(path).with_suffix(".csv")
    content = to_csv(read(path)).encode()
    if table.exists() and table.read_bytes() == content:
        return
    with folders.write_atomically(table, replace=True) as temporary:
        temporary.write_bytes(content)


def _lines(path: str | os.PathLike[str]) -> list[bytes]:
    if not os.path.exists(path):
        return []
    content = pathlib.Path(path).read_bytes()
    return content[: _complete_size(content)].splitlines(keepends=True)


def _complete_size(content: bytes) -> int:
    return content.rfind(b"\n") + 1


def _to_line(record: Record) -> bytes:
    reserved = record.values.keys() & {"step", "kind"}
    if reserved:
        raise ValueError(
            f"a record cannot have a value named {min(reserved)!r}, the name of one of "
            "its own fields; rename the value."
        )
    values = {
        name: str(float(value)).replace("nan", "NaN").replace("inf", "Infinity")
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in record.values.items()
    }
    line = {"step": record.step, "kind": record.kind} | values
    return (json.dumps(line) + "\n").encode()


def _from_line(line: bytes, path: str | os.PathLike[str], number: int) -> Record:
    try:
        values = json.loads(line)
        step, kind = values.pop("step"), values.pop("kind")
        values = {name: _NOT_FINITE.get(x, x) for name, x in values.items()}
        return Record(int(step), str(kind), values)
    except (
        *(ValueError, TypeError, KeyError, AttributeError),
        *(OverflowError, RecursionError),
    ) as error:
        raise ValueError(
            f"{os.fspath(path)}, line {number}, is not a record of a run: "
            f"{line[:60].decode(errors='replace').strip()!r}; a record is a JSON "
            f'object with "step" and "kind". Fix or delete that line.'
        ) from error
