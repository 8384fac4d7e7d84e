import contextlib
import csv
import json
import shutil
import types

import numpy as np
import pytest

from tests.training.runs import assert_equal_runs
from unetjax.data import open_data
from unetjax.model_io import model_folder
from unetjax.reporting import environment
from unetjax.sweeps import results, trials, workers
from unetjax.sweeps.workers import Sweep
from unetjax.training import config as configs
from unetjax.training import loop


def make_sweep(folder, base):
    return Sweep(folder, base, ["train"], ["sweep", "--seeds=2"])


def run_all(sweep, trials, *, at_once=1):
    return workers.run(sweep, workers.Listed(sweep, trials, at_once=at_once))


def listed(base):
    return trials.expand(base, seeds=2)


def change_times(folder):
    """When each file that trials leave was last changed."""
    kept = ("checkpoints", "model", "records.jsonl", "outcome.json", "best")
    paths = [p for p in folder.rglob("*") if p.is_file() and set(kept) & set(p.parts)]
    paths += list(folder.glob("*/records.jsonl"))
    return {path: path.stat().st_mtime_ns for path in paths}


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "s"
    run_all(make_sweep(folder, base), listed(base))
    return folder


def test_every_trial_is_an_ordinary_run_folder(finished, base):
    for trial in listed(base):
        workdir = finished / trial.name
        assert (workdir / "report.html").exists()
        assert json.loads((workdir / "config.json").read_text())["seed"] in (0, 1)
        assert results.read_outcome(workdir).state == "finished"
        command = (workdir / "report.html").read_text()
        seed = trial.config.seed
        assert ("--config.seed=1" in command) == (seed == 1)


def test_the_table_and_the_best_model(finished, base):
    with (finished / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["trial"] for row in rows} == {"seed=0", "seed=1"}
    scores = [float(row["mean_iou"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    best = model_folder.load_model(finished / "best")
    assert best.provenance.trial == rows[0]["trial"]
    assert best.provenance.scores["mean_iou"] == scores[0]
    one, other = (
        np.load(folder / "weights.npz")
        for folder in (finished / "best", finished / rows[0]["trial"] / "model")
    )
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    with (finished / "means.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["IoU, mean of classes"]) == pytest.approx(np.mean(scores))
    page = (finished / "report.html").read_text()
    assert page.count("<polyline") == 4  # two trials in two charts
    assert "sweep --seeds=2" in page


def test_a_second_launch_skips_trials_that_have_ended(finished, base):
    before = change_times(finished)
    run_all(make_sweep(finished, base), listed(base))
    assert change_times(finished) == before


def test_an_interrupted_trial_is_resumed(finished, base, tmp_path):
    """Killed after its first evaluation, before anything else was written."""
    trial = listed(base)[1]
    split = open_data.open_split(base.data)
    results.open_folder(tmp_path / "s", base)

    def break_off(step, scores):
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        workdir = tmp_path / "s" / trial.name
        loop.train_and_evaluate(trial.config, split, workdir, watch=break_off)
    assert results.read_outcome(workdir).state == "unfinished"
    run_all(make_sweep(tmp_path / "s", base), [trial])
    assert [start["step"] for start in environment.read_starts(workdir)] == [0, 2]
    assert_equal_runs(workdir, finished / trial.name, trial.config)


@pytest.mark.parametrize(
    ("seeds", "at_once"), [(1, 1), pytest.param(2, 4, marks=pytest.mark.slow)]
)
def test_a_trial_that_diverges_has_ended_and_the_others_finish(
    base, tmp_path, seeds, at_once
):
    grid = [("optimizer.learning_rate", ["1e38", "0.01"])]
    sweep = make_sweep(tmp_path / "s", base)
    several = trials.expand(base, grid=grid, seeds=seeds)
    for _ in range(2):
        table = run_all(sweep, several, at_once=at_once)
        states = [row["state"] for row in table.rows]
        assert states == ["finished"] * seeds + ["diverged"] * seeds
    outcomes = results.read_outcomes(sweep.folder)
    for bad in outcomes[seeds:]:
        assert "is nan" in bad.note or "not finite" in bad.note
        assert len(environment.read_starts(sweep.folder / bad.name)) == 1
    reports = [sweep.folder / row.name / "report.html" for row in outcomes]
    text = "Not finished: the loss of step"
    shown = [text in path.read_text() for path in reports]
    assert shown == [False] * seeds + [True] * seeds


def test_a_trial_that_another_worker_holds_is_waited_for(base, tmp_path, monkeypatch):
    """It is run once the other worker releases it without having ended it."""
    sweep, (first, second) = make_sweep(tmp_path / "s", base), listed(base)
    results.open_folder(sweep.folder, base)
    claims = contextlib.ExitStack()
    claims.enter_context(workers.claim(sweep, first.name))
    ended = []

    def release(seconds):
        ended.append([workers.is_done(sweep, trial) for trial in (first, second)])
        claims.close()

    monkeypatch.setattr(workers, "time", types.SimpleNamespace(sleep=release))
    table = run_all(sweep, [first, second])
    assert ended == [[False, True]]
    assert [row["state"] for row in table.rows] == ["finished", "finished"]


@pytest.mark.parametrize(
    "damaged", ["", "[]", '{"name": "x"}', "[" * 100_000], ids=str.__len__
)
def test_a_damaged_outcome_is_written_again(finished, base, tmp_path, damaged):
    folder = shutil.copytree(finished, tmp_path / "s")
    path = folder / listed(base)[0].name / results.OUTCOME
    path.write_text(damaged)
    (folder / ".means.2ac23b3b.csv").touch()  # as a killed worker leaves it
    with pytest.warns(UserWarning, match=r"outcome\.json is damaged; the trial is not"):
        run_all(make_sweep(folder, base), listed(base))
    for name in (path.relative_to(folder), "table.csv"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes()
    assert not list(folder.glob(".means*"))


def test_a_folder_with_other_files_is_refused_and_left_alone(base, tmp_path):
    (tmp_path / "thesis.txt").write_text("two years of work")
    with pytest.raises(FileExistsError, match="holds files and no sweep of unetjax"):
        run_all(make_sweep(tmp_path, base), listed(base))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_best_folder_with_other_files_is_refused(finished, base, tmp_path):
    results.open_folder(tmp_path / "s", base)
    (tmp_path / "s" / "best").mkdir()
    (tmp_path / "s" / "best" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes.txt, which is not part"):
        run_all(make_sweep(tmp_path / "s", base), listed(base)[:1])
    assert (tmp_path / "s" / "best" / "notes.txt").read_text() == "mine"


def test_another_base_is_refused_with_the_difference(finished, base):
    other = configs.override(base, {"model.features": 3})
    with pytest.raises(ValueError, match=r"model.features: 2, now 3\); use that"):
        run_all(make_sweep(finished, other), listed(other))
