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
from unetjax.training import loop, run_folder, stopping

# Largest difference of a parameter after four updates, relative to the largest one of
# its array: a stacked convolution sums in another order.
TOLERANCE = 1e-5


def make_runs(base, folder, split=None):
    grid = [("optimizer.learning_rate", ["0.01", "0.003"])]
    split = split or open_data.open_split(base.data)
    return [
        run_folder.make_run(trial.config, split, folder / trial.name)
        for trial in trials.expand(base, grid=grid, seeds=2)
    ]


def assert_alike(one, other, config):
    states = final_state(one, config), final_state(other, config)
    for (path, a), (_, b) in zip(*states, strict=True):
        a, b, name = np.asarray(a), np.asarray(b), jax.tree_util.keystr(path)
        scale = np.abs(b).max(initial=1e-6)
        np.testing.assert_allclose(a / scale, b / scale, atol=TOLERANCE, err_msg=name)


@pytest.fixture(scope="module")
def together(base, tmp_path_factory):
    runs = make_runs(base, tmp_path_factory.mktemp("together"))
    assert side_by_side.train_side_by_side(runs) == [None] * 4
    return runs


def test_they_are_what_they_are_one_by_one(together, tmp_path):
    for run in together[::3]:  # another seed, another rate
        alone = tmp_path / run.workdir.name
        loop.train_and_evaluate(run.config, run.split, alone)
        assert_alike(run.workdir, alone, run.config)
        lines = [records.read(w / "records.jsonl") for w in (run.workdir, alone)]
        for a, b in zip(*lines, strict=True):
            assert (a.step, a.kind) == (b.step, b.kind)
            if a.kind == "train":
                assert a.values == pytest.approx(b.values, rel=1e-4)


def test_they_differ_from_each_other(together):
    weights = [np.load(run.workdir / "model" / "weights.npz") for run in together]
    heads = [w["params/head/kernel"] for w in weights]
    for i in range(4):
        assert not any(np.array_equal(heads[i], heads[j]) for j in range(i))


def test_each_leaves_an_ordinary_run_folder_that_goes_on_alone(together):
    run = together[1]
    before = (run.workdir / "records.jsonl").read_bytes()
    trained = loop.train_and_evaluate(run.config, run.split, run.workdir)
    assert (run.workdir / "records.jsonl").read_bytes() == before
    assert trained.provenance.config["seed"] == run.config.seed
    assert model_folder.load_model(run.workdir / "model").input_scaling == InputScaling(
        "percentile"
    )


def test_the_batches_are_those_of_single_runs_bit_for_bit(base):
    """The data keys are stacked, the draws are not changed by it."""
    keys = [jax.random.key(seed) for seed in (0, 1)]

    def draw(key):
        return jax.random.uniform(jax.random.fold_in(key, 3), (5,))

    stacked = jax.vmap(draw)(jax.numpy.stack(keys))
    for key, row in zip(keys, stacked, strict=True):
        np.testing.assert_array_equal(draw(key), row)


def test_interrupted_they_go_on_together(together, base, tmp_path):
    split = open_data.open_split(base.data)
    runs = make_runs(base, tmp_path)
    runs[1] = runs[1]._replace(watch=lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(stopping.Interrupted, match="stopped 4 runs at step 2 of 4"):
        side_by_side.train_side_by_side(runs)
    assert side_by_side.train_side_by_side(make_runs(base, tmp_path, split)) == (
        [None] * 4
    )
    for run, other in zip(make_runs(base, tmp_path), together, strict=True):
        states = final_state(run.workdir, run.config), final_state(other.workdir)
        for (path, a), (_, b) in zip(*states, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
        one, two = (r.workdir / "records.jsonl" for r in (run, other))
        assert one.read_bytes() == two.read_bytes()


def test_one_that_is_ahead_is_taken_back_to_the_others(together, base, tmp_path):
    """As if the first had been saved, and the process killed before the next was."""
    runs = make_runs(base, tmp_path)

    def kill(step, scores):
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        side_by_side.train_side_by_side([runs[0]._replace(watch=kill), *runs[1:]])
    side_by_side.train_side_by_side(runs)
    for run, other in zip(runs, together, strict=True):
        one, two = (r.workdir / "records.jsonl" for r in (run, other))
        assert one.read_bytes() == two.read_bytes()


def test_runs_far_apart_are_refused(base, tmp_path):
    runs = make_runs(base, tmp_path)[:2]
    loop.train_and_evaluate(runs[0].config, runs[0].split, runs[0].workdir)
    with pytest.raises(
        side_by_side.StepsDifferError, match="must be at one step, got 0 to 4"
    ):
        side_by_side.train_side_by_side(runs)


def test_one_that_diverges_leaves_the_others_alone(base, tmp_path):
    grid = [("optimizer.learning_rate", ["1e38", "0.01"])]
    sgd = trials.override(base, {"optimizer.name": "sgd"})
    split = open_data.open_split(base.data)
    runs = [
        run_folder.make_run(t.config, split, tmp_path / t.name)
        for t in trials.expand(sgd, grid=grid)
    ]
    bad, good = side_by_side.train_side_by_side(runs)
    assert isinstance(bad, stopping.NotFiniteError)
    assert good is None
    assert not (runs[0].workdir / "model").exists()
    assert records.read(runs[1].workdir / "records.jsonl")[-1].step == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.features": 3}, "may differ in seed and optimizer.learning_rate only"),
        ({"data.validation": ":1"}, "may differ in seed"),
    ],
)
def test_runs_that_are_not_alike_are_refused(base, tmp_path, changes, message):
    one, *_ = make_runs(base, tmp_path)
    other = one._replace(config=trials.override(base, changes))
    with pytest.raises(ValueError, match=message):
        side_by_side.train_side_by_side([one, other])


def test_other_images_are_refused(base, tmp_path):
    one, other, *_ = make_runs(base, tmp_path)
    split = open_data.open_split(replace(base.data, validation=":1"))
    with pytest.raises(ValueError, match="must have one split, the same object"):
        side_by_side.train_side_by_side([one, other._replace(split=split)])
