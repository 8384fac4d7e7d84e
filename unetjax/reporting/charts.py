"""Charts of a report as SVG: curves over steps, and histograms."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unetjax.reporting import console
from unetjax.reporting.records import Record

_WIDTH, _HEIGHT = 420, 256
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 18, 8, 46  # margins around the axes
_DOTS = 40  # up to so many points are marked one by one
_BINS = 120  # above twice as many points, a curve is mean and range of so many bins

Points = Float[np.ndarray, "N 2"]  # x and y


class Curve(NamedTuple):
    """One line of a chart.

    Attributes:
      name: Its name in the legend.
      steps: Horizontal positions, ascending.
      values: Vertical positions; points that are not finite are left out.
    """

    name: str
    steps: Sequence[int | float]
    values: Sequence[int | float]


class Chart(NamedTuple):
    """Curves that share their axes.

    Attributes:
      title: What the curves show, with its unit.
      curves: The curves, drawn in this order.
      log: Whether the vertical axis is logarithmic, without points at 0 and below.
      horizontal: Name of the horizontal axis, with its unit.
      bars: Whether the curves are outlines of histograms, drawn as filled areas.
    """

    title: str
    curves: Sequence[Curve]
    log: bool = False
    horizontal: str = "step"
    bars: bool = False


def histogram(
    title: str,
    values: Mapping[str, Sequence[float]],
    *,
    horizontal: str,
    bins: int = 24,
) -> Chart:
    """Returns the histogram of sets of values, all with the same bins from 0 on.

    Args:
      title: What is counted.
      values: Finite numbers of at least 0, by the name of their set.
      horizontal: Name of the horizontal axis, with its unit.
      bins: Number of bins below the largest value, which is in a further one.

    Example:
      >>> sizes = {"true": [1.0, 4.0]}
      >>> chart = histogram("cells", sizes, horizontal="pixels", bins=2)
      >>> chart.curves[0].steps, chart.curves[0].values
      ([0.0, 0.0, 2.0, 2.0, 4.0, 4.0, 6.0, 6.0], [0, 1, 1, 0, 0, 1, 1, 0])
    """
    high = max((max(group) for group in values.values() if group), default=0.0) or 1.0
    edges = np.append(np.linspace(0, high, bins + 1), high * (1 + 1 / bins))
    curves = []
    for name, group in values.items():
        counts, _ = np.histogram(group, edges)
        heights = np.pad(np.repeat(counts, 2), 1)  # two corners for each edge
        curves.append(Curve(name, np.repeat(edges, 2).tolist(), heights.tolist()))
    return Chart(title, curves, horizontal=horizontal, bars=True)


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


def svg(chart: Chart) -> str:
    """Returns a chart as an SVG element, with the classes that `report.css` styles."""
    lines = [_points(curve, log=chart.log) for curve in chart.curves]
    points = np.concatenate([np.empty((0, 2)), *lines])
    if len(points):
        x_axis, y_axis = _axes(chart, points)
        content = _vertical(y_axis) + _horizontal(x_axis, chart.horizontal)
        draw = _area if chart.bars else _curve
        for i, line in enumerate(lines):
            content += f'<g class="c{i % 6}">{draw(line, x_axis, y_axis)}</g>'
    else:
        middle = f'x="{_WIDTH / 2}" y="{_HEIGHT / 2}"'
        content = f'<g class="middle"><text {middle}>nothing to draw</text></g>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{html.escape(chart.title)}">{content}</svg>'
    )


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

    They are evenly spaced where `high` is less than twice `low`.

    Example:
      >>> log_ticks(0.03, 0.8)
      [0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    """
    if 1.01 < high / low < 2:  # 1, 2 and 5 would be too far apart
        return ticks(low, high)
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

    def position(self, values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        scale = np.log if self.log else np.asarray
        parts = (scale(values) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return np.round(self.start + parts * (self.end - self.start), 1)


def _axes(chart: Chart, points: Points) -> tuple[_Axis, _Axis]:
    (left, bottom), (right, top) = points.min(axis=0), points.max(axis=0)
    left = min(0.0, left)
    if chart.bars:
        marks = [mark for mark in ticks(0.0, max(1.0, top)) if mark == int(mark)]
    else:
        right = max(1.0, right)
        marks = (log_ticks if chart.log else ticks)(bottom, top)
    low, high = min(marks[0], bottom), max(marks[-1], top)
    return (
        _Axis(ticks(left, right), left, right, _LEFT, _WIDTH - _RIGHT),
        _Axis(marks, low, high, _HEIGHT - _BOTTOM, _TOP, chart.log),
    )


def _vertical(axis: _Axis) -> str:
    shapes = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4}">{mark:,.10g}</text>'
        for mark, y in zip(axis.marks, axis.position(np.array(axis.marks)), strict=True)
    )
    return f'<g class="axis end">{shapes}</g>'


def _horizontal(axis: _Axis, name: str) -> str:
    middle, bottom = (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - _BOTTOM
    marks = [mark for mark in axis.marks if axis.low <= mark <= axis.high]
    shapes = "".join(
        f'<text x="{x}" y="{bottom + 17}">{mark:,.10g}</text>'
        for mark, x in zip(marks, axis.position(np.array(marks)), strict=True)
    )
    shapes += f'<text x="{middle}" y="{_HEIGHT - 8}">{html.escape(name)}</text>'
    return f'<g class="axis middle">{shapes}</g>'


def _curve(points: Points, x_axis: _Axis, y_axis: _Axis) -> str:
    """Returns one curve: with dots if short, as mean and range of bins if long."""
    if len(points) > 2 * _BINS:
        bins = np.array_split(points, _BINS)
        means = np.array([part.mean(axis=0) for part in bins])
        low, high = means.copy(), means.copy()
        low[:, 1] = [part[:, 1].min() for part in bins]
        high[:, 1] = [part[:, 1].max() for part in bins]
        band = np.concatenate([low, high[::-1]])
        return _shape("polygon", band, x_axis, y_axis) + _shape(
            "polyline", means, x_axis, y_axis
        )
    dots = points if len(points) <= _DOTS else points[:0]
    return _shape("polyline", points, x_axis, y_axis) + "".join(
        f'<circle cx="{cx}" cy="{cy}" r="2.5"><title>{x:,.10g}: {console.number(y)}'
        "</title></circle>"
        for (x, y), (cx, cy) in zip(
            dots.tolist(), _positions(dots, x_axis, y_axis), strict=True
        )
    )


def _area(points: Points, x_axis: _Axis, y_axis: _Axis) -> str:
    shapes = [_shape(tag, points, x_axis, y_axis) for tag in ("polygon", "polyline")]
    return "".join(shapes)


def _shape(tag: str, points: Points, x_axis: _Axis, y_axis: _Axis) -> str:
    places = " ".join(f"{x},{y}" for x, y in _positions(points, x_axis, y_axis))
    return f'<{tag} points="{places}"/>'


def _positions(points: Points, x_axis: _Axis, y_axis: _Axis) -> Points:
    return np.stack([x_axis.position(points[:, 0]), y_axis.position(points[:, 1])], 1)


def _points(curve: Curve, *, log: bool) -> Points:
    points = np.array([curve.steps, curve.values], np.float64).T
    shown = np.isfinite(points[:, 1]) & ((points[:, 1] > 0) | (not log))
    return points[shown]
