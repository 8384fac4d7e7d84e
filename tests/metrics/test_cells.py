import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetjax.metrics import cells

few = settings(deadline=None, max_examples=20)
images = hnp.arrays(np.int32, (4, 3, 6), elements=st.integers(0, 3))


def row(text):
    return np.array([[int(c) for c in text.replace(".", "0")]])


A1 = row("1111111111..2222...."), row("..1111111111222..33.")
A2 = row("11112222"), row("11111111")
EMPTY = np.zeros((1, 4), np.int32), np.zeros((1, 4), np.int32)


def score(truth, predicted):
    """Scores instance maps, any cell being class 1."""
    return cells.score(
        (truth > 0).astype(int), truth, (predicted > 0).astype(int), predicted,
        num_classes=2,
    )  # fmt: skip


def total(*pairs):
    return functools.reduce(cells.add, (score(*pair) for pair in pairs))


def test_every_score_of_two_images():
    """Two vectors and an image without cells, which no average precision counts."""
    values = cells.summary(total(A1, A2, EMPTY))
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
    values = cells.summary(total(A1))
    assert values["precision50"] == pytest.approx(2 / 3)
    assert (values["recall50"], values["num_cells"]) == (1.0, 2.0)


def test_nothing_to_count_is_nan():
    values = cells.summary(total(EMPTY))
    nan = {name for name, value in values.items() if math.isnan(value)}
    assert nan == {
        *("iou_1", "dice_1", "ap50", "mean_ap_pooled", "mean_ap_per_image"),
        *("precision50", "recall50", "f1_50", "matched_iou50"),
        *("separated_touching", "separated_close"),
    }


@few
@given(images, images)
def test_halves_add_to_the_whole(truths, predictions):
    """However a data set is cut, and in whatever order, its scores are the same."""
    pairs = list(zip(truths, predictions, strict=True))
    whole = cells.summary(total(*pairs))
    halves = cells.add(total(*pairs[2:]), total(*pairs[:2]))
    assert cells.summary(halves) == pytest.approx(whole, nan_ok=True)


def test_ignored_pixels_are_removed_from_all_maps():
    """A pixel nobody annotated is neither cell nor background."""
    truth, predicted = A1
    label = (truth > 0).astype(int)
    label[0, 12:] = -1
    scores = cells.score(
        label, truth, (predicted > 0).astype(int), predicted, num_classes=2
    )
    assert scores.confusion.sum() == 12
    np.testing.assert_array_equal(scores.matches.tp[:4], 1)
    assert not scores.matches.fp[:4].any()
    assert not scores.matches.fn[:4].any()
