import contextlib
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.training.runs import final_state
from unetjax.data import open_data
from unetjax.model_io import model_folder
from unetjax.network.input_scaling import InputScaling
from unetjax.reporting import records
from unetjax.sweeps import side_by_side, trials
from unetjax.training import config as configs
from unetjax.training import loop, run_folder, stopping

# Largest difference of a parameter after four updates, relative to the largest of its
# array: a stacked convolution sums in another order.
TOLERANCE = 1e-5


def make_runs(base, folder, split=None, rates=("0.01", "0.003")):
    """Runs that share one compiled step, whatever their rates and seeds."""
    grid = [("optimizer.learning_rate", list(rates))]
    split = split or open_data.open_split(base.data)
    return [
        run_folder.make_run(trial.config, split, folder / trial.name)
        for trial in trials.expand(base, grid=grid, seeds=2)
    ]


def pairs_of_arrays(one, other, config):
    """Path and value of every array in the final states of two runs."""
    ours, theirs = final_state(one, config), final_state(other, config)
    for (path, a), b in zip(
        jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs), strict=True
    ):
        yield path, a, b


def assert_alike(one, other, config):
    for path, a, b in pairs_of_arrays(one, other, config):
        a, b, name = np.asarray(a), np.asarray(b), jax.tree_util.keystr(path)
        scale = np.abs(b).max(initial=1e-6)
        np.testing.assert_allclose(a / scale, b / scale, atol=TOLERANCE, err_msg=name)


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    runs = make_runs(base, tmp_path_factory.mktemp("together"))
    assert side_by_side.train_side_by_side(runs) == [None] * 4
    return runs


def test_results_are_those_of_single_runs(trained, tmp_path):
    for run in trained[::3]:  # they differ in seed and in rate
        alone = tmp_path / run.workdir.name
        loop.train_and_evaluate(run.config, run.split, alone)
        assert_alike(run.workdir, alone, run.config)
        lines = [records.read(w / "records.jsonl") for w in (run.workdir, alone)]
        for a, b in zip(*lines, strict=True):
            assert (a.step, a.kind) == (b.step, b.kind)
            if a.kind == "train":
                assert a.values == pytest.approx(b.values, rel=1e-4)
        # Before any update only the batch decides the loss: it is the same one.
        assert lines[0][0].values["loss"] == pytest.approx(
            lines[1][0].values["loss"], rel=1e-6
        )


def test_runs_differ_from_each_other(trained):
    weights = [np.load(run.workdir / "model" / "weights.npz") for run in trained]
    heads = [w["params/head/kernel"] for w in weights]
    for i in range(4):
        assert not any(np.array_equal(heads[i], heads[j]) for j in range(i))


def test_each_leaves_an_ordinary_run_folder_that_resumes_alone(trained):
    run = trained[1]
    before = (run.workdir / "records.jsonl").read_bytes()
    trained = loop.train_and_evaluate(run.config, run.split, run.workdir)
    assert (run.workdir / "records.jsonl").read_bytes() == before
    assert trained.provenance.config["seed"] == run.config.seed
    assert model_folder.load_model(run.workdir / "model").input_scaling == InputScaling(
        "percentile"
    )


def test_an_interrupted_call_is_resumed(trained, base, tmp_path):
    split = open_data.open_split(base.data)
    runs = make_runs(base, tmp_path)
    runs[1] = runs[1]._replace(watch=lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(stopping.Interrupted, match="stopped 4 runs at step 2 of 4"):
        side_by_side.train_side_by_side(runs)
    assert side_by_side.train_side_by_side(make_runs(base, tmp_path, split)) == (
        [None] * 4
    )
    for run, other in zip(make_runs(base, tmp_path), trained, strict=True):
        for path, a, b in pairs_of_arrays(run.workdir, other.workdir, run.config):
            np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
        one, two = (r.workdir / "records.jsonl" for r in (run, other))
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.slow
def test_a_run_that_is_ahead_is_set_back_to_the_others(trained, base, tmp_path):
    """As if the process had been killed after the first was saved."""
    runs = make_runs(base, tmp_path)

    def kill(step, scores):
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        side_by_side.train_side_by_side([runs[0]._replace(watch=kill), *runs[1:]])
    side_by_side.train_side_by_side(runs)
    for run, other in zip(runs, trained, strict=True):
        one, two = (r.workdir / "records.jsonl" for r in (run, other))
        assert one.read_bytes() == two.read_bytes()


def test_runs_at_steps_far_apart_are_refused(base, tmp_path):
    runs = make_runs(base, tmp_path)[:2]
    loop.train_and_evaluate(runs[0].config, runs[0].split, runs[0].workdir)
    with pytest.raises(
        side_by_side.StepsDifferError, match="must be at one step, got 0 to 4"
    ):
        side_by_side.train_side_by_side(runs)


def test_runs_that_diverge_leave_the_others_alone(base, tmp_path, monkeypatch):
    runs = make_runs(base, tmp_path, rates=("1e38", "0.01"))
    closed, open_writers = {}, run_folder.open_writers

    @contextlib.contextmanager
    def watched(run, step):
        closed[run.workdir] = "failed"
        with open_writers(run, step) as writer:
            yield writer
        closed[run.workdir] = "finished"

    monkeypatch.setattr(run_folder, "open_writers", watched)
    results = side_by_side.train_side_by_side(runs)
    assert [run.config.optimizer.learning_rate for run in runs] == [
        *[1e38] * 2,
        *[0.01] * 2,
    ]
    assert [closed[run.workdir] for run in runs] == ["failed"] * 2 + ["finished"] * 2
    for run, bad in zip(runs[:2], results[:2], strict=True):
        assert isinstance(bad, stopping.NotFiniteError)
        assert not (run.workdir / "model").exists()
    assert results[2:] == [None] * 2
    for run in runs[2:]:
        assert records.read(run.workdir / "records.jsonl")[-1].step == 4


def test_without_updates_the_initial_networks_are_scored(base, tmp_path):
    runs = make_runs(replace(base, num_steps=0), tmp_path)[:2]
    for _ in range(2):
        assert side_by_side.train_side_by_side(runs) == [None, None]
    for run in runs:
        lines = records.read(run.workdir / "records.jsonl")
        assert [r.step for r in lines if r.kind == "validation"] == [0]
        assert model_folder.load_model(run.workdir / "model").provenance.step == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.features": 3}, "may differ in seed and optimizer.learning_rate only"),
        ({"data.validation": ":1"}, "may differ in seed"),
    ],
)
def test_runs_that_differ_otherwise_are_refused(base, tmp_path, changes, message):
    one, *_ = make_runs(base, tmp_path)
    other = one._replace(config=configs.override(base, changes))
    with pytest.raises(ValueError, match=message):
        side_by_side.train_side_by_side([one, other])


def test_other_images_are_refused(base, tmp_path):
    one, other, *_ = make_runs(base, tmp_path)
    split = open_data.open_split(replace(base.data, validation=":1"))
    with pytest.raises(ValueError, match="must have one split, the same object"):
        side_by_side.train_side_by_side([one, other._replace(split=split)])
