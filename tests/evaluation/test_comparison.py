import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.data import synthetic
from unetjax.data.splits import Split
from unetjax.evaluation import comparison, scoring
from unetjax.evaluation.comparison import MODEL, OTSU, OTSU_WATERSHED
from unetjax.evaluation.score_sets import CELLS, PIXELS, SCORE_SETS
from unetjax.inference.segment import Segmentation, segment
from unetjax.inference.trained_model import Provenance, TrainedModel
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet


def make_model(num_classes=2, **about):
    unet = UNet(num_classes=num_classes, features=2, depth=1)
    init = jax.jit(unet.init, static_argnames="train")
    params = init(jax.random.key(0), jnp.zeros((1, 20, 20, 1)), train=False)
    return TrainedModel(
        unet,
        params["params"],
        input_scaling=InputScaling("percentile"),
        provenance=Provenance(**about),
    )


@pytest.fixture(scope="module")
def trained():
    return make_model()


@pytest.fixture(scope="module")
def split():
    """One training, two validation and three test images."""
    cells = [
        synthetic.touching_cells(0, i, size=(40, 48), num_cells=4, radius=6.0)
        for i in range(6)
    ]
    return Split(cells[:1], cells[1:3], cells[3:])


@pytest.mark.parametrize("name", SCORE_SETS)
def test_test_images_are_scored_where_there_are_any(name, trained, split):
    score_set = SCORE_SETS[name]
    result = comparison.compare(trained, split)
    assert (result.part, result.examples) == ("test", split.test)
    scores = result.scores(score_set)
    assert list(scores) == [MODEL, OTSU, OTSU_WATERSHED]
    predictions = [segment(trained, example.image) for example in split.test]
    expected = score_set.compute(split.test, predictions)
    assert scores[MODEL] == pytest.approx(expected, nan_ok=True)


def test_validation_images_are_scored_without_test_images(trained, split):
    result = comparison.compare(trained, split._replace(test=None))
    assert (result.part, result.examples) == ("validation", split.validation)
    asked = comparison.compare(trained, split, part="validation")
    assert asked.examples == split.validation


def test_absent_test_images_cannot_be_scored(trained, split):
    with pytest.raises(ValueError, match="there are no test images; select some by"):
        comparison.compare(trained, split._replace(test=None), part="test")


def test_a_remark_says_what_the_scores_are_worth(trained, split):
    tuned = make_model(instances_chosen="among 60 settings")
    without = split._replace(test=None)
    assert comparison.remark("test", split, tuned) == (
        "The test images took no part in training or in any choice; the validation "
        "images chose the step and the instance settings."
    )
    assert comparison.remark("validation", without, tuned) == (
        "There are no test images. These are the scores of the validation images, "
        "which chose the step and the instance settings, and are therefore optimistic."
    )
    assert comparison.remark("validation", split, trained) == (
        "These are the scores of the validation images, which chose the step, and are "
        "therefore optimistic."
    )


def test_the_baseline_needs_two_classes(split):
    model = make_model(num_classes=3)
    assert list(comparison.compare(model, split).predictions) == [MODEL]


def test_a_model_may_segment_in_its_own_way(trained, split):
    """As when several models are averaged."""

    def nothing(image):
        zeros = np.zeros(image.shape[:2], np.int32)
        return Segmentation(np.eye(2, dtype=np.float32)[zeros], zeros, zeros)

    result = comparison.compare(trained, split, segment=nothing)
    assert all((each.probs[..., 0] == 1).all() for each in result.predictions[MODEL])


@pytest.mark.parametrize("sign", [1, -1])
def test_otsu_learns_from_training_images_whether_cells_are_bright(split, sign):
    train, test = (
        [e._replace(image=sign * e.image.astype(float)) for e in examples]
        for examples in (split.train, split.test)
    )
    predictions = comparison.otsu(train, test, min_size=5, fill_holes=True)
    assert CELLS.compute(test, predictions)["mean_iou"] > 0.8


def test_evaluation_keeps_the_first_predictions_only(trained, split):
    metric, predictions = scoring.evaluate(trained, split.test, keep=2)
    assert metric.num_images == 3
    assert len(predictions) == 2
    expected = segment(trained, split.test[1].image)
    np.testing.assert_array_equal(predictions[1].label, expected.label)


@pytest.mark.parametrize(
    ("ours", "threshold", "watershed", "best"),
    [
        (0.5, 0.6, 0.4, "Otsu \\+ components 0.600"),
        (0.5, 0.4, 0.5, "Otsu \\+ watershed 0.500"),
        (0.5, 0.4, 0.49, ""),
        (0.5, float("nan"), 0.4, ""),
    ],
)
def test_a_model_must_beat_every_baseline(ours, threshold, watershed, best):
    values = {MODEL: ours, OTSU: threshold, OTSU_WATERSHED: watershed}
    scores = {title: {"ap50": x, "dice": x} for title, x in values.items()}
    for score_set in (CELLS, PIXELS):
        text = comparison.verdict(scores, score_set)
        assert bool(text) == bool(best)
        assert re.search(f"0.500, that of {best}" if best else "^$", text)


def test_without_a_baseline_there_is_no_verdict():
    assert comparison.verdict({MODEL: {"ap50": 0.0}}, CELLS) == ""


def test_the_watershed_cuts_what_a_threshold_joins(trained, split):
    predictions = comparison.compare(trained, split).predictions
    for joined, cut in zip(predictions[OTSU], predictions[OTSU_WATERSHED], strict=True):
        np.testing.assert_array_equal(cut.instances > 0, joined.instances > 0)
    count = {k: sum(p.instances.max() for p in v) for k, v in predictions.items()}
    assert count[OTSU_WATERSHED] > count[OTSU]
