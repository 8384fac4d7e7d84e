"""What was measured, for people: text, Markdown, one JSON file, one page."""

import json
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from experiments.benchmarks.measuring import OURS, Row
from unetjax.files import folders
from unetjax.reporting import console, report
from unetjax.reporting.charts import Chart, Curve
from unetjax.reporting.report import Table

T = TypeVar("T")

_COLUMNS = (
    "who",
    "precision",
    "median",
    "quartiles",
    "ratio",
    "items/s",
    "speed",
    "of peak",
    "memory",
    "compile",
    "note",
)
HEADING = (
    "`ratio` is the time over that of unetjax in the same precision, median over "
    "rounds: above 1, unetjax is faster. `of peak` is the share of the fastest matrix "
    "product that this run measured in the same precision."
)


def duration(seconds: float) -> str:
    """Returns a time with three digits.

    Example:
      >>> [duration(x) for x in (6.1834, 0.0271, 0.00004)]
      ['6.18 s', '27.1 ms', '40.0 µs']
    """
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{_digits(seconds * factor)} {unit}"
    return f"{_digits(seconds * 1e6)} \N{MICRO SIGN}s"


def size(num_bytes: int) -> str:
    """Returns bytes in GB or MB.

    Example:
      >>> size(2_345_678_901), size(12_300_000)
      ('2.35 GB', '12.3 MB')
    """
    if num_bytes >= 1e9:
        return f"{_digits(num_bytes / 1e9)} GB"
    return f"{_digits(num_bytes / 1e6)} MB"


def speed(tflops: float) -> str:
    """Returns a rate of work in TFLOP/s or GFLOP/s.

    Example:
      >>> speed(133.2), speed(0.0985)
      ('133 TFLOP/s', '98.5 GFLOP/s')
    """
    if tflops >= 1:
        return f"{_digits(tflops)} TFLOP/s"
    return f"{_digits(tflops * 1e3)} GFLOP/s"


def cells(row: Row) -> dict[str, str]:
    """Returns a row as words; what was not measured stays empty."""

    def words(value: T | None, form: Callable[[T], str]) -> str:
        return "" if value is None else form(value)

    quartiles = ""
    if row.lower is not None and row.upper is not None:
        quartiles = f"{duration(row.lower)} to {duration(row.upper)}"
    return {
        "who": row.name,
        "precision": row.precision,
        "median": words(row.median, duration),
        "quartiles": quartiles,
        "ratio": words(row.ratio, "{:.2f}".format),
        "items/s": words(row.rate, _digits),
        "speed": words(row.tflops, speed),
        "of peak": words(row.share, "{:.0%}".format),
        "memory": words(row.memory, size),
        "compile": words(row.compile_seconds, duration),
        "note": row.note,
    }


def by_case(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Returns the rows of every case, in the order in which they were measured."""
    found = dict[tuple[str, str], list[Row]]()
    for row in rows:
        found.setdefault((row.workload, row.case), []).append(row)
    return found


def columns(rows: Sequence[Row]) -> list[str]:
    """Returns the columns in which some row says something."""
    words = [cells(row) for row in rows]
    return [name for name in _COLUMNS if any(line[name] for line in words)]


def text(rows: Sequence[Row]) -> str:
    """Returns the rows of one case, for a terminal."""
    first = rows[0]
    shown = console.table([cells(row) for row in rows], columns(rows))
    return f"{first.workload}: {first.case}\n{shown}"


def markdown(rows: Sequence[Row], machine: Mapping[str, str], command: str) -> str:
    """Returns all that `docs/benchmarks.md` shows of a run."""
    parts = [f"```\n{command}\n```", HEADING]
    parts.append("\n".join(f"- {name}: {value}" for name, value in machine.items()))
    for (workload, case), group in by_case(rows).items():
        names = columns(group)
        lines = [
            "| " + " | ".join(names) + " |",
            "|" + "---|" * len(names),
            *(
                "| " + " | ".join(cells(row)[name] for name in names) + " |"
                for row in group
            ),
        ]
        parts.append(f"**{workload}: {case}**\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def write(
    folder: pathlib.Path,
    rows: Sequence[Row],
    machine: Mapping[str, str],
    command: str,
) -> list[pathlib.Path]:
    """Writes `benchmark.json`, `.md` and `.html` into a folder that has none of them.

    Raises:
      FileExistsError: If one of the files is there.
    """
    paths = files(folder)
    document = {
        "command": command,
        "machine": dict(machine),
        "rows": [row._asdict() for row in rows],
    }
    with folders.write_atomically(paths[0]) as temporary:
        temporary.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
    with folders.write_atomically(paths[1]) as temporary:
        temporary.write_text(markdown(rows, machine, command))
    report.write_report(
        paths[2],
        title="unetjax beside what else could be used",
        summary=HEADING.replace("`", ""),
        tables=[
            Table(columns(group), [cells(row) for row in group], f"{workload}: {case}")
            for (workload, case), group in by_case(rows).items()
        ],
        charts=charts(rows),
        environment=machine,
        command=command,
    )
    return paths


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the names of the files that a run writes."""
    return [folder / f"benchmark.{suffix}" for suffix in ("json", "md", "html")]


def charts(rows: Sequence[Row]) -> list[Chart]:
    """Returns the samples of every case, round by round: how steady the figures are."""
    return [
        Chart(
            f"{workload}: {case}, seconds",
            [
                Curve(
                    f"{row.name} {row.precision}",
                    range(1, len(row.samples) + 1),
                    row.samples,
                )
                for row in group
                if row.samples
            ],
            log=True,
            horizontal="round",
        )
        for (workload, case), group in by_case(rows).items()
        if any(row.samples and row.name == OURS for row in group)
    ]


def _digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    if not value or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{2 - math.floor(math.log10(value))}f}"
