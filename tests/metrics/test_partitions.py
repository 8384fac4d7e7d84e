import collections

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import metrics as skimage_metrics

from unetjax.metrics import partitions
from unetjax.metrics.partitions import compare, thin_borders

few = settings(deadline=None, max_examples=60)
maps = hnp.arrays(np.int32, (4, 6), elements=st.integers(0, 3))


def row(text):
    return np.array([[int(c) for c in text.replace(".", "0").replace("#", "1")]])


def cells(text):
    return row(text) > 0


THICK = "1111.2222", "11.....22"
ROWS = {  # truth, prediction, V_rand with precision and recall, the same of V_info
    "perfect": ("11.22", "11.22", (1, 1, 1), (1, 1, 1)),
    "merge": ("1111.2222", "111111111", (0.5, 1, 2 / 3), (1, 0, 0)),
    "split": ("11111111", "11112222", (1, 0.5, 2 / 3), (0, 1, 0)),
    "mixed": (
        "1111112222",
        "1111122222",
        (0.84, 0.807692, 0.823529),
        (0.628236, 0.609987, 0.618977),
    ),
    "background in a cell": ("1111", "1110", (1, 0.625, 0.769231), (0, 1, 0)),
    "only background": ("1111", "0000", (1, 0.25, 0.4), (0, 1, 0)),
    "outside of the truth": ("001122", "331122", (1, 1, 1), (1, 1, 1)),
    "thick border": (*THICK, (1, 0.375, 0.545455), (1, 0.4, 0.571429)),
}


@pytest.mark.parametrize("name", ROWS)
def test_vectors(name):
    truth, predicted, rand, info = ROWS[name]
    agreement = compare(row(truth), row(predicted))
    assert partitions.v_rand(agreement) == pytest.approx(rand, abs=1e-6)
    assert partitions.v_info(agreement) == pytest.approx(info, abs=1e-6)


def test_a_thick_border_is_perfect_after_thinning():
    truth, predicted = map(row, THICK)
    thinned = thin_borders(predicted > 0)
    np.testing.assert_array_equal(thinned, truth)
    agreement = compare(truth, thinned)
    assert partitions.v_rand(agreement).score == 1
    assert partitions.v_info(agreement).score == 1


def test_slices_are_averaged_and_counts_are_summed():
    """Two different numbers: the mean over slices, and the score of summed squares."""
    both = [compare(row(t), row(p)) for t, p, *_ in (ROWS["perfect"], ROWS["merge"])]
    scores = [partitions.v_rand(each).score for each in both]
    assert np.mean(scores) == pytest.approx(0.833333, abs=1e-6)
    joint, truth, predicted = np.sum([each[:3] for each in both], axis=0)
    assert (joint, truth, predicted) == (40, 40, 72)
    assert 2 * joint / (truth + predicted) == pytest.approx(0.714286, abs=1e-6)


def test_no_true_cell_is_nan():
    agreement = compare(row("..."), row("11."))
    assert np.isnan(partitions.v_rand(agreement)).all()
    assert np.isnan(partitions.v_info(agreement)).all()


def naive(truth, predicted):
    """V_rand and V_info by sums over all pairs of cells, as in their definitions."""
    inside = truth > 0
    n = inside.sum()
    a = [np.sum(truth == i) / n for i in set(truth[inside])]
    b = [np.sum(inside & (predicted == j)) / n for j in set(predicted[inside]) - {0}]
    p = [
        np.sum((truth == i) & (predicted == j)) / n
        for i in set(truth[inside])
        for j in set(predicted[inside]) - {0}
    ]
    p0 = np.sum(inside & (predicted == 0)) / n
    squares = [sum(x**2 for x in xs) for xs in (p, a, b)]
    rand = 2 * (squares[0] + p0 / n) / (squares[1] + squares[2] + p0 / n)
    t = [sum(x * np.log(x) for x in xs if x) for xs in (p, a, b)]
    t[0], t[2] = t[0] - p0 * np.log(n), t[2] - p0 * np.log(n)
    shared = t[0] - t[1] - t[2]
    info = 0 if not (t[1] and t[2]) else -2 * shared / (t[1] + t[2])
    return rand, info


@few
@given(maps, maps)
def test_sums_are_those_of_the_definition(truth, predicted):
    if not truth.any():
        truth[0, 0] = 1
    agreement = compare(truth, predicted)
    rand, info = naive(truth, predicted)
    assert partitions.v_rand(agreement).score == pytest.approx(rand)
    assert partitions.v_info(agreement).score == pytest.approx(info, abs=1e-9)


@few
@given(maps, maps, st.permutations(range(1, 4)))
def test_numbering_is_irrelevant(truth, predicted, numbers):
    renumbered = np.array([0, *numbers], np.int32)[predicted] * 1000
    one, other = compare(truth, predicted), compare(truth, renumbered)
    assert one == pytest.approx(other)


@few
@given(maps, maps)
def test_pairs_are_those_of_scikit_image(truth, predicted):
    """Its variant counts n (n - 1) pairs and treats background as one more object."""
    truth[0, :2] = 1  # at least one pair
    inside = truth > 0
    squares = compare(truth, np.where(inside, predicted + 1, 0))[:3]
    joint, true, other = (x - inside.sum() for x in squares)
    assume(joint > 0)  # else it divides by zero
    _, precision, recall = skimage_metrics.adapted_rand_error(
        truth, predicted + 1, ignore_labels=(0,)
    )
    # In scikit-image, the divisors of the two are exchanged in name.
    assert precision == pytest.approx(joint / true)
    assert recall == pytest.approx(joint / other)


@few
@given(maps, maps)
def test_entropies_are_those_of_scikit_image(truth, predicted):
    """Without background in either, H(A|B) + H(B|A) is its variation of information."""
    agreement = compare(truth + 1, predicted + 1)
    conditional = skimage_metrics.variation_of_information(truth + 1, predicted + 1)
    bits = np.log(2)
    joint, true, other = agreement[3:]
    expected = (joint - true, joint - other)
    np.testing.assert_allclose(conditional * bits, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("prediction", "labels"),
    [
        ("##.##", "11022"),
        ("##..##", "111022"),
        ("##...##", "1110222"),
        ("##.....##", "111102222"),
        ("#..#...#", "11022033"),
    ],
)
def test_thinning(prediction, labels):
    np.testing.assert_array_equal(thin_borders(cells(prediction)), row(labels))
    down = thin_borders(cells(prediction).T)
    np.testing.assert_array_equal(down.T, row(labels))


def test_a_slice_without_cells_is_one_cell():
    assert (thin_borders(np.zeros((3, 4), bool)) == 1).all()
    assert (thin_borders(np.ones((3, 4), bool)) == 1).all()


def one_pixel_at_a_time(white):
    """The flooding by a queue: x outer, y inner; left, up, right, down."""
    height, width = white.shape
    labels = np.where(white, partitions.connected_cells(white), -1)
    if not white.any():
        return np.ones_like(labels)

    def around(y, x):
        near = [(y, x - 1), (y - 1, x), (y, x + 1), (y + 1, x)]
        return [(v, u) for v, u in near if 0 <= v < height and 0 <= u < width]

    scan = [(y, x) for x in range(width) for y in range(height) if labels[y, x] == -1]
    queue = collections.deque(p for p in scan if any(labels[q] > 0 for q in around(*p)))
    queued = set(queue)
    while queue:
        pixel = queue.popleft()
        met = {int(labels[q]) for q in around(*pixel) if labels[q] > 0}
        for q in around(*pixel):
            if labels[q] == -1 and q not in queued:
                queued.add(q)
                queue.append(q)
        labels[pixel] = met.pop() if len(met) == 1 else 0
    return labels


@settings(deadline=None, max_examples=200)
@given(
    hnp.arrays(np.float64, (9, 11), elements=st.floats(0, 1)),
    st.sampled_from([0.03, 0.1, 0.3]),
)
def test_thinning_equals_that_of_one_pixel_at_a_time(noise, density):
    """From dense to nearly empty slices: all kinds of ties and of meeting borders."""
    white = noise < density
    np.testing.assert_array_equal(thin_borders(white), one_pixel_at_a_time(white))


def test_thinning_of_many_slices_and_of_large_ones():
    generator = np.random.default_rng(0)
    slices = generator.random((6, 40, 50)) < np.geomspace(0.002, 0.6, 6)[:, None, None]
    expected = [one_pixel_at_a_time(white) for white in slices]
    np.testing.assert_array_equal(thin_borders(slices), expected)


def test_thresholds_are_those_of_the_scorer():
    """The eleventh sum is below 1, which it would not be in single precision."""
    assert partitions.THRESHOLDS[3] == 0.30000000000000004
    assert partitions.THRESHOLDS[10] == 0.9999999999999999
    probability = np.array([[0.0, 0.3, 1.0]], np.float32)
    counts = partitions.white(probability).sum(axis=0)
    np.testing.assert_array_equal(counts, [[0, 4, 11]])


def test_messages():
    with pytest.raises(ValueError, match=r"size of truth, \(1, 2\), got \(1, 3\)"):
        compare(row("12"), row("123"))
