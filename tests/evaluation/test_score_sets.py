import numpy as np
import pytest

from unetjax.data import synthetic
from unetjax.data.examples import from_instances, from_labels
from unetjax.evaluation import comparison
from unetjax.evaluation.score_sets import CELLS, SCORE_SETS
from unetjax.evaluation.scoring import measure_em, measure_tracking
from unetjax.inference.segment import Segmentation


@pytest.mark.parametrize("name", SCORE_SETS)
def test_every_name_is_a_score(name):
    example = synthetic.touching_cells(0, size=(40, 48), num_cells=4, radius=6.0)
    score_set = SCORE_SETS[name]
    scores = score_set.compute([example], comparison.cell_everywhere([example]))
    assert {*score_set.shown, *score_set.columns.values()} <= scores.keys()


def test_a_table_has_a_row_for_each_score_and_a_column_for_each_prediction():
    scores = dict.fromkeys(CELLS.shown, 0.25)
    table = CELLS.table({"one": scores, "other": scores}, "two columns")
    assert table.columns == ["score", "one", "other"]
    assert [row["score"] for row in table.rows] == list(CELLS.shown.values())
    assert table.rows[0] == {"score": "pixel accuracy", "one": 0.25, "other": 0.25}
    assert table.caption == "two columns"


def test_counts_are_shown_as_integers():
    shown = SCORE_SETS["tracking"].shown
    table = SCORE_SETS["tracking"].table({"all": dict.fromkeys(shown, 2.0)})
    types = {row["score"]: type(row["all"]) for row in table.rows}
    assert (types["SEG"], types["missed"]) == (float, int)


def test_all_classes_but_the_first_are_cells():
    """Three classes: the probability of cells is the sum of two."""
    label = np.array([[1, 2, 0, 2, 1]])
    example = from_labels(np.zeros((1, 5, 1)), label, "row")
    probs = np.eye(3, dtype=np.float32)[label] * 0.8 + 0.1
    prediction = Segmentation(probs / probs.sum(-1, keepdims=True), label, label)
    scores = measure_em(example, prediction).compute()
    assert (scores["v_rand"], scores["pixel_error"]) == (1, 0)


def test_ignored_cells_are_neither_missed_nor_extra():
    label = np.array([[1, 1, -1, -1]])
    example = from_instances(np.zeros((1, 4, 1)), np.array([[1, 1, 2, 2]]), "row")
    example = example._replace(label=label)
    instances = np.array([[1, 1, 0, 3]])
    metric = measure_tracking(
        example, Segmentation(np.zeros((1, 4, 2)), label, instances)
    )
    assert (metric.references, metric.missed, metric.extra) == (1, 0, 0)
