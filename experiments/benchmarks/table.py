"""The results as text, Markdown, JSON and an HTML page."""

import functools
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from unetjax.files import folders
from unetjax.reporting import console, report
from unetjax.reporting.charts import Chart, Curve
from unetjax.reporting.report import Table

from .measuring import Row

SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "\N{MICRO SIGN}s"))
BYTES = ((1e9, "GB"), (1e6, "MB"))
TFLOPS = ((1.0, "TFLOP/s"), (1e-3, "GFLOP/s"))
HEADING = (
    "`ratio` is the time over that of unetjax in the same precision, median over "
    "rounds: above 1, unetjax is faster. `of peak` is the share of the fastest matrix "
    "product that this run measured in the same precision."
)


def quantity(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Returns a value with three digits, in the largest unit that it exceeds.

    Args:
      value: The value, not negative.
      units: Size and name of the units, from the largest to the smallest.

    Example:
      >>> [quantity(x, SECONDS) for x in (6.1834, 0.0271, 0.00004)]
      ['6.18 s', '27.1 ms', '40.0 µs']
      >>> quantity(2_345_678_901, BYTES), quantity(12_300_000, BYTES)
      ('2.35 GB', '12.3 MB')
      >>> quantity(133.2, TFLOPS), quantity(0.0985, TFLOPS)
      ('133 TFLOP/s', '98.5 GFLOP/s')
    """
    size, name = next((unit for unit in units if value >= unit[0]), units[-1])
    return f"{_digits(value / size)} {name}"


def cells(row: Row) -> dict[str, str]:
    """Returns the text of a row in each column; what was not measured is empty."""

    def words(value: float | None, form: Callable[[float], str]) -> str:
        return "" if value is None else form(value)

    duration = functools.partial(quantity, units=SECONDS)
    quartiles = [words(value, duration) for value in (row.lower, row.upper)]
    return {
        "who": row.name,
        "precision": row.precision,
        "median": words(row.median, duration),
        "quartiles": " to ".join(filter(None, quartiles)),
        "ratio": words(row.ratio, "{:.2f}".format),
        "items/s": words(row.rate, _digits),
        "speed": words(row.tflops, functools.partial(quantity, units=TFLOPS)),
        "of peak": words(row.share, "{:.0%}".format),
        "memory": words(row.memory, functools.partial(quantity, units=BYTES)),
        "compile": words(row.compile_seconds, duration),
        "note": row.note,
    }


def by_case(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Returns the rows of every case by its title, in the order of measurement."""
    found = dict[str, list[Row]]()
    for row in rows:
        found.setdefault(f"{row.workload}: {row.case}", []).append(row)
    return found


def columns(rows: Sequence[Row]) -> list[str]:
    """Returns the columns that are not empty."""
    shown = [cells(row) for row in rows]
    return [name for name in shown[0] if any(line[name] for line in shown)]


def text(rows: Sequence[Row]) -> str:
    """Returns the rows of one case, for a terminal."""
    (title,) = by_case(rows)
    return f"{title}\n{console.table([cells(row) for row in rows], columns(rows))}"


def markdown(rows: Sequence[Row], machine: Mapping[str, str], command: str) -> str:
    """Returns the command, the machine and the tables of a run."""
    parts = [f"```\n{command}\n```", HEADING]
    parts.append("\n".join(f"- {name}: {value}" for name, value in machine.items()))
    for title, group in by_case(rows).items():
        names = columns(group)
        shown = [names, *([cells(row)[name] for name in names] for row in group)]
        lines = [f"| {' | '.join(values)} |" for values in shown]
        lines.insert(1, "|" + "---|" * len(names))
        parts.append(f"**{title}**\n\n" + "\n".join(lines))
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
            Table(columns(group), [cells(row) for row in group], title)
            for title, group in by_case(rows).items()
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
    """Returns the samples of every case by round, to see how steady they are."""
    found = []
    for title, group in by_case(rows).items():
        curves = [
            Curve(
                f"{row.name} {row.precision}",
                range(1, len(row.samples) + 1),
                row.samples,
            )
            for row in group
            if row.samples
        ]
        if curves:
            found.append(
                Chart(f"{title}, seconds", curves, log=True, horizontal="round")
            )
    return found


def _digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    if not value or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{2 - math.floor(math.log10(value))}f}"
