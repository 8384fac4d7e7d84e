"""An experiment from its config to its report."""

from dataclasses import replace

import numpy as np
import pytest

from tests.training.runs import CONFIG, PLAIN, Alarm, make_split
from unetjax.data import synthetic
from unetjax.evaluation import scoring
from unetjax.evaluation.comparison import MODEL
from unetjax.evaluation.score_sets import CELLS
from unetjax.model_io import model_folder
from unetjax.reporting.console import number
from unetjax.training import experiment, stopping

TUNED = replace(CONFIG, tune_instances=True)
TITLES = {"title": "three images", "command": "python -m a_run"}


@pytest.fixture(scope="module")
def without_test(tmp_path_factory):
    """A finished experiment without test images."""
    workdir = tmp_path_factory.mktemp("without") / "run"
    return experiment.run(TUNED, make_split(), workdir, **TITLES)


@pytest.fixture(scope="module")
def with_test(tmp_path_factory):
    """The same experiment with test images, on which it does badly."""
    workdir = tmp_path_factory.mktemp("with") / "run"
    inverted = synthetic.touching_cells(1, size=(40, 48), num_cells=4, radius=6.0)
    inverted = inverted._replace(image=inverted.image.max() - inverted.image)
    split = make_split()._replace(test=[inverted])
    return experiment.run(TUNED, split, workdir, **TITLES)


def test_the_report_without_test_images_says_that_its_scores_are_optimistic(
    without_test,
):
    remark = (
        "There are no test images. These are the scores of the validation images, "
        "which chose the step and the instance settings, and are therefore optimistic."
    )
    assert without_test.comparison.part == "validation"
    assert without_test.text.endswith(remark)
    page = without_test.report.read_text()
    assert remark in page
    assert "Validation images: 1, with 4 cells" in page
    assert "The instance settings were chosen among" in page


def test_the_reported_scores_are_those_of_the_test_images(with_test):
    """The validation images stand beside them, in a column of their own."""
    assert with_test.comparison.part == "test"
    header, *_, remark = with_test.text.splitlines()
    assert header.split("  ")[-1].strip() == "U-Net, validation images"
    assert remark.startswith("The test images took no part in training or in any")
    page = with_test.report.read_text()
    assert "Test images: 1, with 4 cells" in page
    assert "U-Net, validation images" in page
    assert "optimistic" not in page


def test_test_scores_are_stored_with_the_model(with_test, without_test):
    folder = with_test.report.parent / "model"
    provenance = model_folder.load_model(folder).provenance
    scores = with_test.comparison.scores(CELLS)[MODEL]
    assert provenance.test_scores == scoring.without_nan(scores)
    assert provenance.scores != provenance.test_scores
    text = (folder / "README.md").read_text()
    test, validation = text.split("Scores on the validation images, which chose the ")
    assert f"- mean_iou: {number(provenance.test_scores['mean_iou'])}" in test
    assert f"- mean_iou: {number(provenance.scores['mean_iou'])}" in validation
    assert not without_test.trained.provenance.test_scores
    readme = without_test.report.parent / "model" / "README.md"
    assert "test images" not in readme.read_text()


def test_validation_images_choose_the_model_and_test_images_do_not(
    without_test, with_test
):
    one, other = without_test.trained, with_test.trained
    chosen = one.provenance.instances_chosen, other.provenance.instances_chosen
    assert one.provenance.step == other.provenance.step
    assert chosen[0] == chosen[1]
    assert one.instances == other.instances
    weights = [
        np.load(outcome.report.parent / "model" / "weights.npz")
        for outcome in (without_test, with_test)
    ]
    for name in weights[0]:
        np.testing.assert_array_equal(weights[0][name], weights[1][name])


def test_an_interrupted_run_has_a_report_until_it_is_finished(tmp_path):
    workdir = tmp_path / "r"
    with pytest.raises(stopping.Interrupted):
        experiment.run(CONFIG, make_split(Alarm), workdir, **TITLES)
    page = (workdir / "report.html").read_text()
    for text in (
        "Not finished: stopped at step 3 of 6; run the same command again",
        "The best model so far, by mean_iou, is that of step 3",
        "Validation images, after step 3.",
        "Learning rate",
        "python -m a_run",
    ):
        assert text in page, text
    outcome = experiment.run(CONFIG, make_split(), workdir, **TITLES)
    assert outcome.report == workdir / "report.html"
    assert "Not finished" not in outcome.report.read_text()


def test_the_report_of_a_diverged_run_gives_the_reason(tmp_path):
    config = replace(
        PLAIN, optimizer=replace(PLAIN.optimizer, name="sgd", learning_rate=1e38)
    )
    with pytest.raises(stopping.NotFiniteError):
        experiment.run(config, make_split(), tmp_path, **TITLES)
    page = (tmp_path / "report.html").read_text()
    assert "Not finished: the loss of step 2 is nan" in page
    assert "best model so far" not in page


def test_another_config_leaves_the_report_alone(tmp_path):
    experiment.run(replace(CONFIG, num_steps=0), make_split(), tmp_path, **TITLES)
    before = (tmp_path / "report.html").read_bytes()
    with pytest.raises(ValueError, match="another config"):
        experiment.run(replace(CONFIG, seed=1), make_split(), tmp_path, **TITLES)
    assert (tmp_path / "report.html").read_bytes() == before
