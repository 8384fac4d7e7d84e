import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetjax.metrics import cells
from unetjax.metrics.cells import CellMetric
from unetjax.metrics.metric import merge_all

few = settings(deadline=None, max_examples=20)
images = hnp.arrays(np.int32, (4, 3, 6), elements=st.integers(0, 3))


def row(text):
    return np.array([[int(c) for c in text.replace(".", "0")]])


A1 = row("1111111111..2222...."), row("..1111111111222..33.")
A2 = row("11112222"), row("11111111")
EMPTY = np.zeros((1, 4), np.int32), np.zeros((1, 4), np.int32)


def measure(truth, predicted):
    """Measures instance maps, any cell being class 1."""
    return CellMetric.from_image(
        (truth > 0).astype(int), truth, (predicted > 0).astype(int), predicted,
        num_classes=2,
    )  # fmt: skip


def total(*pairs):
    return merge_all(measure(*pair) for pair in pairs)


def test_every_score_of_two_images():
    """Two vectors and an image without cells, which no average precision counts."""
    values = total(A1, A2, EMPTY).compute()
    assert values == pytest.approx(
        {
            "accuracy": 25 / 32,
            "iou_0": 6 / 13,
            "iou_1": 19 / 26,
            "mean_iou": (6 / 13 + 19 / 26) / 2,
            "dice_0": 12 / 19,
            "dice_1": 38 / 45,
            "mean_dice": (12 / 19 + 38 / 45) / 2,
            "ap50": 3 / 5,
            "mean_ap_pooled": 33 / 175,
            "mean_ap_per_image": 11 / 60,
            "precision50": 3 / 4,
            "recall50": 3 / 4,
            "f1_50": 3 / 4,
            "matched_iou50": (2 / 3 + 3 / 4 + 1 / 2) / 3,
            "separated_touching": 0.0,
            "separated_close": 1 / 2,
            "num_images": 3.0,
            "num_cells": 4.0,
            "num_touching": 1.0,
            "num_close": 2.0,
        }
    )
    assert all(type(value) is float for value in values.values())


def test_an_extra_cell_costs_precision_and_is_not_counted_as_true():
    values = total(A1).compute()
    assert values["precision50"] == pytest.approx(2 / 3)
    assert (values["recall50"], values["num_cells"]) == (1.0, 2.0)


def test_nothing_to_count_is_nan():
    values = total(EMPTY).compute()
    nan = {name for name, value in values.items() if math.isnan(value)}
    assert nan == {
        *("iou_1", "dice_1", "ap50", "mean_ap_pooled", "mean_ap_per_image"),
        *("precision50", "recall50", "f1_50", "matched_iou50"),
        *("separated_touching", "separated_close"),
    }


@few
@given(images, images)
def test_parts_merge_into_the_whole(truths, predictions):
    """However a data set is cut, and in whatever order, its scores are the same."""
    pairs = list(zip(truths, predictions, strict=True))
    whole = total(*pairs).compute()
    halves = total(*pairs[2:]).merge(total(*pairs[:2]))
    assert halves.compute() == pytest.approx(whole, nan_ok=True)


def test_ignored_pixels_are_removed_from_all_maps():
    """A pixel without annotation is neither cell nor background."""
    truth, predicted = A1
    label = (truth > 0).astype(int)
    label[0, 12:] = -1
    metric = CellMetric.from_image(
        label, truth, (predicted > 0).astype(int), predicted, num_classes=2
    )
    assert metric.confusion.sum() == 12
    np.testing.assert_array_equal(metric.matches.tp[:4], 1)
    assert not metric.matches.fp[:4].any()
    assert not metric.matches.fn[:4].any()


@pytest.mark.parametrize("num_classes", [2, 3])
def test_metric_names_are_those_that_can_choose_a_model(num_classes):
    """All scores, and none of the counts."""
    truth, predicted = A1
    metric = CellMetric.from_image(
        truth, truth, predicted, predicted, num_classes=num_classes + 2
    )
    expected = [n for n in metric.compute() if not n.startswith("num_")]
    assert list(cells.metric_names(num_classes + 2)) == expected
    assert {"mean_iou", f"iou_{num_classes + 1}", "ap50"} <= set(expected)
