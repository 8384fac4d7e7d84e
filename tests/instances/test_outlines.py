"""Filling the outlines must give the label image back."""

import numpy as np
import pytest
from skimage import measure

from unetjax.instances import outlines


def fill(polygons, shape):
    """Pixels whose centre is inside, by the even-odd rule over all rings."""
    rows, columns = np.indices(shape)
    centres = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
    inside = np.zeros(len(centres), int)
    for polygon in polygons:
        for ring in polygon.rings:
            inside += measure.points_in_poly(centres, ring)
    return (inside % 2 == 1).reshape(shape)


def assert_filled(instances):
    found = outlines.trace_objects(instances)
    assert sorted(found) == sorted(set(instances.flat) - {0})
    for number, polygons in found.items():
        np.testing.assert_array_equal(
            fill(polygons, instances.shape), instances == number
        )
        for polygon in polygons:
            for ring in polygon.rings:
                assert len(set(map(tuple, ring))) == len(ring)  # touches itself nowhere
    return found


@pytest.mark.parametrize("seed", range(8))
def test_filling_gives_the_labels_back(seed):
    """Numbers at random have every kind of corner, hole and piece."""
    rng = np.random.default_rng(seed)
    assert_filled(rng.integers(0, 2 + seed % 3, (14, 17)))


def test_holes_and_pieces():
    instances = np.zeros((7, 9), int)
    instances[:5, :5] = 3
    instances[1, 1] = instances[2, 2] = 0  # two holes that touch at a corner
    instances[5, 5] = 3  # touches the other piece at a corner alone
    instances[3, 3] = 8  # within another object
    found = assert_filled(instances)
    large, small = found[3]
    assert len(large.holes) == 3
    assert small.exterior.tolist() == [[5, 5], [6, 5], [6, 6], [5, 6]]
    assert len(found[8]) == 1


def test_straight_edges_have_no_corners():
    (piece,) = outlines.trace_objects(np.ones((5, 1000), int))[1]
    assert sorted(map(tuple, piece.exterior)) == [(0, 0), (0, 5), (1000, 0), (1000, 5)]
    assert outlines.trace_objects(np.zeros((4, 4), int)) == {}
