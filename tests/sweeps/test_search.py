import json
import os
import subprocess
import sys

import optuna
import pytest

from unetjax.reporting import environment, records
from unetjax.sweeps import results, search, trials, workers
from unetjax.sweeps.search import Range
from unetjax.sweeps.workers import Sweep
from unetjax.training import config as configs

SPACE = search.parse_space(["optimizer.learning_rate=1e-4..1e-1:log"])


def make_sweep(folder, base):
    return Sweep(folder, base, ["train"], ["sweep"])


def run_search(sweep, space, *, num_trials):
    return workers.run(sweep, search.Search(sweep, space, num_trials=num_trials))


def study_of(folder):
    path = str(folder / "search.journal")
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(
            path, optuna.storages.journal.JournalFileOpenLock(path)
        )
    )
    return optuna.load_study(study_name="search", storage=storage)


def test_a_space_is_parsed():
    specs = ["a.rate=1e-5..1e-2:log", "a.depth=2..4", "a.name=sgd,adam"]
    assert search.parse_space(specs) == {
        "a.rate": Range(1e-5, 1e-2, True),
        "a.depth": Range(2, 4, False),
        "a.name": ["sgd", "adam"],
    }


@pytest.mark.parametrize(
    "spec", ["a", "a=", "a=1..", "a=2..1", "a=0..1:log", "a=1..2:lin", "a=b..c"]
)
def test_malformed_specs_are_refused(spec):
    message = f"--search must be of the form .* got '{spec}'"
    with pytest.raises(ValueError, match=message):
        search.parse_space([spec])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("optimizer.lerning_rate=1..2", "did you mean optimizer.learning_rate"),
        ("optimizer.name=sgd,lion", "optimizer.name must be one of"),
        ("model.depth=1..1.5", "model.depth must be an integer, got 1.5"),
        ("model.dropout_rate=0..2", "dropout_rate must be at least 0 and below 1"),
    ],
)
def test_a_bad_space_is_refused_before_anything_starts(base, tmp_path, spec, message):
    space = search.parse_space([spec])
    with pytest.raises(ValueError, match=message):
        run_search(make_sweep(tmp_path / "s", base), space, num_trials=1)
    assert not (tmp_path / "s").exists()


@pytest.fixture(scope="module")
def searched(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "s"
    run_search(make_sweep(folder, base), SPACE, num_trials=1)
    return folder


def test_trials_are_run_folders_with_proposed_values(searched):
    study = study_of(searched)
    assert len(study.trials) == 1
    for trial in study.trials:
        workdir = searched / trial.user_attrs["folder"]
        assert workdir.name.startswith(f"000{trial.number},optimizer.learning_rate=")
        outcome = results.read_outcome(workdir)
        rate = outcome.config["optimizer"]["learning_rate"]
        assert rate == trial.params["optimizer.learning_rate"]
        assert trial.value == outcome.scores["mean_iou"]
        lines = records.read(workdir / "records.jsonl")
        assert trial.intermediate_values == {
            r.step: r.values["mean_iou"] for r in lines if r.kind == "validation"
        }


def test_a_second_launch_does_nothing_and_a_larger_one_adds_trials(searched, base):
    sweep = make_sweep(searched, base)
    run_search(sweep, SPACE, num_trials=1)
    assert len(study_of(searched).trials) == 1
    table = run_search(sweep, SPACE, num_trials=2)
    one, other = study_of(searched).trials
    assert one.params != other.params
    assert len(table.rows) == 2


def test_a_search_is_reproducible(searched, base, tmp_path):
    run_search(make_sweep(tmp_path / "s", base), SPACE, num_trials=1)
    (one,), (other, *_) = study_of(tmp_path / "s").trials, study_of(searched).trials
    assert one.params == other.params


DIES = """
import json, os, pathlib, signal, sys
sys.path[:0] = [sys.argv[3]]
from unetjax.devices import runtime
runtime.set_compiler_flags()
from unetjax.sweeps import search, workers
from unetjax.training import config as configs, experiment
base = configs.from_dict(json.loads(pathlib.Path(sys.argv[2]).read_text()))
run = experiment.run

def run_and_die(*args, watch, **named):
    def die(step, scores):
        watch(step, scores)
        os.kill(os.getpid(), signal.SIGKILL)
    return run(*args, watch=die, **named)

experiment.run = run_and_die
sweep = workers.Sweep(pathlib.Path(sys.argv[1]), base, [], [])
space = search.parse_space(["optimizer.learning_rate=1e-4..1e-1:log"])
workers.run(sweep, search.Search(sweep, space, num_trials=1))
"""


@pytest.mark.slow
def test_the_trial_of_a_killed_worker_is_taken_over(base, tmp_path, searched):
    """Its run is resumed, the journal counts it once, and later ones are the same."""
    (tmp_path / "base.json").write_text(json.dumps(configs.to_dict(base)))
    args = [str(tmp_path / "s"), str(tmp_path / "base.json"), os.getcwd()]
    code = subprocess.run(
        [sys.executable, "-c", DIES, *args], env={**os.environ, "JAX_PLATFORMS": "cpu"}
    ).returncode
    assert code == -9
    assert [t.state.name for t in study_of(tmp_path / "s").trials] == ["RUNNING"]
    table = run_search(make_sweep(tmp_path / "s", base), SPACE, num_trials=1)
    assert [t.state.name for t in study_of(tmp_path / "s").trials] == [
        *("FAIL", "COMPLETE")
    ]
    dead, taken = study_of(tmp_path / "s").trials
    assert dead.params == taken.params
    assert sorted(taken.intermediate_values) == [2, 4]
    assert len(table.rows) == 1
    workdir = tmp_path / "s" / taken.user_attrs["folder"]
    starts = [start["step"] for start in environment.read_starts(workdir)]
    assert starts in ([0, 2], [0, 0])  # killed after or before the save arrived
    study_of(tmp_path / "s").ask()  # as a worker that dies while it asks
    run_search(make_sweep(tmp_path / "s", base), SPACE, num_trials=2)
    run_search(make_sweep(searched, base), SPACE, num_trials=2)  # if it has one yet
    outcomes = [
        sorted((each.name, each.scores["mean_iou"]) for each in found)[:2]
        for found in map(results.read_outcomes, (tmp_path / "s", searched))
    ]
    assert outcomes[0] == outcomes[1]


def test_a_trial_below_the_median_is_pruned(base, tmp_path):
    """Four trials with perfect scores come before it."""
    sweep = make_sweep(tmp_path / "s", base)
    results.open_folder(sweep.folder, base)
    study = search.open_study(sweep)
    for _ in range(4):
        good = study.ask()
        good.report(1.0, 2)
        study.tell(good, 1.0)
    run_search(sweep, search.parse_space(["seed=0..9"]), num_trials=5)
    pruned = study_of(sweep.folder).trials[-1]
    assert pruned.state.name == "PRUNED"
    outcome = results.read_outcome(sweep.folder / pruned.user_attrs["folder"])
    assert outcome.state == "pruned"
    assert outcome.note == "below the median of earlier trials at step 2."
    lines = records.read(sweep.folder / outcome.name / "records.jsonl")
    assert lines[-1].step == 2
    assert workers.is_done(
        sweep, trials.Trial(outcome.name, configs.from_dict(outcome.config))
    )


def test_without_optuna_the_message_names_the_extra(base, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r'install "unetjax\[optuna\]"'):
        run_search(make_sweep(tmp_path / "s", base), SPACE, num_trials=1)
    assert not (tmp_path / "s").exists()
