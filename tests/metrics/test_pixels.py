import numpy as np
import pytest

from unetjax.metrics.pixels import PixelMetric


def scores(label, probability, **options):
    return PixelMetric.from_image(
        np.asarray(label), np.asarray(probability, float), **options
    ).compute()


def test_counts_worked_by_hand():
    found = scores([[1, 1, 1, 0, 0, 0, 1, 1]], [[1, 1, 0, 0, 1, 0, 1, 1]])
    assert found["dice"] == pytest.approx(0.8)
    assert found["iou"] == pytest.approx(4 / 6)
    assert found["sensitivity"] == pytest.approx(4 / 5)
    assert found["precision"] == pytest.approx(4 / 5)
    assert found["specificity"] == pytest.approx(2 / 3)
    assert found["accuracy"] == 0.75
    assert found["f1"] == pytest.approx(found["dice"])  # without tolerance


def test_a_line_one_pixel_aside_is_found_within_the_tolerance():
    """The Dice of thin lines is 0 as soon as they are drawn one pixel aside."""
    line, aside = np.zeros((20, 20), int), np.zeros((20, 20))
    line[10], aside[11] = 1, 1
    assert scores(line, aside)["dice"] == 0
    assert scores(line, aside)["f1"] != 1
    assert scores(line, aside, tolerance=1.0)["f1"] == 1
    assert scores(line, aside)["surface_distance"] == 1
    half = np.where(np.arange(20) < 10, aside, 0)
    found = scores(line, half, tolerance=1.0)
    recall = 10 / 20  # no diagonal neighbour is within reach
    assert found["f1"] == pytest.approx(2 * recall / (1 + recall))


def test_the_area_under_the_curve_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, (30, 40))
    probability = (rng.integers(0, 1000, (30, 40)) + 300 * label).clip(0, 999) / 1000
    positive, negative = probability[label == 1], probability[label == 0]
    wins = (positive[:, None] > negative).mean()
    ties = (positive[:, None] == negative).mean()
    assert scores(label, probability)["auc"] == pytest.approx(wins + ties / 2, abs=1e-3)
    assert scores(label, label)["auc"] == 1
    assert scores(label, 1 - label)["auc"] == 0


def test_pixels_outside_of_the_field_of_view_do_not_count():
    label = np.array([[1, 0, -1, -1]])
    inside = scores([[1, 0]], [[1, 0]], tolerance=2.0)
    outside = scores(label, [[1, 0, 1, 1]], tolerance=2.0)
    del inside["surface_distance"], outside["surface_distance"]
    assert inside == outside


def test_images_without_foreground_are_counted_and_change_no_mean():
    empty, full = np.zeros((4, 4), int), np.ones((4, 4), int)
    nothing = PixelMetric.from_image(empty, np.zeros((4, 4)))
    all_of_it = PixelMetric.from_image(full, np.ones((4, 4)))
    assert np.isnan(nothing.compute()["dice"])
    both = nothing.merge(all_of_it).compute()
    assert both["dice_per_image"] == both["dice"] == 1
    assert both["num_empty"] == 1
    assert both["num_images"] == 2
    invented = PixelMetric.from_image(empty, np.ones((4, 4))).compute()
    assert invented["dice"] == 0


def test_pooled_and_mean_dice_differ():
    one = PixelMetric.from_image(np.array([[1, 0]]), np.array([[1.0, 0.0]]))
    large = PixelMetric.from_image(np.ones((4, 4), int), np.zeros((4, 4)))
    merged = one.merge(large).compute()
    assert merged["dice_per_image"] == 0.5
    assert merged["dice"] == pytest.approx(2 / 18)


@pytest.mark.parametrize("value", [-0.1, 255.0, np.nan])
def test_values_that_are_no_probabilities_are_refused(value):
    with pytest.raises(ValueError, match="probability must be from 0 to 1"):
        PixelMetric.from_image(np.ones((2, 2), int), np.full((2, 2), value))
