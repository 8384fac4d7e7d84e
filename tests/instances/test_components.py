from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import measure

from unetjax.instances.components import (
    instances_from_probs,
    label_components,
    remove_small,
)
from unetjax.instances.settings import InstanceSettings

few = settings(deadline=None, max_examples=50)
RING = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]) > 0
DIAMOND = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]) > 0


@few
@given(hnp.arrays(bool, (8, 9)), st.sampled_from([1, 2]), st.integers(0, 4))
def test_components_are_those_of_scikit_image(foreground, connectivity, min_size):
    labels = measure.label(foreground, connectivity=connectivity)
    small = [r.label for r in measure.regionprops(labels) if r.area < min_size]
    labels[np.isin(labels, small)] = 0
    expected = measure.label(labels > 0, connectivity=connectivity)
    actual = label_components(foreground, connectivity=connectivity, min_size=min_size)
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == np.int32


@pytest.mark.parametrize(("connectivity", "count"), [(1, 2), (2, 1)])
def test_corners_join_only_where_asked(connectivity, count):
    assert label_components(RING, connectivity=connectivity).max() == count


def test_holes_are_filled_before_sizes_are_compared():
    cells = label_components(RING, fill_holes=True, min_size=9)
    np.testing.assert_array_equal(np.unique(cells, return_counts=True)[1], [7, 9])
    assert not label_components(RING, min_size=9).any()


def test_a_hole_is_what_one_component_encloses():
    """Four cells that meet at corners enclose nothing, one 8-connected cell does."""
    assert label_components(DIAMOND, fill_holes=True)[1, 1] == 0
    assert label_components(DIAMOND, fill_holes=True, connectivity=2)[1, 1] == 1


def test_more_cells_than_16_bits_can_number():
    """Protects from the wrap to 0 at 65,536 that merges cells with the background."""
    foreground = np.zeros((530, 530), bool)
    foreground[::2, ::2] = True
    cells = label_components(foreground)
    np.testing.assert_array_equal(cells[foreground], np.arange(1, 265**2 + 1))


@pytest.mark.parametrize("dtype", [np.uint32, np.int64])
def test_cells_of_any_number_are_kept(dtype):
    """The numbers at which narrower integers wrap or merge."""
    ids = np.array([[0, 1, 255, 256, 257, 65_535, 65_536, 70_000, 2**31]], dtype)
    np.testing.assert_array_equal(
        remove_small(ids[:, ::-1], 0), np.arange(9)[None, ::-1]
    )


def stack(*foreground):
    """Probabilities of the background and of the given classes."""
    maps = np.array([[p] for p in foreground], np.float32)
    return np.moveaxis(np.concatenate([1 - maps.sum(0, keepdims=True), maps]), 0, -1)


def test_threshold_of_the_foreground_probability():
    """The two classes of one cell add up; exactly one half is background."""
    probs = stack([0.5, 0.75, 0.3, 0.9])
    np.testing.assert_array_equal(instances_from_probs(probs), [[0, 1, 0, 2]])
    every = instances_from_probs(probs, InstanceSettings(threshold=0.25))
    np.testing.assert_array_equal(every, [[1, 1, 1, 1]])


def test_cells_of_several_classes():
    """Background may be the most probable of all and yet less than one half."""
    probs = stack([0.9, 0.3, 0.1, 0.0, 0.8], [0.0, 0.25, 0.8, 0.1, 0.0])
    np.testing.assert_array_equal(instances_from_probs(probs), [[1, 1, 3, 0, 2]])
    np.testing.assert_array_equal(
        instances_from_probs(probs, InstanceSettings(min_size=2)), [[1, 1, 0, 0, 0]]
    )


def test_holes_of_a_prediction():
    probs = np.stack([~RING, 0.9 * RING, 0.1 * RING], axis=-1)
    probs[1, 1] = [0.8, 0.15, 0.05]
    assert instances_from_probs(probs)[1, 1] == 0
    assert instances_from_probs(probs, InstanceSettings(fill_holes=True))[1, 1] == 1


def test_seeds_cut_a_component_and_components_without_one_stay():
    probs = stack([0.9, 0.6, 0.9, 0.9, 0.0, 0.6])
    watershed = InstanceSettings(method="watershed", seed_threshold=0.8)
    cut = instances_from_probs(probs, watershed)
    np.testing.assert_array_equal(cut, [[1, 1, 2, 2, 0, 3]])
    large = instances_from_probs(probs, replace(watershed, min_size=2))
    np.testing.assert_array_equal(large, [[1, 1, 2, 2, 0, 0]])
    np.testing.assert_array_equal(instances_from_probs(probs), [[1, 1, 1, 1, 0, 2]])


def test_a_watershed_keeps_classes_apart():
    probs = stack([0.9, 0.9, 0.1, 0.0], [0.0, 0.0, 0.8, 0.9])
    cells = instances_from_probs(probs, InstanceSettings(method="watershed"))
    np.testing.assert_array_equal(cells, [[1, 1, 2, 2]])


def test_messages():
    with pytest.raises(ValueError, match=r"must be 1 .* or 2 .*, got 8\."):
        label_components(RING, connectivity=8)
    with pytest.raises(ValueError, match=r"at least one class of cells .*, got 1 in"):
        instances_from_probs(np.ones((2, 2, 1)))


@pytest.mark.usefixtures("as_installed")
def test_settings_that_do_not_exist():
    for name in ("threshold", "seed_threshold"):
        message = rf"^{name} must be .* below 1, got 128\.0; it is a probability"
        with pytest.raises(ValueError, match=message):
            InstanceSettings(**{name: 128.0})
    with pytest.raises(ValueError, match=r"method must be one of .*, got 'flood'"):
        InstanceSettings(method="flood")
    with pytest.raises(ValueError, match=r"seeds must be one of .*, got 'maxima'"):
        InstanceSettings(seeds="maxima")
