import math

import numpy as np
import pytest

from unetjax.data import synthetic
from unetjax.evaluation.comparison import MODEL, OTSU, Comparison, cell_everywhere
from unetjax.evaluation.score_sets import CELLS
from unetjax.inference.segment import Segmentation
from unetjax.reporting import records
from unetjax.reporting.records import Record
from unetjax.training import config as configs
from unetjax.training import run_report

CONFIG = configs.from_dict({"seed": 17, "num_steps": 2, "evaluate_every": 2})


def perfect(example, rows=40):
    """The truth as a prediction, in so many rows; below is background."""
    inside = np.arange(example.label.shape[0])[:, np.newaxis] < rows
    label, instances = example.label * inside, example.instances * inside
    return Segmentation(np.eye(2, dtype=np.float32)[label], label, instances)


@pytest.fixture(scope="module")
def comparison():
    """Eight test images, of which each prediction is worse than the one before."""
    cells = [
        synthetic.touching_cells(0, i, size=(40, 48), num_cells=4, radius=6.0)
        for i in range(8)
    ]
    predictions = [perfect(example, 40 - 4 * i) for i, example in enumerate(cells)]
    everywhere = cell_everywhere(cells)
    return Comparison("test", cells, {MODEL: predictions, OTSU: everywhere})


@pytest.fixture(scope="module")
def page(comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    for record in (
        Record(2, "train", {"loss": 0.5, "accuracy": 0.7, "grad_norm": 1.0}),
        Record(2, "validation", {"mean_iou": 0.6, "ap50": math.nan}),
        Record(2, "warning", {"text": "step 2: something is odd."}),
    ):
        records.append(folder / "records.jsonl", record)
    path = run_report.write(
        folder,
        CONFIG,
        comparison,
        CELLS.table(comparison.scores(CELLS)),
        title="a run",
        summary="A sentence.",
        class_names=("ground", "cell"),
        command="python -m a_run",
    )
    assert path == folder / "report.html"
    return path.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "A sentence.",
        "1 warning, the last: step 2: something is odd.",
        "Test images: 8, with ",
        OTSU,
        "Loss",
        "Scores of the validation images",
        '<span class="c2">pairs within 5 pixels separated</span>',
        "Norm of the gradient",
        "Sizes of the cells, test images",
        "Predicted classes of the pixels of each true class, test images",
        "true, predicted as",
        "ground",
        '"seed": 17',
        "python -m a_run",
        "jaxlib",
    ],
)
def test_a_report_shows(text, page):
    """Summary, warnings, scores, curves, confusion, config, command, environment."""
    assert text in page


def test_the_worst_and_the_best_images_are_shown_the_worst_first(page):
    ranks = [page.index(f"rank {rank} of 8") for rank in (8, 7, 6, 3, 2, 1)]
    assert ranks == sorted(ranks)
    assert "rank 5 of 8" not in page


def test_cell_sizes_are_counted_over_all_images(comparison):
    truth = sum(len(np.unique(e.instances)) - 1 for e in comparison.examples)
    chart = run_report._cell_sizes(comparison)
    counts = {curve.name: sum(curve.values[1::2]) for curve in chart.curves}
    assert counts["truth"] == truth
    assert 0 < counts["prediction"] <= truth
