"""What a terminal shows: progress with rate and time left, tables, numbers."""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import rich.console
import rich.progress

_LINE_EVERY = 60.0  # seconds between plain lines at most, if there is news


class Bar:
    """Counts what is done of a long piece of work and says how it goes.

    Attributes:
      done: How much of `total` is done.
    """

    def __init__(
        self,
        *,
        total: int,
        unit: str,
        done: int,
        show: Callable[[int, str], None],
        clock: Callable[[], float],
    ) -> None:
        self.done = done
        self._total, self._unit = total, unit
        self._show, self._clock = show, clock
        self._first: tuple[int, float] | None = None

    def advance(self, n: int = 1, **values: int | float | str) -> None:
        """Counts `n` more as done; `values`, such as a loss, are shown beside.

        The rate is measured from the end of the first call on, so that the time to
        compile does not enter it.
        """
        self.done += n
        now = self._clock()
        if self._first is None:
            self._first = (self.done, now)
        count, seconds = self.done - self._first[0], now - self._first[1]
        rate = count / seconds if count and seconds > 0 else None
        text = status(self.done, self._total, self._unit, rate=rate)
        words = [f"{name} {number(value)}" for name, value in values.items()]
        self._show(self.done, ", ".join([text, *words]))


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

    A plain line appears after every tenth of the work and after every minute with news.
    Where there is no standard output, nothing is shown.

    Args:
      description: What is going on, such as "training".
      total: How much there is to do.
      unit: What is counted; an "s" makes its plural.
      done: How much of `total` is done already: a resumed run continues its count.
      clock: Seconds that never run backwards.

    Example:
      >>> with progress("tiles", total=2, unit="tile", clock=lambda: 0.0) as bar:
      ...     for _ in range(2):
      ...         bar.advance()
      tiles: 1/2 tiles
      tiles: 2/2 tiles
    """
    with contextlib.ExitStack() as stack:
        terminal = rich.console.Console()
        if sys.stdout is None or sys.stdout.closed:
            show = _silent
        elif terminal.is_interactive:
            bars = stack.enter_context(_rich_bar(terminal))
            task = bars.add_task(description, total=total, completed=done, status="")
            show = functools.partial(_show_bar, bars, task)
        else:
            show = _plain_lines(description, total, clock)
        yield Bar(total=total, unit=unit, done=done, show=show, clock=clock)


def status(done: int, total: int, unit: str, *, rate: float | None = None) -> str:
    """Returns how far a piece of work is, in words.

    Args:
      done: How much is done.
      total: How much there is to do.
      unit: What is counted; an "s" makes its plural.
      rate: Units a second, if known.

    Example:
      >>> status(400, 1000, "step", rate=2.5)
      '400/1,000 steps, 2.5 steps/s, 4 min left'
      >>> status(1, 30, "tile", rate=0.25)
      '1/30 tiles, 4 s/tile, 1 min 56 s left'
    """
    text = f"{done:,}/{total:,} {unit}s"
    if rate is None:
        return text
    speed = (
        f"{_three_digits(rate)} {unit}s/s"
        if rate >= 1
        else f"{_three_digits(1 / rate)} s/{unit}"
    )
    left = f", {duration((total - done) / rate)} left" if done < total else ""
    return f"{text}, {speed}{left}"


def duration(seconds: float) -> str:
    """Returns a time in the two largest units that say something.

    Example:
      >>> [duration(seconds) for seconds in (0.4, 59.0, 240.0, 7265.0, 180000.0)]
      ['0 s', '59 s', '4 min', '2 h 1 min', '2 d 2 h']
    """
    whole = round(seconds)
    parts = [
        (whole // 86400, "d"),
        (whole // 3600 % 24, "h"),
        (whole // 60 % 60, "min"),
        (whole % 60, "s"),
    ]
    first = next((i for i, (count, _) in enumerate(parts) if count), 0)
    shown = [f"{count} {unit}" for count, unit in parts[first : first + 2] if count]
    return " ".join(shown) or "0 s"


def number(value: int | float | str) -> str:
    """Returns a number with four significant digits, however small; words as they are.

    Counts, and numbers from a thousand to a thousand million, show all whole digits.

    Example:
      >>> [number(x) for x in (0.9, 1e-5, 12345.6, 0.0, 31030658, "none")]
      ['0.9000', '1.000e-05', '12,346', '0', '31,030,658', 'none']
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int) or 1e3 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:#.4g}".rstrip(".") if value else "0"


def table(
    rows: Sequence[Mapping[str, int | float | str]], columns: Sequence[str]
) -> str:
    """Returns a table as text, numbers flush right; what a row lacks stays empty.

    Args:
      rows: Values by the name of their column.
      columns: Names of the columns, in the order to show.

    Example:
      >>> rows = [{"metric": "IoU", "ours": 0.9203, "baseline": 0.7756}]
      >>> print(table(rows, ["metric", "ours", "baseline"]))
      metric    ours  baseline
      ------  ------  --------
      IoU     0.9203    0.7756
    """
    cells = [[number(row.get(name, "")) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    words = [all(isinstance(row.get(c, ""), str) for row in rows) for c in columns]
    lines: list[list[str]] = [list(columns), ["-" * width for width in widths], *cells]
    return "\n".join(_table_line(line, widths, words) for line in lines)


def _table_line(cells: list[str], widths: list[int], words: list[bool]) -> str:
    aligned = [
        cell.ljust(width) if word else cell.rjust(width)
        for cell, width, word in zip(cells, widths, words, strict=True)
    ]
    return "  ".join(aligned).rstrip()


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _silent(done: int, text: str) -> None:
    """Shows nothing."""


def _plain_lines(
    description: str, total: int, clock: Callable[[], float]
) -> Callable[[int, str], None]:
    """Returns a function that writes a line if a tenth or a minute has passed."""
    tenth, last = -1, clock()

    def show(done: int, text: str) -> None:
        nonlocal tenth, last
        now = clock()
        if 10 * done // max(total, 1) > tenth or now - last >= _LINE_EVERY:
            tenth, last = 10 * done // max(total, 1), now
            print(f"{description}: {text}", flush=True)

    return show


def _show_bar(
    bars: rich.progress.Progress, task: rich.progress.TaskID, done: int, text: str
) -> None:
    bars.update(task, completed=done, status=text)


def _rich_bar(terminal: rich.console.Console) -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.TextColumn("{task.fields[status]}", markup=False),
        console=terminal,
    )
