import re

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetjax.weight_maps.separation import (
    cell_numbers,
    cut_separation_border,
    separation_border,
)

MAPS = hnp.arrays(np.int32, (5, 6), elements=st.sampled_from([0, 1, 2, 70_000]))
BEFORE = [(-1, -1), (-1, 0), (-1, 1), (0, -1)]
AROUND = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]


def by_definition(instances, neighbours):
    """The rules of Falk et al. 2019, pixel by pixel, with plain loops."""
    height, width = instances.shape
    touching = np.zeros(instances.shape, bool)
    for (row, column), cell in np.ndenumerate(instances):
        for y, x in ((row + dy, column + dx) for dy, dx in neighbours):
            if cell and 0 <= y < height and 0 <= x < width:
                touching[row, column] |= instances[y, x] not in (0, cell)
    return touching


@pytest.mark.parametrize(
    ("rule", "row"),
    [("none", [1, 1, 1, 1]), ("one_sided", [1, 1, 0, 1]), ("two_sided", [1, 0, 0, 1])],
)
def test_separation_border_between_two_touching_cells(rule, row):
    instances = np.array([[1, 1, 2, 2]])
    np.testing.assert_array_equal(
        cut_separation_border(np.sign(instances), instances, rule), [row]
    )


@pytest.mark.parametrize(
    ("rule", "pixels"), [("one_sided", [(2, 2)]), ("two_sided", [(1, 1), (2, 2)])]
)
def test_separation_border_where_cells_touch_by_a_corner(rule, pixels):
    instances = np.kron([[1, 0], [0, 2]], np.ones((2, 2), int))
    assert (
        list(zip(*np.nonzero(separation_border(instances, rule)), strict=True))
        == pixels
    )


@given(MAPS)
@settings(deadline=None, max_examples=50)
def test_equals_the_definition(instances):
    """Pixels are judged on the original map, never on the one being written."""
    np.testing.assert_array_equal(
        separation_border(instances), by_definition(instances, BEFORE)
    )
    np.testing.assert_array_equal(
        separation_border(instances, "two_sided"), by_definition(instances, AROUND)
    )


def test_same_under_jit_and_vmap():
    batch = np.random.default_rng(0).integers(0, 4, (3, 5, 6))
    each = np.stack([separation_border(instances) for instances in batch])
    np.testing.assert_array_equal(jax.jit(jax.vmap(separation_border))(batch), each)
    assert 0 < each.sum() < each.size


def test_only_cells_of_one_class_are_separated():
    """A nucleus in a cell body needs no border, nor does a region without cells."""
    label, instances = np.array([[1, 1, 2, 2, 2]]), np.array([[1, 2, 0, 3, 4]])
    np.testing.assert_array_equal(
        cut_separation_border(label, instances), [[1, 0, 2, 2, 0]]
    )
    instances = np.array([[1, 2, 3, 3, 3]])
    np.testing.assert_array_equal(
        cut_separation_border(label, instances), [[1, 0, 2, 2, 2]]
    )


def test_ignored_pixels_stay_ignored():
    label, instances = np.array([[-1, -1]]), np.array([[1, 2]])
    np.testing.assert_array_equal(cut_separation_border(label, instances), [[-1, -1]])


@pytest.mark.usefixtures("as_installed")
def test_unknown_rule_is_refused():
    message = "separation_border must be one of none, one_sided, two_sided, got 'thick'"
    with pytest.raises(ValueError, match=message):
        separation_border(np.array([[1, 2]]), "thick")


def test_numbers_beyond_int32_are_refused():
    message = "instances has cell number 4294967297, which int32 cannot hold"
    with pytest.raises(ValueError, match=message):
        cell_numbers(np.array([[2**32 + 1, 1]]))


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("wrong", [np.zeros((2, 3, 4), int), np.zeros((3, 4))])
def test_anything_but_one_image_of_cell_numbers_is_refused(wrong):
    message = f"jax.vmap, got {wrong.dtype} of shape {re.escape(str([*wrong.shape]))}"
    with pytest.raises(ValueError, match=message):
        cell_numbers(wrong)
