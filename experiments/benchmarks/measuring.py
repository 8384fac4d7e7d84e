"""Interleaved measurements: every contender works once in each round."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

_LONG = 0.5  # seconds of work that needs no second call to be warm
_VERY_LONG = 10.0  # seconds of work beside which a cold start is negligible
_PAUSE = 0.005  # seconds until idle threads of the contender before fall asleep

OURS = "unetjax"  # the contender that all ratios refer to


class Contender(NamedTuple):
    """One way to do the work of a case.

    Attributes:
      name: Who does it: `OURS`, or another one.
      run: Does the work n times and returns when it is done; None if it is absent.
      precision: In which numbers it computes.
      compile_seconds: Time of the compiler; without a compiler, that of the first call.
        None where it was not measured.
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
    """A piece of work that several contenders do.

    Attributes:
      workload: The family it belongs to, as `--only` names it.
      name: What is done, with its sizes.
      items: Images (or maps) that one run of the work finishes.
      flops: Operations of one run; 0 where they are not counted.
    """

    workload: str
    name: str
    items: int = 1
    flops: int = 0


class Effort(NamedTuple):
    """How long to measure a case.

    Attributes:
      rounds: Least number of rounds.
      most: Largest number of rounds.
      seconds: Time after which no round begins, once there are enough.
      turn: Least seconds of one turn; shorter work is repeated within it.
      warm_up: Rounds before those that count.
    """

    rounds: int = 5
    most: int = 800
    seconds: float = 20.0
    turn: float = 0.05
    warm_up: int = 0


class Row(NamedTuple):
    """What was measured of one contender; None where there is no value.

    Attributes:
      workload: The family of the case.
      case: Its name.
      name: The contender.
      precision: Its numbers.
      samples: Seconds of one run of the work, for each round.
      median: Median of the samples, in seconds.
      lower: First quartile.
      upper: Third quartile.
      fastest: Minimum.
      ratio: Median over the rounds of its time over that of `OURS` in the same round
        and precision; above 1, ours is faster. A changing load affects both alike.
      rate: Items per second, by the median.
      tflops: 10^12 operations per second, by the median.
      share: Fraction of the rate of the fastest matrix product in the same precision.
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
    peaks: Mapping[str, float] | None = None,
) -> list[Row]:
    """Returns one row for each contender, measured in turns.

    Args:
      case: What is done.
      contenders: Who does it. The absent ones (no `run`) keep their note.
      effort: How long to measure.
      peaks: Operations per second of the fastest matrix product, by precision.
    """
    runs = {(c.name, c.precision): c.run for c in contenders if c.run is not None}
    samples = dict(zip(runs, in_turns(list(runs.values()), effort), strict=True))
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
        theirs = samples.get((c.name, c.precision))
        if theirs:
            ours = samples.get((OURS, c.precision))
            row = _filled(row, case, theirs, ours, (peaks or {}).get(c.precision))
        rows.append(row)
    return rows


def _filled(
    row: Row,
    case: Case,
    theirs: Sequence[float],
    ours: Sequence[float] | None,
    peak: float | None,
) -> Row:
    """A row with all that follows from the samples."""
    lower, median, upper = map(float, np.quantile(theirs, [0.25, 0.5, 0.75]))
    flops = case.flops / median
    ratio = None
    if ours:
        ratio = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
    return row._replace(
        samples=theirs,
        median=median,
        lower=lower,
        upper=upper,
        fastest=min(theirs),
        ratio=ratio,
        rate=case.items / median,
        tflops=flops / 1e12 if flops else None,
        share=flops / peak if flops and peak else None,
    )


def in_turns(
    runs: Sequence[Callable[[int], object]], effort: Effort
) -> list[list[float]]:
    """Returns the seconds of one piece of work, for every contender and round.

    In each round every contender works once: A B A B. Work that is too short for the
    clock is repeated within its turn. Each turn is preceded by a run that is not timed,
    which warms memory and caches: otherwise, where the system has to fetch memory anew
    as on virtual machines, a contender with more memory would pay for the turn before.
    For work of many seconds this does not matter.
    """
    firsts = [seconds(run) for run in runs]  # warms up
    repeats = [
        1 if first > _LONG else _repeats(run, effort.turn)
        for run, first in zip(runs, firsts, strict=True)
    ]
    for _ in range(effort.warm_up):
        for run, n in zip(runs, repeats, strict=True):
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


def _repeats(run: Callable[[int], object], turn: float) -> int:
    """How often to repeat the work in one turn."""
    return max(1, math.ceil(turn / max(seconds(run), 1e-6)))
