import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetjax.reporting import charts
from unetjax.reporting.charts import Chart, Curve
from unetjax.reporting.records import Record


def points_of(element):
    """The points of a polyline or polygon as an array [N, 2]."""
    return np.array([p.split(",") for p in element.get("points").split()], float)


def draw(steps, values, *, log=False):
    return parse(Chart("loss", [Curve("train", steps, values)], log=log))


def parse(chart):
    return ElementTree.fromstring(charts.svg(chart))


@given(
    st.floats(-1e30, 1e30).filter(lambda x: x == 0 or abs(x) > 1e-30),
    st.floats(1e-3, 1e6),
)
def test_ticks_are_few_and_enclose_the_values(low, factor):
    high = low + abs(low) * factor
    marks = charts.ticks(low, high)
    assert 2 <= len(marks) <= 8
    rounding = 1e-9 * (abs(low) + abs(high))
    assert marks[0] - rounding <= low <= high <= marks[-1] + rounding
    assert marks == sorted(set(marks))


@given(st.floats(1e-30, 1e30), st.floats(1.0, 1e30))
def test_log_ticks_are_few_and_enclose_the_values(low, factor):
    marks = charts.log_ticks(low, low * factor)
    assert 2 <= len(marks) <= 9
    rounding = 1 + 1e-9
    assert marks[0] / rounding <= low <= low * factor <= marks[-1] * rounding
    assert marks == sorted(set(marks))


def test_ticks_are_round():
    assert charts.ticks(0.07, 0.33) == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert charts.ticks(5.0, 5.0) == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert charts.log_ticks(0.53, 0.68) == [0.5, 0.55, 0.6, 0.65, 0.7]
    assert charts.log_ticks(3e-5, 0.2) == [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]


@pytest.mark.parametrize(
    ("values", "log"), [([0.0, 1.0, 2.0], False), ([0.1, 1.0, 10.0], True)]
)
def test_a_straight_line_is_straight(values, log):
    """Equal differences of value, or of its logarithm, have equal heights."""
    drawn = points_of(draw([0, 50, 100], values, log=log).find(".//polyline"))
    np.testing.assert_allclose(drawn[0] + drawn[2], 2 * drawn[1], atol=0.11)
    assert (np.diff(drawn, axis=0) * [1, -1] > 50).all()


def test_points_that_cannot_be_drawn_are_left_out():
    values = [1.0, math.nan, math.inf, 0.0, -1.0, 2.0]
    assert len(points_of(draw(range(6), values, log=True).find(".//polyline"))) == 2
    assert len(points_of(draw(range(6), values).find(".//polyline"))) == 4


@pytest.mark.parametrize("values", [[], [math.nan]])
def test_a_curve_without_points_says_so(values):
    picture = draw(range(len(values)), values)
    assert "".join(picture.itertext()) == "nothing to draw"


def test_few_points_are_dots_with_their_values():
    picture = draw([100, 2000], [0.25, 1e-5])
    hints = [title.text for title in picture.iterfind(".//circle/title")]
    assert hints == ["100: 0.250", "2,000: 1.00e-05"]


def test_a_long_curve_is_binned_and_keeps_its_peak():
    """100,000 steps would be megabytes of SVG; a subsampled curve would lose peaks."""
    values = np.ones(100_000)
    values[70_001] = 50.0
    picture = draw(range(100_000), values.tolist())
    band, mean = (
        points_of(picture.find(".//polygon")),
        points_of(picture.find(".//polyline")),
    )
    assert len(band) == 240
    assert len(mean) == 120
    top = points_of(draw([0, 1], [1.0, 50.0]).find(".//polyline"))[1, 1]
    assert band[:, 1].min() == top
    assert mean[:, 1].min() > top + 100


def test_tick_labels_are_at_their_values():
    picture = draw([0, 1000], [0.0, 1.0])
    labels = {text.text: text for text in picture.iterfind(".//text")}
    drawn = points_of(picture.find(".//polyline"))
    assert [float(labels["1,000"].get("x")), float(labels["1"].get("y")) - 4] == list(
        drawn[1]
    )


def test_curves_come_from_records():
    records = [
        Record(1, "train", {"loss": 0.5, "note": "x"}),
        Record(1, "validation", {"loss": 9.0}),
        Record(2, "train", {"note": "y"}),
        Record(3, "train", {"loss": 0.25}),
    ]
    curve = charts.curve(records, "train", "loss")
    assert curve == Curve("train loss", [1, 3], [0.5, 0.25])
    assert charts.curve(records, "train", "note").values == []


def test_histograms_share_their_bins_and_count_every_value():
    values = {"truth": [0.0, 3.0, 10.0], "prediction": [9.9, 10.0, 10.0, 1.0]}
    chart = charts.histogram("cells", values, horizontal="pixels", bins=10)
    for curve in chart.curves:
        assert curve.steps == pytest.approx(np.repeat(range(12), 2))
    counts = [curve.values[1::2] for curve in chart.curves]  # after each left edge
    assert counts[0][:-1] == [1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert [sum(each) for each in counts] == [3, 4]
    outlines = parse(chart).findall(".//polyline")
    assert len(outlines) == 2
    assert points_of(outlines[1])[:, 1].min() == 8  # two in one bin: the highest mark


def test_a_histogram_of_nothing_is_drawn():
    values = {"truth": [], "prediction": []}
    chart = charts.histogram("cells", values, horizontal="px")
    assert len(parse(chart).findall(".//polyline")) == 2
