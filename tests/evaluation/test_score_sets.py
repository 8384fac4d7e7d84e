import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.data import synthetic
from unetjax.data.examples import from_instances, from_labels
from unetjax.data.splits import Split
from unetjax.evaluation import score_sets
from unetjax.evaluation.score_sets import SCORE_SETS
from unetjax.inference.segment import Segmentation, segment
from unetjax.inference.trained_model import TrainedModel
from unetjax.metrics import em
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet


@pytest.fixture(scope="module")
def trained():
    unet = UNet(features=2, depth=1)
    params = unet.init(jax.random.key(0), jnp.zeros((1, 20, 20, 1)), train=False)
    return TrainedModel(
        unet, params["params"], input_scaling=InputScaling("percentile")
    )


@pytest.fixture(scope="module")
def split():
    cells = [
        synthetic.touching_cells(0, i, size=(40, 48), num_cells=4, radius=6.0)
        for i in range(3)
    ]
    return Split(cells[:1], cells[1:])


@pytest.mark.parametrize("name", SCORE_SETS)
def test_a_model_beside_none(name, trained, split):
    """The column of the model is the sum over its own segmentations."""
    score_set = SCORE_SETS[name]
    table = score_sets.compare(score_set, trained, split)
    assert table.columns == ["score", "U-Net", "Otsu + components", "cell everywhere"]
    found = [segment(trained, e.image) for e in split.validation]
    counts = list(map(score_set.score, split.validation, found))
    expected = score_sets.total(score_set, counts)
    for row, key in zip(table.rows, score_set.shown, strict=True):
        assert row["U-Net"] == pytest.approx(expected[key], nan_ok=True)
        assert row["score"] == score_set.shown[key]


@pytest.mark.parametrize("name", SCORE_SETS)
def test_every_name_is_a_score(name, split):
    example = split.validation[0]
    score_set = SCORE_SETS[name]
    values = score_set.summary(score_set.score(example, score_sets.everywhere(example)))
    assert {*score_set.shown, *score_set.columns.values()} <= values.keys()


def test_all_classes_but_the_first_are_cells():
    """Three classes: the probability of cells is the sum of two."""
    label = np.array([[1, 2, 0, 2, 1]])
    example = from_labels(np.zeros((1, 5, 1)), label, "row")
    probs = np.eye(3, dtype=np.float32)[label] * 0.8 + 0.1
    found = Segmentation(probs / probs.sum(-1, keepdims=True), label, label)
    values = em.summary(SCORE_SETS["em"].score(example, found))
    assert (values["v_rand"], values["pixel_error"]) == (1, 0)


def test_ignored_cells_are_neither_missed_nor_extra():
    label = np.array([[1, 1, -1, -1]])
    example = from_instances(np.zeros((1, 4, 1)), np.array([[1, 1, 2, 2]]), "row")
    example = example._replace(label=label)
    found = Segmentation(np.zeros((1, 4, 2)), label, np.array([[1, 1, 0, 3]]))
    counts = SCORE_SETS["tracking"].score(example, found)
    assert (counts.references, counts.missed, counts.extra) == (1, 0, 0)
