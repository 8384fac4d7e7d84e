"""An experiment from its config to its report."""

from dataclasses import replace

import pytest

from tests.training.runs import CONFIG, Alarm, make_split
from unetjax.training import experiment, stopping

ABOUT = {"title": "three images", "command": "python -m a_run"}


def test_an_interrupted_run_has_a_report_until_it_is_finished(tmp_path):
    workdir = tmp_path / "r"
    with pytest.raises(stopping.Interrupted):
        experiment.run(CONFIG, make_split(Alarm), workdir, **ABOUT)
    page = (workdir / "report.html").read_text()
    for text in (
        "Not finished: stopped at step 3 of 6; run the same command again",
        "The best model so far, by mean_iou, is that of step 3",
        "Held out, after step 3.",
        "Learning rate",
        "python -m a_run",
    ):
        assert text in page, text
    outcome = experiment.run(CONFIG, make_split(), workdir, **ABOUT)
    assert outcome.report == workdir / "report.html"
    assert "Not finished" not in outcome.report.read_text()


def test_a_run_that_diverged_says_so_in_its_report(tmp_path):
    config = replace(
        CONFIG, optimizer=replace(CONFIG.optimizer, name="sgd", learning_rate=1e38)
    )
    with pytest.raises(stopping.NotFiniteError):
        experiment.run(config, make_split(), tmp_path, **ABOUT)
    page = (tmp_path / "report.html").read_text()
    assert "Not finished: the loss of step 2 is nan" in page
    assert "best model so far" not in page


def test_another_config_leaves_the_report_alone(tmp_path):
    experiment.run(replace(CONFIG, num_steps=0), make_split(), tmp_path, **ABOUT)
    before = (tmp_path / "report.html").read_bytes()
    with pytest.raises(ValueError, match="another config"):
        experiment.run(replace(CONFIG, seed=1), make_split(), tmp_path, **ABOUT)
    assert (tmp_path / "report.html").read_bytes() == before
