import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from unetjax.metrics import partitions, warping
from unetjax.metrics.em import EmMetric
from unetjax.metrics.metric import merge_all

few = settings(deadline=None, max_examples=20)
NAMES = ("v_rand", "v_info", "pixel_error", "rand_error", "warping_error")
stacks = hnp.arrays(np.float32, (2, 6, 7), elements=st.sampled_from([0, 0.3, 0.7, 1]))


def row(text):
    return np.array([[int(c == "#") for c in text]])


def total(*pairs):
    return merge_all(EmMetric.from_image(*pair) for pair in pairs)


def values(*pairs):
    scores = total(*pairs).compute()
    return [scores[name] for name in NAMES]


def test_the_best_threshold_counts():
    """Perfect at 0.4 only: below, the cells merge; above, one vanishes."""
    label = row("####.####")
    probability = np.where(label, [[0.45] * 4 + [0] + [0.9] * 4], 0.35)
    assert values((label, probability)) == [1, 1, 0, 0, 0]


def test_a_thick_border_affects_the_rand_and_pixel_error_only():
    label, probability = row("####.####"), row("##.....##")
    scores = values((label, probability))
    assert scores == pytest.approx([1, 1, 1 - 8 / 12, 1 - 0.545455, 0], abs=1e-6)


def test_mean_of_slices_and_summed_squares():
    """V_rand is a mean over slices, and the Rand error is not."""
    perfect, merge = row("##.##"), row("####.####")
    scores = values((perfect, perfect), (merge, np.ones_like(merge)))
    assert scores[0] == pytest.approx((1 + 2 / 3) / 2)
    assert scores[3] == pytest.approx(1 - 2 * (8 + 32) / (8 + 32 + 8 + 64))


def test_a_slice_without_cells_is_left_out_of_the_means():
    cells, nothing = row("##.##"), row(".....")
    assert values((cells, cells), (nothing, nothing))[:2] == [1, 1]
    assert np.isnan(values((nothing, nothing))[:4]).all()


def test_ignored_pixels_do_not_count():
    label = np.array([[1, 1, 0, 1, -1, -1]])
    wrong = np.array([[1, 1, 0, 1, 0, 1]])
    assert values((label, wrong)) == [1, 1, 0, 0, 0]
    assert total((label, wrong)).compute()["num_pixels"] == 4


@few
@given(stacks, stacks)
def test_each_threshold_on_its_own(labels, probabilities):
    """The definitions, threshold after threshold, and sums over slices."""
    labels = (labels > 0.5).astype(int)
    labels[:, 0, 0] = 1
    pairs = list(zip(labels, probabilities, strict=True))
    metric = total(*pairs)
    for i, t in enumerate(partitions.THRESHOLDS):
        white = [p.astype(float) > t for p in probabilities]
        truths = [partitions.connected_cells(x > 0) for x in labels]
        thinned = [partitions.thin_borders(w) for w in white]
        both = [partitions.compare(*x) for x in zip(truths, thinned, strict=True)]
        assert metric.v_rand[i] == pytest.approx(
            sum(partitions.v_rand(x).score for x in both)
        )
        assert metric.v_info[i] == pytest.approx(
            sum(partitions.v_info(x).score for x in both)
        )
        if i < 10:
            errors = [warping.mismatches(x > 0, p, threshold=t) for x, p in pairs]
            assert metric.warping[i] == sum(x.splits + x.merges for x in errors)
            tp = sum(
                (x.astype(bool) & w).sum() for x, w in zip(labels, white, strict=True)
            )
            assert metric.confusion[i, 1, 1] == tp


def test_everything_white_on_a_real_slice(shared_data):
    """One cell everywhere: nothing is separated, and many pixels merge."""
    path = shared_data / "isbi2012_em/labels/20.png"
    label = (np.asarray(Image.open(path)) > 0).astype(int)[:256, :256]
    scores = values((label, np.ones_like(label)))
    white = label.mean()
    assert scores[1] == 0
    assert scores[2] == pytest.approx(1 - 2 * white / (1 + white))
    assert 0 < scores[0] < 0.5
    assert 0.01 < scores[4] < 1 - white


@pytest.mark.parametrize("worst", [255, -0.1, np.nan])
def test_messages(worst):
    label = row("##.##")
    with pytest.raises(ValueError, match=r"from 0 to 1, got .*; divide 8-bit values"):
        EmMetric.from_image(label, np.array([[0, 0, 0, 1, worst]]))
    with pytest.raises(ValueError, match=r"size of label, \(1, 5\), got \(1, 2\)"):
        EmMetric.from_image(label, row("##"))
