"""Console output: progress with rate and time left, tables, formatted numbers."""

import contextlib
import datetime
import io
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import rich.box
import rich.console
import rich.progress
import rich.table
from rich.text import Text

_LINE_EVERY = 60.0  # seconds after which another plain line is printed
_RATE_OVER = 3600.0  # seconds of the recent past over which the rate is averaged

# Columns with two spaces between them, and a rule below their names.
_BOX = rich.box.Box("    \n    \n -  \n    \n    \n    \n    \n    \n", ascii=True)


class Bar:
    """Counts finished work, and shows it."""

    def __init__(self, bars: rich.progress.Progress, *, plain: bool) -> None:
        self._bars, self._task = bars, bars.tasks[0]
        self._plain, self._tenth, self._printed = plain, -1, bars.get_time()
        self._total = int(self._task.total or 0)

    @property
    def done(self) -> int:
        """How much of the total is done."""
        return round(self._task.completed)

    def advance(self, n: int = 1, **values: int | float | str) -> None:
        """Counts `n` more as done; `values`, such as a loss, are shown with it."""
        note = "".join(f", {name} {number(value)}" for name, value in values.items())
        self._bars.update(self._task.id, advance=n, note=note)
        if self._plain:
            self._print_line()

    def _print_line(self) -> None:
        tenth, now = 10 * self.done // max(self._total, 1), self._bars.get_time()
        if tenth > self._tenth or now - self._printed >= _LINE_EVERY:
            self._tenth, self._printed = tenth, now
            print(f"{self._task.description}: {_status(self._task)}", flush=True)


@contextlib.contextmanager
def progress(
    description: str,
    *,
    total: int,
    unit: str = "step",
    done: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Bar]:
    """Shows the progress of the enclosed work: a bar on a terminal, else plain lines.

    A plain line is printed after every tenth of the work and after every minute. If
    there is no standard output, or the level of the logger "unetjax" is above INFO,
    nothing is shown. The rate does not include the first
    call of `advance`, which compiles.

    Args:
      description: Name of the work, such as "training".
      total: How much there is to do.
      unit: What is counted, in the singular.
      done: How much of `total` is done already, where a run resumes.
      clock: Monotonic time in seconds.

    Example:
      >>> with progress("tiles", total=2, unit="tile", clock=lambda: 0.0) as bar:
      ...     for _ in range(2):
      ...         bar.advance()
      tiles: 1/2 tiles
      tiles: 2/2 tiles
    """
    terminal = rich.console.Console()
    is_quiet = logging.getLogger("unetjax").level > logging.INFO
    bars = rich.progress.Progress(
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(bar_width=20),
        _StatusColumn(table_column=rich.table.Column(no_wrap=True)),
        console=terminal,
        disable=is_quiet or not terminal.is_interactive,
        get_time=clock,
        speed_estimate_period=_RATE_OVER,
    )
    bars.add_task(description, total=total, completed=done, unit=unit, note="")
    has_output = sys.stdout is not None and not sys.stdout.closed and not is_quiet
    with bars:
        yield Bar(bars, plain=has_output and not terminal.is_interactive)


class _StatusColumn(rich.progress.ProgressColumn):
    """The same text as in plain lines."""

    def render(self, task: rich.progress.Task) -> Text:
        return Text(_status(task))


def _status(task: rich.progress.Task) -> str:
    """Returns text such as "400/1,000 steps, 2.5 steps/s, 0:04:00 left"."""
    unit = task.fields["unit"]
    text = f"{task.completed:,.0f}/{task.total:,.0f} {unit}s"
    if task.speed:
        slow = task.speed < 1
        value = _three_digits(1 / task.speed if slow else task.speed)
        text += f", {value} s/{unit}" if slow else f", {value} {unit}s/s"
        if task.time_remaining:
            text += f", {datetime.timedelta(seconds=task.time_remaining)} left"
    return text + task.fields["note"]


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def number(value: int | float | str) -> str:
    """Returns a number with three significant digits, and a string unchanged.

    So are all scores written that are read by people; files of data have all digits.

    Integers, and numbers from 1e3 to 1e9, are shown with all their integer digits.

    Example:
      >>> [number(x) for x in (0.9, 1e-5, 12345.6, 0.0, 31030658, "none")]
      ['0.900', '1.00e-05', '12,346', '0', '31,030,658', 'none']
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int) or 999.5 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".") if value else "0"


def table(
    rows: Sequence[Mapping[str, int | float | str]], columns: Sequence[str]
) -> str:
    """Returns a table as text, with numbers aligned right; missing values are empty.

    Args:
      rows: Values by the name of their column.
      columns: Names of the columns, in the order to show.

    Example:
      >>> rows = [{"metric": "IoU", "ours": 0.9203, "baseline": 0.7756}]
      >>> print(table(rows, ["metric", "ours", "baseline"]))
      metric   ours  baseline
      ------- ------ --------
      IoU     0.920     0.776
    """
    grid = rich.table.Table(
        box=_BOX, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for name in columns:
        is_text = all(isinstance(row.get(name, ""), str) for row in rows)
        justify = "left" if is_text else "right"
        grid.add_column(Text(name), justify=justify, no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(number(row.get(name, ""))) for name in columns))
    text = io.StringIO()
    # Never wrapped, and without colours even where FORCE_COLOR is set.
    page = rich.console.Console(file=text, width=100_000, color_system=None)
    page.print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
