import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from unetjax.metrics import overlap

few = settings(deadline=None, max_examples=50)


def digits(text):
    return np.array([int(c) for c in text.split()])


FIRST = digits("1 1 1 0 0 0 1 1"), digits("1 1 0 0 1 0 1 1")
SECOND = digits("1 1 1 1"), digits("1 0 0 0")
THREE = digits("0 0 1 1 2 2 2 0"), digits("0 1 1 1 2 2 0 0")
count2 = functools.partial(overlap.confusion, num_classes=2)
pairs_of_maps = hnp.arrays(np.int64, (2, 30), elements=st.integers(-1, 2))


def test_vector_of_two_classes():
    counts = count2(*FIRST)
    np.testing.assert_array_equal(counts, [[2, 1], [1, 4]])
    assert counts.dtype == np.int64
    assert overlap.accuracy(counts) == 0.75
    np.testing.assert_allclose(overlap.iou(counts), [1 / 2, 2 / 3])
    np.testing.assert_allclose(overlap.dice(counts), [2 / 3, 0.8])
    assert overlap.class_mean(overlap.iou(counts)) == pytest.approx(7 / 12)
    assert overlap.class_mean(overlap.dice(counts)) == pytest.approx(11 / 15)


def test_an_absent_class_is_left_out_of_the_mean():
    counts = overlap.confusion(*THREE, num_classes=4)
    assert overlap.accuracy(counts) == 0.75
    np.testing.assert_allclose(overlap.iou(counts), [1 / 2, 2 / 3, 2 / 3, np.nan])
    np.testing.assert_allclose(overlap.dice(counts), [2 / 3, 0.8, 0.8, np.nan])
    assert overlap.class_mean(overlap.iou(counts)) == pytest.approx(0.611111, abs=1e-6)
    assert overlap.class_mean(overlap.dice(counts)) == pytest.approx(0.755556, abs=1e-6)


def test_a_class_that_is_only_predicted_scores_zero():
    counts = count2(digits("0 0"), digits("0 1"))
    np.testing.assert_array_equal(overlap.iou(counts), [0.5, 0.0])


def test_pooled_is_not_the_mean_of_images():
    pooled = overlap.iou(count2(*FIRST) + count2(*SECOND))
    np.testing.assert_allclose(pooled, [2 / 7, 1 / 2])
    images = [overlap.iou(count2(*pair))[1] for pair in (FIRST, SECOND)]
    assert np.mean(images) == pytest.approx(0.458333, abs=1e-6)


def test_without_annotation_scores_are_nan():
    counts = count2(np.full(4, -1), np.ones(4, int))
    assert not counts.any()
    assert np.isnan(overlap.accuracy(counts))
    assert np.isnan(overlap.class_mean(overlap.dice(counts)))


@few
@given(pairs_of_maps)
def test_counts_of_halves_add_and_ignored_pixels_do_not_count(maps):
    """Against a count of every pair of classes, and pooled over two halves."""
    label, predicted = maps[0], np.abs(maps[1])
    count = functools.partial(overlap.confusion, num_classes=3)
    counts = count(label, predicted)
    naive = [
        [((label == i) & (predicted == j)).sum() for j in range(3)] for i in range(3)
    ]
    np.testing.assert_array_equal(counts, naive)
    halves = count(label[:11], predicted[:11]) + count(label[11:], predicted[11:])
    np.testing.assert_array_equal(counts, halves)


@few
@given(pairs_of_maps)
def test_dice_is_a_function_of_iou(maps):
    counts = overlap.confusion(maps[0], np.abs(maps[1]), num_classes=3)
    iou = overlap.iou(counts)
    np.testing.assert_allclose(overlap.dice(counts), 2 * iou / (1 + iou))


def test_pixel_error_is_that_of_the_best_threshold():
    """0.2 for the vector; the plain disagreement would be 0.25."""
    vector, nothing = count2(*FIRST), count2(FIRST[0], np.zeros(8, int))
    assert overlap.pixel_error(np.stack([nothing, vector])) == pytest.approx(0.2)
    assert overlap.pixel_error(nothing[None]) == 1
    assert np.isnan(overlap.pixel_error(np.array([[[4, 0], [0, 0]]])))


def test_everything_white_on_real_membranes(shared_data):
    """The floor of the challenge's pixel error, here on 24 of its 30 slices."""
    folder = shared_data / "isbi2012_em/labels"
    labels = [np.asarray(Image.open(path)) > 0 for path in sorted(folder.glob("*.png"))]
    label = np.stack(labels).astype(int)
    counts = count2(label, np.ones_like(label))
    white = label.mean()
    assert overlap.pixel_error(counts[None]) == pytest.approx(
        1 - 2 * white / (1 + white)
    )
    assert overlap.pixel_error(counts[None]) == pytest.approx(0.123, abs=0.005)


def test_small_integers_do_not_wrap():
    """Codes of pairs of classes reach K^2, past the range of 8 bits."""
    label = np.full(3, 200, np.uint8)
    assert overlap.confusion(label, label, num_classes=201)[200, 200] == 3


@pytest.mark.parametrize(
    ("label", "predicted", "message"),
    [
        ([0, 1], [0, 1, 1], r"size of label, \(2,\), got \(3,\); crop or pad"),
        ([0, 2], [0, 1], "label must have classes from 0 to 1, got 0 to 2"),
        ([0, 1], [0, 255], "predicted must have classes from 0 to 1, got 0 to 255"),
        ([0, 1], [0, -1], "predicted must have classes from 0 to 1, got -1 to 0"),
    ],
)
def test_messages(label, predicted, message):
    with pytest.raises(ValueError, match=message):
        count2(np.array(label), np.array(predicted))


@few
@given(pairs_of_maps)
def test_accuracy_is_the_fraction_of_pixels_with_the_right_class(maps):
    label, predicted = np.abs(maps)
    counts = overlap.confusion(label, predicted, num_classes=3)
    assert overlap.accuracy(counts) == pytest.approx(np.mean(label == predicted))
