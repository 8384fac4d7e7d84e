import pathlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetjax.instances.baseline import otsu_components
from unetjax.metrics.metric import merge_all
from unetjax.metrics.tracking import TrackingMetric

measure = TrackingMetric.from_image
few = settings(deadline=None, max_examples=50)
maps = hnp.arrays(np.int32, (2, 4, 6), elements=st.integers(0, 4))


def boxes(*extents):
    """Cells 1, 2, ... on 8 x 12 pixels, from rows and columns of slices."""
    cells = np.zeros((8, 12), np.int32)
    for number, (rows, columns) in enumerate(extents, 1):
        cells[rows, columns] = number
    return cells


R1, R2 = np.s_[0:4, 0:4], np.s_[0:2, 6:11]
TRUTH = boxes(R1, R2)


@pytest.mark.parametrize(
    ("predicted", "jaccard", "errors", "seg", "det", "op_csb"),
    [
        (boxes(np.s_[1:5, 0:4], np.s_[0:1, 6:11]), 0.6, (0, 1, 1), 0.3, 0.45, 0.375),
        (boxes(np.s_[0:4, 0:11]), 26 / 44, (1, 0, 0), 0.295455, 0.75, 0.522727),
        (TRUTH, 2, (0, 0, 0), 1, 1, 1),
        (boxes(), 0, (0, 2, 0), 0, 0, 0),
        (boxes(R1, R2, np.s_[6:8, 2:4]), 2, (0, 0, 1), 1, 0.95, 0.975),
        (boxes(np.s_[0:2, 0:4], np.s_[2:4, 0:4], R2), 1, (0, 1, 2), 0.5, 0.4, 0.45),
    ],
    ids="ABCDEF",
)
def test_cases(predicted, jaccard, errors, seg, det, op_csb):
    metric = measure(TRUTH, predicted)
    assert metric.jaccard == pytest.approx(jaccard)
    assert (metric.splits, metric.missed, metric.extra) == errors
    values = metric.compute()
    names = ("seg", "det", "op_csb")
    assert [values[n] for n in names] == pytest.approx([seg, det, op_csb], abs=1e-6)


def test_half_a_cell_is_no_match():
    """Two halves of a cell would both match it otherwise."""
    truth, halves = np.full((1, 4), 7), np.array([[1, 1, 2, 2]])
    assert measure(truth, halves)[:5] == (0, 1, 0, 1, 2)
    most = np.array([[1, 1, 1, 2]])
    assert measure(truth, most)[:5] == (0.75, 1, 0, 0, 1)


def test_no_reference_cell_is_nan():
    values = measure(boxes(), TRUTH).compute()
    assert np.isnan([values["seg"], values["det"], values["op_csb"]]).all()


def test_more_errors_than_cells_score_nothing():
    """Correction never costs more than drawing all cells."""
    noise = np.arange(1, 97).reshape(8, 12)
    assert measure(TRUTH, noise).compute()["det"] == 0


@few
@given(maps, maps, st.permutations(range(1, 5)))
def test_frames_add_and_numbers_do_not_matter(truths, predictions, numbers):
    renumbered = np.array([0, *numbers])[predictions] * 100_000
    frames = [measure(t, p) for t, p in zip(truths, predictions, strict=True)]
    whole = measure(np.vstack([truths[0], truths[1] + 10 * (truths[1] > 0)]),
                    np.vstack([renumbered[0], renumbered[1] * 7]))  # fmt: skip
    assert merge_all(frames)._replace(frames=1) == pytest.approx(whole)


def ctc_scores(frames, folder):
    """SEG and DET of the challenge's Python package."""
    reason = "py-ctcmetrics is absent: pip install unetjax[oracles]"
    pytest.importorskip("ctc_metrics", reason=reason)
    from ctc_metrics.metrics import det, seg
    from ctc_metrics.utils.representations import match

    matches = []
    for i, pair in enumerate(frames):
        paths = [folder / f"{name}{i}.tif" for name in ("truth", "predicted")]
        for path, cells in zip(paths, pair, strict=True):
            tifffile.imwrite(path, cells.astype(np.uint16))
        matches.append(match(*map(str, paths)))
    refs, computed, matched_refs, matched, ious = zip(*matches, strict=True)
    counts = [np.unique(m, return_counts=True)[1] for m in matched]
    errors = {
        "NS": sum(int((c - 1).sum()) for c in counts),
        "FN": sum(len(r) - len(m) for r, m in zip(refs, matched_refs, strict=True)),
        "FP": sum(len(set(c) - set(m)) for c, m in zip(computed, matched, strict=True)),
    }
    return seg(refs, ious), det(**errors, num_vertices=sum(map(len, refs)))


def test_random_cells_score_as_in_the_challenge(tmp_path):
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 9, (2, 12, 5, 6))
    truths, predictions = blocks.repeat(4, axis=2).repeat(4, axis=3)
    moved = np.roll(np.where(generator.random(truths.shape) < 0.8, truths, 0), 1, 2)
    frames = [
        *zip(truths, predictions, strict=True),
        *zip(truths, moved, strict=True),
    ]
    seg, det = ctc_scores(frames, tmp_path)
    values = merge_all(measure(*frame) for frame in frames).compute()
    assert 0 < det < 1
    assert (values["seg"], values["det"]) == pytest.approx((seg, det))


def test_otsu_on_simulated_nuclei(shared_data, tmp_path):
    """Real frames: the scores of the challenge's package, of plausible size."""
    paths = sorted((shared_data / "ctc_fluo_n2dh_sim").glob("t*.tif"))[::3]
    frames = []
    for path in paths:
        image = tifffile.imread(path)
        truth = tifffile.imread(path.with_name(f"man_seg{path.stem[1:]}.tif"))
        frames.append((truth, otsu_components(image, min_size=50)))
    values = merge_all(measure(*frame) for frame in frames).compute()
    assert 0.5 < values["op_csb"] < 1
    expected = ctc_scores(frames, pathlib.Path(tmp_path))
    assert (values["seg"], values["det"]) == pytest.approx(expected)


def test_messages():
    with pytest.raises(ValueError, match=r"size of truth, \(8, 12\), got \(2, 2\)"):
        measure(TRUTH, np.zeros((2, 2), int))
    with pytest.raises(ValueError, match=r"truth must number cells from 1 .*, got -1;"):
        measure(-TRUTH // 2, TRUTH)
