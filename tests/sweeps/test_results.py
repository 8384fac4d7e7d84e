import csv
import io

import pytest

from unetjax.sweeps import results, trials
from unetjax.sweeps.results import Outcome
from unetjax.training import config as configs
from unetjax.training.config import ExperimentConfig


def outcome(score, state="finished", **overrides):
    named = {name.replace("__", "."): value for name, value in overrides.items()}
    trial = trials.make_trial(ExperimentConfig(), named)
    scores = {} if score is None else {"mean_iou": score, "ap50": None}
    return Outcome(trial.name, configs.to_dict(trial.config), state, 10, scores)


FOLDS = [
    outcome(score, optimizer__learning_rate=rate, data__fold=f"{i + 1}/3")
    for rate, scores in ((0.1, (0.5, 0.6, 0.7)), (0.2, (0.8, 0.8, 0.8)))
    for i, score in enumerate(scores)
]


def test_only_options_that_differ_have_a_column():
    table = results.trial_table(FOLDS)
    assert table.columns[:3] == ["optimizer.learning_rate", "data.fold", "state"]
    assert table.rows[1]["data.fold"] == "2/3"
    assert table.rows[1]["IoU, mean of classes"] == 0.6
    assert table.rows[1]["AP at IoU 0.5"] == ""


def test_mean_and_spread_over_folds():
    table = results.mean_table(FOLDS)
    best, other = table.rows
    assert (best["optimizer.learning_rate"], best["trials"]) == ("0.2", 3)
    assert best["IoU, mean of classes"] == pytest.approx(0.8)
    assert other["IoU, mean of classes"] == pytest.approx(0.6)
    assert other["± IoU, mean of classes"] == pytest.approx(0.1)  # n - 1
    assert "over fold" in table.caption


def test_mean_and_spread_can_share_a_column():
    table = results.with_spread(results.mean_table(FOLDS))
    assert [row["IoU, mean of classes"] for row in table.rows] == [
        *("0.800 ± 0", "0.600 ± 0.1")
    ]
    assert not [name for name in table.columns if name.startswith("±")]


def test_without_repeated_trials_there_are_no_means():
    assert results.mean_table(FOLDS[::3]) is None


def test_only_finished_trials_enter_the_means():
    diverged = outcome(0.1, "diverged", optimizer__learning_rate=0.1, data__fold="1/4")
    rows = results.mean_table([*FOLDS, diverged]).rows
    assert [row["trials"] for row in rows] == [3, 3]


def test_trials_are_sorted_by_score_and_those_without_come_last(tmp_path):
    for i, score in enumerate((0.2, None, 0.9, 0.5)):
        one = outcome(score, seed=i)
        (tmp_path / one.name).mkdir()
        results._write(tmp_path / one.name / "config.json", "{}")
        results.write_outcome(tmp_path / one.name, one)
    outcomes = results.read_outcomes(tmp_path)
    assert [o.name for o in outcomes] == ["seed=2", "seed=3", "seed=0", "seed=1"]


def test_the_csv_holds_every_score():
    rows = list(csv.DictReader(io.StringIO(results._full_csv(FOLDS))))
    assert rows[3]["trial"] == "data.fold=1of3,optimizer.learning_rate=0.2"
    assert (rows[3]["mean_iou"], rows[3]["ap50"]) == ("0.8", "")


def with_test(score, test_score, **overrides):
    return outcome(score, **overrides)._replace(test_scores={"mean_iou": test_score})


TESTED = [with_test(score, score - 0.1, seed=i) for i, score in enumerate((0.8, 0.6))]


def test_test_scores_are_shown_and_validation_scores_rank():
    table = results.trial_table(TESTED)
    assert table.columns[-1] == "IoU, mean of classes, validation"
    row = table.rows[0]
    assert row["IoU, mean of classes"] == pytest.approx(0.7)
    assert row["IoU, mean of classes, validation"] == 0.8
    assert "the other scores are those of the test images" in table.caption
    assert results.score_of(TESTED[0]) == 0.8


def test_a_trial_without_test_scores_has_none_beside_those_that_have():
    """Its validation scores are never mixed with the test scores of others."""
    unfinished = outcome(0.9, "unfinished", seed=2)
    row = results.trial_table([unfinished, *TESTED]).rows[0]
    assert row["IoU, mean of classes"] == ""
    assert row["IoU, mean of classes, validation"] == 0.9


def test_means_are_those_of_test_scores():
    table = results.mean_table(TESTED)
    assert table.rows[0]["IoU, mean of classes"] == pytest.approx(0.6)
    assert table.caption.endswith("(n - 1), test images.")
    assert results.mean_table(FOLDS).caption.endswith("(n - 1), validation images.")


def test_the_summary_gives_the_test_score_or_says_that_there_is_none():
    text = results._summary(TESTED)
    assert "on validation images, 0.800, is that of seed=0" in text
    assert "On the test images, which chose nothing, its IoU, mean of" in text
    assert text.endswith("is 0.700.")
    assert "There are no test images. The best of many" in results._summary(FOLDS)


def test_the_csv_holds_test_scores():
    rows = list(csv.DictReader(io.StringIO(results._full_csv(TESTED))))
    assert float(rows[0]["mean_iou"]) == 0.8
    assert float(rows[0]["test_mean_iou"]) == pytest.approx(0.7)
