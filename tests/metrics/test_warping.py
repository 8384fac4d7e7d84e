import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from unetjax.metrics import warping
from unetjax.metrics.warping import Mismatches, mismatches, warp

few = settings(deadline=None, max_examples=60)
slices = hnp.arrays(bool, (8, 9))
graded = hnp.arrays(np.float32, (8, 9), elements=st.sampled_from([0, 0.2, 0.6, 0.9]))
NONE = Mismatches(0, 0, 0, 0, 0, 0)
EIGHT = np.ones((3, 3))


def picture(*rows):
    """Rows of # and ., with an empty row above and below."""
    return np.pad([[c == "#" for c in row] for row in rows], ((1, 1), (0, 0)))


TWO = picture(".##.##.", ".##.##.")
ONE = picture(".#####.", ".#####.")
BLOCK = np.pad(np.ones((3, 3), bool), 1)
HOLE = BLOCK & ~np.pad(np.ones((1, 1), bool), 2)
DOT, DOTS = picture(".#..."), picture(".#.#.")


@pytest.mark.parametrize(
    ("label", "prediction", "left", "disagreement"),
    [
        (TWO, TWO, {}, 0),
        (TWO, picture(".#..##.", ".#..##."), {}, 2),
        (TWO, picture(".#####.", ".##.##."), {"merges": 1}, 1),
        (TWO, ONE, {"merges": 2}, 2),
        (ONE, TWO, {"splits": 1}, 2),
        (DOTS, DOT, {"object_deletions": 1}, 1),
        (DOT, DOTS, {"object_additions": 1}, 1),
        (BLOCK, HOLE, {"hole_additions": 1}, 1),
        (HOLE, BLOCK, {"hole_deletions": 1}, 1),
    ],
)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9])
def test_vectors(label, prediction, left, disagreement, threshold):
    errors = mismatches(label, prediction.astype(np.float32), threshold=threshold)
    assert errors == NONE._replace(**left)
    assert (label != prediction).sum() == disagreement


def test_where_the_errors_are():
    merged = warp(TWO, ONE.astype(float), threshold=0.5) != ONE
    np.testing.assert_array_equal(np.argwhere(merged), [[1, 3], [2, 3]])
    split = warp(ONE, TWO.astype(float), threshold=0.5) != TWO
    np.testing.assert_array_equal(np.argwhere(split), [[2, 3]])


def test_simple_pixels_are_those_of_yokoi():
    """Those whose number of pieces (Yokoi, Toriwaki and Fukumura 1975) is one."""
    clockwise = (4, 2, 1, 0, 3, 5, 6, 7)  # from the right, in places of the ring
    for ring in range(256):
        x = [ring >> k & 1 for k in clockwise]
        pieces = sum(x[k] - x[k] * x[k + 1] * x[(k + 2) % 8] for k in (0, 2, 4, 6))
        assert warping.is_simple(ring) == (pieces == 1), ring


def pieces(white):
    return ndimage.label(white)[1], ndimage.label(
        np.pad(~white, 1, constant_values=1), EIGHT
    )[1]


@few
@given(slices, graded, st.sampled_from([0.1, 0.5, 0.8]))
def test_warping_keeps_cells_and_holes(label, probability, threshold):
    warped = warp(label, probability, threshold=threshold)
    assert pieces(warped) == pieces(label)
    errors = (probability > threshold) != warped
    assert errors.sum() <= ((probability > threshold) != label).sum()
    assert sum(mismatches(label, probability, threshold=threshold)) == errors.sum()


def visit(label, probability, threshold):
    """The rounds as defined, each pixel decided by its 3 x 3 patch."""
    source = np.pad(label, 1)
    target = np.pad(probability.astype(float) > threshold, 1)
    far = np.pad(np.float32(abs(probability.astype(float) - threshold)), 1)
    before = None
    while (source != target).sum() not in (0, before):
        before = (source != target).sum()
        columns, rows = np.nonzero((source != target).T)
        visits = sorted(zip(rows, columns, strict=True), key=lambda at: -far[at])
        for y, x in visits:
            ring = source[y - 1 : y + 2, x - 1 : x + 2].copy()
            ring[1, 1] = False
            cells = ndimage.label(ring)[0]
            ring[1, 1] = True
            touching = set(cells[[0, 1, 1, 2], [1, 0, 2, 1]]) - {0}
            if len(touching) == 1 and ndimage.label(~ring, EIGHT)[1] == 1:
                source[y, x] ^= True
    return source[1:-1, 1:-1]


def name(warped, y, x):
    """The kind of a mismatch, by the table of the definition."""

    def ids(image):
        near = np.pad(ndimage.label(image)[0], 1)[y : y + 3, x : x + 3]
        return set(np.delete(near.ravel(), 4).tolist())

    seen, white = ids(warped), warped[y, x]
    if seen == {0}:
        return "object_deletions" if white else "object_additions"
    if len(seen) == 1:
        return "hole_additions" if white else "hole_deletions"
    if len(seen) > 2:
        return "splits" if white else "merges"
    if not white:
        return "hole_additions"
    without = warped.copy()
    without[y, x] = False
    return "splits" if len(ids(without)) > 2 else "hole_deletions"


@settings(deadline=None, max_examples=150)
@given(slices, graded, st.sampled_from([0.0, 0.4, 0.8]))
def test_the_table_of_rings_equals_one_patch_at_a_time(label, probability, threshold):
    expected = visit(label, probability, threshold)
    actual = warp(label, probability, threshold=threshold)
    np.testing.assert_array_equal(actual, expected)
    wrong = np.argwhere(expected != (probability > threshold))
    names = [name(expected, *at) for at in wrong]
    errors = mismatches(label, probability, threshold=threshold)
    assert errors == Mismatches(*(names.count(each) for each in Mismatches._fields))


@pytest.mark.parametrize(("gap", "kind"), [(9, "hole_deletions"), (30, "splits")])
def test_a_cell_splits_if_it_does_within_20_pixels(gap, kind):
    """A ring that closes outside this window counts as open."""
    ring = np.zeros((60, 60), bool)
    ring[5 : 7 + gap, 5 : 7 + gap] = True
    ring[6 : 6 + gap, 6 : 6 + gap] = False
    cut = ring.astype(np.float32)
    cut[5, 5 + gap // 2] = 0
    errors = mismatches(ring, cut, threshold=0.5)
    assert errors == NONE._replace(**{kind: 1})


def test_order_of_visits():
    """The farthest from the threshold first; ties by column, then row."""
    label = picture("###")
    for near, kept in [((0, 2), 1), ((0, 1), 1), ((1, 2), 2), ((), 2)]:
        probability = np.zeros(label.shape, np.float32)
        probability[1, list(near)] = 0.1
        assert np.argwhere(warp(label, probability, threshold=0.2)).tolist() == [
            [1, kept]
        ]
