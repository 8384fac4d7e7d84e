"""Curves as SVG: axes with round ticks, lines that stay readable with many points."""

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from unetjax.reporting import console
from unetjax.reporting.records import Record

_WIDTH, _HEIGHT = 420, 256
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 18, 8, 46  # margins around the axes
_DOTS = 40  # up to so many points are marked one by one
_BINS = 120  # beyond twice as many points: mean and range of so many bins


class Curve(NamedTuple):
    """One line of a chart.

    Attributes:
      name: What the legend calls it.
      steps: Where it was measured, ascending.
      values: What was measured; points that are not finite are left out.
    """

    name: str
    steps: Sequence[int | float]
    values: Sequence[int | float]


class Chart(NamedTuple):
    """Curves that share their axes.

    Attributes:
      title: What the curves show, with its unit.
      curves: Lines, drawn in the order given.
      log: The vertical axis is logarithmic; points at 0 and below are left out.
      horizontal: Name of the horizontal axis.
    """

    title: str
    curves: Sequence[Curve]
    log: bool = False
    horizontal: str = "step"


class Histogram(NamedTuple):
    """How often values fall into bins, for several sets of them.

    Attributes:
      title: What is counted.
      edges: Ends of the bins, ascending; one more than there are bins.
      counts: Number of values in every bin, by the name of the set.
      horizontal: Name of the horizontal axis, with its unit.
    """

    title: str
    edges: Sequence[float]
    counts: Mapping[str, Sequence[int]]
    horizontal: str


def count(
    title: str,
    values: Mapping[str, Sequence[float]],
    *,
    horizontal: str,
    bins: int = 24,
) -> Histogram:
    """Returns the histogram of sets of values, all with the same bins from 0 on.

    Args:
      title: What is counted.
      values: Finite numbers of at least 0, by the name of their set.
      horizontal: Name of the horizontal axis, with its unit.
      bins: How many bins the largest value asks for.

    Example:
      >>> count("cells", {"true": [1.0, 4.0]}, horizontal="pixels", bins=4).counts
      {'true': [0, 1, 0, 0, 1]}
    """
    size = max((x for group in values.values() for x in group), default=1.0) / bins
    edges = [i * size for i in range(bins + 2)]  # the largest value begins the last bin
    counts = {name: [0] * (bins + 1) for name in values}
    for name, group in values.items():
        for value in group:
            counts[name][min(int(value / size + 1e-9), bins)] += 1
    return Histogram(title, edges, counts, horizontal)


def names(chart: Chart | Histogram) -> list[str]:
    """Returns the names of the curves or sets of a chart, for its legend."""
    if isinstance(chart, Histogram):
        return list(chart.counts)
    return [line.name for line in chart.curves]


def curve(records: Iterable[Record], kind: str, name: str) -> Curve:
    """Returns the curve of the value `name` over the records of one kind.

    Example:
      >>> curve([Record(10, "train", {"loss": 0.5})], "train", "loss")
      Curve(name='train loss', steps=[10], values=[0.5])
    """
    points = [
        (r.step, r.values[name]) for r in records if r.kind == kind and name in r.values
    ]
    numbers = [(step, value) for step, value in points if not isinstance(value, str)]
    steps, values = [step for step, _ in numbers], [value for _, value in numbers]
    return Curve(f"{kind} {name}", steps, values)


def node(
    tag: str, *children: str | ElementTree.Element, **attributes: object
) -> ElementTree.Element:
    """Returns an element of HTML or SVG, whose text is escaped when it is written.

    Args:
      tag: Name of the element.
      *children: A text, or elements in their order.
      **attributes: By name; `class_` is class, and other underscores are hyphens.

    Example:
      >>> ElementTree.tostring(node("b", "1 < 2", class_="x"), encoding="unicode")
      '<b class="x">1 &lt; 2</b>'
    """
    named = {k.rstrip("_").replace("_", "-"): str(v) for k, v in attributes.items()}
    element = ElementTree.Element(tag, named)
    for child in children:
        if isinstance(child, ElementTree.Element):
            element.append(child)
        else:
            element.text = child
    return element


def svg(chart: Chart | Histogram) -> ElementTree.Element:
    """Returns the axes and lines of a chart."""
    if isinstance(chart, Histogram):
        return _bars(chart)
    lines = [_points(line, log=chart.log) for line in chart.curves]
    picture = node(
        "svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=chart.title
    )
    steps = [step for line in lines for step, _ in line]
    values = [value for line in lines for _, value in line]
    if not steps:
        text = node("text", "nothing to draw", x=_WIDTH / 2, y=_HEIGHT / 2)
        picture.append(node("g", text, class_="middle"))
        return picture
    low, high = min(0.0, *steps), max(1.0, *steps)
    x_axis = _Axis(ticks(low, high), low, high, _LEFT, _WIDTH - _RIGHT)
    marks = (log_ticks if chart.log else ticks)(min(values), max(values))
    low, high = min(marks[0], *values), max(marks[-1], *values)
    y_axis = _Axis(marks, low, high, _HEIGHT - _BOTTOM, _TOP, chart.log)
    picture.append(_vertical(y_axis))
    picture.append(_horizontal(x_axis, chart.horizontal))
    picture.extend(_line(line, i, x_axis, y_axis) for i, line in enumerate(lines))
    return picture


def ticks(low: float, high: float) -> list[float]:
    """Returns a few evenly spaced round numbers that enclose `low` and `high`.

    Example:
      >>> ticks(0.0, 0.93)
      [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if low == high:
        margin = abs(low) / 2 or 1.0
        low, high = low - margin, high + margin
    size = 10.0 ** math.floor(math.log10((high - low) / 5))
    size = next(size * m for m in (1, 2, 5, 10) if (high - low) / (size * m) <= 5)
    first, last = math.floor(low / size), math.ceil(high / size)
    return [float(f"{i * size:.12g}") for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Returns round numbers that enclose `low` and `high`, both above 0.

    Example:
      >>> log_ticks(0.03, 0.8)
      [0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    """
    if low == high:
        low, high = low / 2, high * 2
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first > 2:
        stride = math.ceil((last - first) / 6)
        return [float(f"1e{k}") for k in range(first, last + stride, stride)]
    marks = [float(f"{m}e{k}") for k in range(first - 1, last + 2) for m in (1, 2, 5)]
    start = max(mark for mark in marks if mark <= low)
    end = min(mark for mark in marks if mark >= high)
    return [mark for mark in marks if start <= mark <= end]


class _Axis(NamedTuple):
    """Maps values from `low` to `high` to pixels from `start` to `end`."""

    marks: list[float]
    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def position(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        part = (value - low) / (high - low)
        return round(self.start + part * (self.end - self.start), 1)


def _bars(chart: Histogram) -> ElementTree.Element:
    """Returns the outline of every set of values, filled lightly."""
    picture = node(
        "svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=chart.title
    )
    high = float(max(1, *(max(counts) for counts in chart.counts.values())))
    marks = [mark for mark in ticks(0.0, high) if mark == int(mark)]
    y_axis = _Axis(marks, 0.0, marks[-1], _HEIGHT - _BOTTOM, _TOP)
    end = chart.edges[-1]
    x_axis = _Axis(ticks(0.0, end), 0.0, end, _LEFT, _WIDTH - _RIGHT)
    picture.append(_vertical(y_axis))
    picture.append(_horizontal(x_axis, chart.horizontal))
    for i, counts in enumerate(chart.counts.values()):
        corners = [(chart.edges[0], 0.0)]
        for left, right, height in zip(
            chart.edges, chart.edges[1:], counts, strict=False
        ):
            corners += [(left, float(height)), (right, float(height))]
        corners.append((end, 0.0))
        points = " ".join(
            f"{x_axis.position(x)},{y_axis.position(y)}" for x, y in corners
        )
        shapes = [node("polygon", points=points), node("polyline", points=points)]
        picture.append(node("g", *shapes, class_=f"c{i % 6}"))
    return picture


def _vertical(axis: _Axis) -> ElementTree.Element:
    group = node("g", class_="axis end")
    for mark in axis.marks:
        y = axis.position(mark)
        group.append(node("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y))
        group.append(node("text", f"{mark:,.10g}", x=_LEFT - 8, y=y + 4))
    return group


def _horizontal(axis: _Axis, name: str) -> ElementTree.Element:
    group = node("g", class_="axis middle")
    for mark in axis.marks:
        if axis.low <= mark <= axis.high:
            x, y = axis.position(mark), _HEIGHT - _BOTTOM
            group.append(node("text", f"{mark:,.10g}", x=x, y=y + 17))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    group.append(node("text", name, x=middle, y=_HEIGHT - 8))
    return group


def _line(
    points: list[tuple[float, float]], index: int, x_axis: _Axis, y_axis: _Axis
) -> ElementTree.Element:
    """Returns one curve: with dots if short, as mean and range of bins if long."""

    def places(drawn: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{x_axis.position(x)},{y_axis.position(y)}" for x, y in drawn)

    group = node("g", class_=f"c{index % 6}")
    if len(points) > 2 * _BINS:
        bins = _bins(points)
        group.append(node("polygon", points=places(_band(bins))))
        group.append(node("polyline", points=places(map(_mean, bins))))
    else:
        group.append(node("polyline", points=places(points)))
    for x, y in points if len(points) <= _DOTS else []:
        hint = node("title", f"{x:,.10g}: {console.number(y)}")
        dot = node("circle", hint, cx=x_axis.position(x), cy=y_axis.position(y), r=2.5)
        group.append(dot)
    return group


def _points(line: Curve, *, log: bool) -> list[tuple[float, float]]:
    return [
        (float(x), float(y))
        for x, y in zip(line.steps, line.values, strict=True)
        if math.isfinite(y) and (y > 0 or not log)
    ]


def _bins(points: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    edges = [i * len(points) // _BINS for i in range(_BINS + 1)]
    return [points[a:b] for a, b in itertools.pairwise(edges)]


def _band(bins: list[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Returns the outline of what lies between least and largest value of each bin."""
    steps = [_mean(b)[0] for b in bins]
    lower = zip(steps, [min(y for _, y in b) for b in bins], strict=True)
    upper = zip(steps, [max(y for _, y in b) for b in bins], strict=True)
    return [*lower, *reversed(list(upper))]


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    xs, ys = zip(*points, strict=True)
    return statistics.fmean(xs), statistics.fmean(ys)
