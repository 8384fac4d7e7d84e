"""Measuring in turns: each contender once a round, all on the same machine."""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

_LONG = 0.5  # seconds of work that needs no second call to be warm
_VERY_LONG = 10.0  # seconds of work beside which a cold start is nothing
_PAUSE = 0.005  # seconds in which the idle threads of the library before fall asleep

OURS = "unetjax"  # the contender that all ratios refer to


class Contender(NamedTuple):
    """One way to do the work of a case.

    Attributes:
      name: Who does it: `OURS`, or a peer.
      run: Does the work n times and returns when it is done.
      precision: In which numbers.
      compile_seconds: Time to compile it; of a peer that compiles nothing, of its first
        call. None where nobody measured it.
      memory: Peak memory in bytes, or None.
      note: What a reader must know, or why it is absent.
    """

    name: str
    run: Callable[[int], object] | None
    precision: str = "float32"
    compile_seconds: float | None = None
    memory: int | None = None
    note: str = ""


class Case(NamedTuple):
    """A piece of work that contenders share.

    Attributes:
      workload: The family it belongs to, as `--only` names it.
      name: What is done, with its sizes.
      items: Images (or maps) that one run of the work finishes.
      flops: Operations of one run, counted by `work`; 0 where that says nothing.
    """

    workload: str
    name: str
    items: int = 1
    flops: int = 0


class Effort(NamedTuple):
    """How long to measure a case.

    Attributes:
      rounds: Rounds at least.
      most: Rounds at most.
      seconds: Time after which no round begins, once there are enough.
      turn: Seconds of one turn at least; shorter work is repeated within it.
      warm_up: Rounds before those that count.
    """

    rounds: int = 5
    most: int = 800
    seconds: float = 20.0
    turn: float = 0.05
    warm_up: int = 0


class Row(NamedTuple):
    """What was measured of one contender; None where there is nothing to say.

    Attributes:
      workload: The family of the case.
      case: Its name.
      name: The contender.
      precision: Its numbers.
      samples: Seconds of one run of the work, round by round.
      median: Of the samples, as are `lower` and `upper`, the quartiles, and `fastest`.
      lower: First quartile.
      upper: Third quartile.
      fastest: The least.
      ratio: Median over the rounds of its time over that of `OURS` in the same round
        and precision; above 1, ours is faster.
      rate: Items a second, by the median.
      tflops: 10^12 operations a second, by the median.
      share: Of the fastest matrix product in these numbers, in this run.
      compile_seconds: See `Contender`, as are `memory` and `note`.
      memory: Bytes.
      note: Words.
    """

    workload: str
    case: str
    name: str
    precision: str
    samples: Sequence[float] = ()
    median: float | None = None
    lower: float | None = None
    upper: float | None = None
    fastest: float | None = None
    ratio: float | None = None
    rate: float | None = None
    tflops: float | None = None
    share: float | None = None
    compile_seconds: float | None = None
    memory: int | None = None
    note: str = ""


def measure(
    case: Case,
    contenders: Sequence[Contender],
    effort: Effort,
    *,
    peaks: dict[str, float] | None = None,
) -> list[Row]:
    """Returns one row a contender, all of them measured in turns.

    Args:
      case: What is done.
      contenders: Who does it. The absent ones (no `run`) keep their note.
      effort: How long to measure.
      peaks: Operations a second of the fastest matrix product, by precision.
    """
    present = [c for c in contenders if c.run is not None]
    samples = dict(
        zip(
            [(c.name, c.precision) for c in present],
            in_turns([c.run for c in present if c.run is not None], effort),
            strict=True,
        )
    )
    rows = []
    for c in contenders:
        row = Row(
            case.workload,
            case.name,
            c.name,
            c.precision,
            compile_seconds=c.compile_seconds,
            memory=c.memory,
            note=c.note,
        )
        mine = samples.get((c.name, c.precision))
        if mine is None:
            rows.append(row)
            continue
        ours = samples.get((OURS, c.precision))
        middle = statistics.median(mine)
        lower, upper = quartiles(mine)
        flops = case.flops / middle if case.flops else None
        peak = (peaks or {}).get(c.precision)
        rows.append(
            row._replace(
                samples=mine,
                median=middle,
                lower=lower,
                upper=upper,
                fastest=min(mine),
                ratio=paired_ratio(mine, ours) if ours else None,
                rate=case.items / middle,
                tflops=flops / 1e12 if flops else None,
                share=flops / peak if flops and peak else None,
            )
        )
    return rows


def in_turns(
    runs: Sequence[Callable[[int], object]], effort: Effort
) -> list[list[float]]:
    """Returns the seconds of one piece of work, for every contender and round.

    A round lets everybody work once: A B A B. Work that is too short for the clock is
    repeated within its turn. Before it is measured everybody works once more, so that
    memory and caches are its own again: where the system has to fetch memory anew, as
    virtual machines do, whoever holds more of it would pay for the turn before. Work of
    many seconds outweighs that.
    """
    firsts = [seconds(run) for run in runs]  # warms up
    repeats = [
        1 if first > _LONG else _repeats(run, effort.turn)
        for run, first in zip(runs, firsts, strict=True)
    ]
    for _, (run, n) in itertools.product(
        range(effort.warm_up), list(zip(runs, repeats, strict=True))
    ):
        run(n)
    samples: list[list[float]] = [[] for _ in runs]
    start = time.perf_counter()
    for done in range(effort.most):
        if done >= effort.rounds and time.perf_counter() - start > effort.seconds:
            break
        for run, n, first, mine in zip(runs, repeats, firsts, samples, strict=True):
            time.sleep(_PAUSE)
            if first < _VERY_LONG:
                run(1)
            mine.append(seconds(run, n) / n)
    return samples


def seconds(run: Callable[[int], object], n: int = 1) -> float:
    """Returns how long n runs take together."""
    start = time.perf_counter()
    run(n)
    return time.perf_counter() - start


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """Returns the first and third quartile, between samples interpolated linearly.

    Example:
      >>> quartiles([1.0, 2.0, 3.0, 4.0, 5.0]), quartiles([7.0])
      ((2.0, 4.0), (7.0, 7.0))
    """
    if len(samples) == 1:
        return samples[0], samples[0]
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return first, third


def paired_ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Returns the median over rounds of their time over ours.

    A load that comes and goes hits both sides of a round, and cancels.

    Example:
      >>> paired_ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0])
      2.0
    """
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def _repeats(run: Callable[[int], object], turn: float) -> int:
    """How often to repeat the work in one turn."""
    return max(1, math.ceil(turn / max(seconds(run), 1e-6)))
