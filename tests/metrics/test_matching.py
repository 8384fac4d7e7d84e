import importlib.metadata
import importlib.util
import itertools
import sys
import types

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage, optimize

from unetjax.metrics import matching
from unetjax.metrics.matching import match

few = settings(deadline=None, max_examples=50)


def row(text):
    return np.array([[int(c) for c in text.replace(".", "0")]])


A1 = row("1111111111..2222...."), row("..1111111111222..33.")
A2 = row("11112222"), row("11111111")
A3 = row("222111111111"), row("111111111222")
THRESHOLDS = (0.05, 0.1, 0.3, *matching.THRESHOLDS, 1.0)

# Small maps of few cells are full of ties, merges and splits.
maps = hnp.arrays(np.int64, (4, 6), elements=st.integers(0, 4))


def naive_ious(truth, predicted):
    """One pair of masks at a time."""
    ids, others = (np.unique(x[x != 0]) for x in (truth, predicted))
    pairs = [(truth == i, predicted == j) for i in ids for j in others]
    ious = [(a & b).sum() / (a | b).sum() for a, b in pairs]
    return np.array(ious).reshape(len(ids), len(others))


def hungarian(iou, t):
    """Most admissible pairs, then most IoU among them, over the full matrix."""
    gain = np.where(iou >= t, 1 + iou / (2 * max(min(iou.shape), 1)), 0)
    rows, columns = optimize.linear_sum_assignment(gain, maximize=True)
    hits = iou[rows, columns] >= t
    return hits.sum(), iou[rows, columns][hits].sum()


def naive_distances(truth):
    """Pixels between the nearest centres of every pair, by exact transforms."""
    ids = np.unique(truth[truth != 0])
    fields = {i: ndimage.distance_transform_edt(truth != i) for i in ids}
    pairs = itertools.combinations(ids, 2)
    return {(i, j): fields[i][truth == j].min() for i, j in pairs}


def greedy(iou, t):
    iou, total = iou.copy(), []
    while iou.size and iou.max() >= t:
        i, j = np.unravel_index(iou.argmax(), iou.shape)
        total.append(iou[i, j])
        iou[i, :] = iou[:, j] = -1
    return len(total), sum(total)


def counts(matches):
    return [tuple(int(n) for n in x) for x in zip(*matches[:3], strict=True)]


def test_a1_thresholds_include_equality():
    """A pair of IoU 3/4 exactly is a match at 0.75, and none above."""
    matches = match(*A1)
    assert counts(matches) == [(2, 1, 0)] * 4 + [(1, 2, 1)] * 2 + [(0, 3, 2)] * 4
    assert matching.mean_average_precision(matches) == pytest.approx(19 / 60)
    np.testing.assert_allclose(matching.precision(matches)[[0, 4]], [2 / 3, 1 / 3])
    np.testing.assert_allclose(matching.recall(matches)[[0, 4]], [1, 1 / 2])
    np.testing.assert_allclose(matching.f1(matches)[[0, 4]], [4 / 5, 2 / 5])
    np.testing.assert_allclose(matching.matched_iou(matches)[[0, 4]], [17 / 24, 3 / 4])
    assert np.isnan(matching.matched_iou(matches)[9])


@pytest.mark.parametrize(
    ("truth", "predicted", "at_half", "above"),
    [(*A2, (1, 0, 1), (0, 1, 2)), (*A2[::-1], (1, 1, 0), (0, 2, 1))],
    ids=["merge", "split"],
)
def test_a2_an_iou_of_one_half_matches_once(truth, predicted, at_half, above):
    matches = match(truth, predicted)
    assert counts(matches) == [at_half] + [above] * 9
    assert matching.mean_average_precision(matches) == pytest.approx(1 / 20)


def test_a3_greedy_matching_loses_a_pair_below_one_half():
    assert greedy(naive_ious(*A3), 0.3)[0] == 1
    assert counts(match(*A3, [0.3])) == [(2, 0, 0)]
    assert counts(match(*A3, [0.5])) == [(1, 1, 1)]
    assert matching.mean_average_precision(match(*A3)) == pytest.approx(1 / 30)


def test_rounded_thresholds_mean_their_fractions():
    """`arange` rounds 0.75 up, so that a float comparison misses the tie."""
    sloppy = np.arange(0.5, 1.0, 0.05)
    assert not naive_ious(*A1)[1, 1] >= sloppy[5]
    assert naive_ious(*A1)[1, 1] >= matching.THRESHOLDS[5]
    assert counts(match(*A1, sloppy.tolist())) == counts(match(*A1))


def test_pooled_precision_of_two_images():
    matches = jax.tree.map(np.add, match(*A1), match(*A2))
    expected = [3 / 5, 1 / 3, 1 / 3, 1 / 3, 1 / 7, 1 / 7, 0, 0, 0, 0]
    np.testing.assert_allclose(matching.average_precision(matches), expected)
    assert matching.mean_average_precision(matches) == pytest.approx(33 / 175)


def test_empty_maps():
    cell, empty = np.ones((3, 4), np.int32), np.zeros((3, 4), np.int32)
    assert np.isnan(matching.mean_average_precision(match(empty, empty)))
    assert counts(match(cell, empty, [0.5])) == [(0, 0, 1)]
    assert counts(match(empty, cell, [0.5])) == [(0, 1, 0)]
    assert matching.mean_average_precision(match(cell, empty)) == 0


@few
@given(maps, maps)
def test_matching_is_optimal(truth, predicted):
    """As the Hungarian algorithm on the full matrix; from 0.5 up also as greedy."""
    iou = naive_ious(truth, predicted)
    matches = match(truth, predicted, THRESHOLDS)
    for i, t in enumerate(THRESHOLDS):
        actual = matches.tp[i], matches.iou_sum[i]
        np.testing.assert_allclose(actual, hungarian(iou, t))
        if t >= 0.5:
            np.testing.assert_allclose(actual, greedy(iou, t))


@few
@given(maps, maps, st.permutations(range(1, 5)), st.permutations(range(1, 5)))
def test_numbering_is_irrelevant(truth, predicted, ids, other_ids):
    """For any numbers up to 32 bits, of any integer type."""
    large = np.array([0, *ids]) * 500_000_000
    renumbered = match(large[truth], np.array([0, *other_ids], np.uint16)[predicted])
    jax.tree.map(np.testing.assert_array_equal, renumbered, match(truth, predicted))


def test_numbers_do_not_decide_ties():
    """Cells 1 and 2 tie for one prediction; the choice decides which pairs count."""
    truth, predicted = row("11112222.33"), row("11111111.22")
    swapped = np.array([0, 2, 1, 3])[truth]
    jax.tree.map(
        np.testing.assert_array_equal,
        match(truth, predicted),
        match(swapped, predicted),
    )


@pytest.mark.parametrize(
    ("predicted", "separated"), [("1122", 1), ("1111", 0), ("1100", 0)]
)
def test_separated_pairs(predicted, separated):
    matches = match(row("1122"), row(predicted))
    assert (matches.touching, matches.close) == (1, 1)
    assert matches.touching_separated == matches.close_separated == separated


@pytest.mark.parametrize(
    ("step", "touching", "close"),
    [
        ((0, 1), 1, 1),
        ((1, 1), 1, 1),
        ((0, 2), 0, 1),
        ((1, 2), 0, 1),
        ((3, 4), 0, 1),
        ((5, 0), 0, 1),
        ((0, 5), 0, 1),
        ((1, 5), 0, 0),
        ((4, 4), 0, 0),
    ],
)
@pytest.mark.parametrize("mirror", [False, True])
def test_distances_of_pairs(step, touching, close, mirror):
    """Exact Euclidean distance between pixel centres, in every direction."""
    truth = np.zeros((7, 8), np.int32)
    truth[0, 0], truth[step] = 1, 2
    truth = truth[:, ::-1] if mirror else truth
    matches = match(truth, truth)
    assert (matches.touching, matches.close) == (touching, close)


def test_the_middle_of_a_straight_rim_counts():
    """The nearest pixels need not be corners of a cell, in either direction."""
    truth = np.zeros((9, 6), np.int32)
    truth[:, 0], truth[4, 5] = 1, 2
    assert match(truth, truth).close == 1
    assert match(truth.T, truth.T).close == 1


@few
@given(hnp.arrays(np.int64, (2, 4), elements=st.integers(0, 4)))
def test_pairs_of_random_cells(blocks):
    """Cells with an inside, of one or several parts: distances are those of rims."""
    truth = np.kron(blocks, np.ones((3, 3), np.int64))
    matches, distances = match(truth, truth), naive_distances(truth).values()
    assert matches.touching == sum(d < 1.5 for d in distances)
    assert matches.close == sum(d <= 5 for d in distances)


def test_real_cells_against_masks_taken_one_by_one(shared_data):
    """Nuclei, shifted and eroded so that some do not match, and exact distances."""
    for path in sorted((shared_data / "dsb2018_nuclei/val/labels").glob("*.png"))[:3]:
        truth = np.asarray(Image.open(path))[:256, :256].astype(np.int32)
        predicted = np.where(ndimage.minimum_filter(truth, 3) == truth, truth, 0)
        predicted = np.roll(predicted, (2, 1), (0, 1))
        matches = match(truth, predicted, THRESHOLDS)
        iou = naive_ious(truth, predicted)
        expected = np.transpose([hungarian(iou, t) for t in THRESHOLDS])
        np.testing.assert_array_equal(matches.tp, expected[0])
        np.testing.assert_allclose(matches.iou_sum, expected[1])
        np.testing.assert_array_equal(matches.tp + matches.fn, iou.shape[0])
        np.testing.assert_array_equal(matches.tp + matches.fp, iou.shape[1])

        ids, distances = np.unique(truth[truth != 0]), naive_distances(truth)
        matched = dict(zip(ids, (iou >= 0.5).any(axis=1), strict=True))
        for reach, pairs, separated in (
            (1.5, matches.touching, matches.touching_separated),
            (5.0, matches.close, matches.close_separated),
        ):
            near = [pair for pair, d in distances.items() if d <= reach]
            assert pairs == len(near)
            assert separated == sum(matched[i] and matched[j] for i, j in near)


@pytest.fixture
def stardist_matching(monkeypatch):
    """The matching module of StarDist, without the dependencies of the rest."""
    try:
        files = importlib.metadata.files("stardist") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("stardist is absent: pip install --no-deps stardist")
    (file,) = (f for f in files if f.parts == ("stardist", "matching.py"))
    # Stand-ins for a compiling decorator and a function that only raises.
    stand_ins = {
        "numba": {"jit": lambda **_: lambda function: function},
        "csbdeep": {},
        "csbdeep.utils": {"_raise": None},
    }
    absent = [n for n in ("numba", "csbdeep") if importlib.util.find_spec(n) is None]
    for name, content in stand_ins.items():
        if name.split(".")[0] in absent:
            module = types.ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("matching", file.locate())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.matching


def test_average_precision_is_that_of_stardist(stardist_matching):
    """At every threshold, also where an IoU equals it exactly."""
    generator = np.random.default_rng(0)
    for _ in range(10):
        truth, predicted = generator.integers(0, 9, (2, 5, 6)).repeat(3, axis=2)
        predicted = np.where(generator.random(truth.shape) < 0.7, truth, predicted)
        matches = match(truth, predicted, THRESHOLDS)
        theirs = stardist_matching(truth, predicted, THRESHOLDS)
        expected = [(each.tp, each.fp, each.fn) for each in theirs]
        assert counts(matches) == expected
        accuracy = [each.accuracy for each in theirs]
        np.testing.assert_allclose(matching.average_precision(matches), accuracy)
        iou = [each.mean_matched_score * each.tp for each in theirs]
        np.testing.assert_allclose(matches.iou_sum, iou, atol=1e-8)


def test_more_cells_than_16_bits_can_number():
    truth = np.zeros((530, 530), np.int32)
    truth[::2, ::2] = np.arange(265**2).reshape(265, 265) + 1
    matches = match(truth, truth, [0.3, 1.0])
    assert counts(matches) == [(265**2, 0, 0)] * 2
    assert matches.touching == 0
    assert matches.close == matches.close_separated > 500_000


@pytest.mark.parametrize(
    ("truth", "predicted", "threshold", "message"),
    [
        (A1[0], A2[0], 0.5, r"size of truth, \(1, 20\), got \(1, 8\); crop or pad"),
        (-A2[0], A2[0], 0.5, "truth must number cells from 1 up .*, got -2; set"),
        (A2[0], -A2[0], 0.5, "predicted must number cells from 1 up .*, got -2"),
        (*A2, 50.0, r"above 0 and at most 1, got 50.0; half an overlap is 0.5\."),
        (*A2, 0.0, r"above 0 and at most 1, got 0.0"),
    ],
)
def test_messages(truth, predicted, threshold, message):
    with pytest.raises(ValueError, match=message):
        match(truth, predicted, [threshold])
