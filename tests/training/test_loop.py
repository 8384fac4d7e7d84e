import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.data import synthetic
from unetjax.data.examples import from_instances
from unetjax.data.splits import Split
from unetjax.evaluation import postprocessing_search
from unetjax.inference.segment import segment
from unetjax.model_io import model_folder
from unetjax.reporting import environment, metric_writer, records
from unetjax.training import checkpoints, loop, programs, stopping
from unetjax.training import config as configs

CONFIG = configs.from_dict(
    {
        "num_steps": 6,
        "batch_size": 2,
        "tile_size": 32,
        "scaling": "percentile",
        "log_every": 2,
        "evaluate_every": 3,
        "model": {"features": 2, "depth": 1},
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "augmentation": {"elastic_sigma": 1.0},
    }
)


def make_split(validation=list):
    cells = [
        synthetic.touching_cells(0, i, size=(40, 48), num_cells=4, radius=6.0)
        for i in range(3)
    ]
    return Split(cells[:2], validation(cells[2:]))


def cells():
    """Two squares, numbered."""
    instances = np.zeros((40, 40), np.int32)
    instances[5:15, 5:15], instances[20:35, 10:30] = 1, 2
    return instances


def final_state(workdir, config=CONFIG):
    """The last checkpoint of a run, as arrays by name."""
    like = programs.initial_state(config, jax.random.key(1), channels=1)
    with checkpoints.open_checkpoints(
        workdir / "checkpoints", best_metric=config.best_metric
    ) as manager:
        state = checkpoints.restore_latest(manager, like)
    return jax.tree.leaves_with_path(state)


def assert_equal_runs(one, other, config=CONFIG):
    """Bit for bit: parameters, optimizer state, records, best model."""
    states = final_state(one, config), final_state(other, config)
    for (path, a), (_, b) in zip(*states, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
    weights = [np.load(run / "model" / "weights.npz") for run in (one, other)]
    for name in weights[0]:
        np.testing.assert_array_equal(weights[0][name], weights[1][name], err_msg=name)
    names = ["records.jsonl", "records.csv"]
    names += sorted(f"pictures/{path.name}" for path in (one / "pictures").iterdir())
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """An uninterrupted run."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    loop.train_and_evaluate(CONFIG, make_split(), workdir)
    return workdir


def test_a_run_leaves_what_it_promises(straight):
    assert configs.from_dict(json.loads((straight / "config.json").read_text())) == (
        CONFIG
    )
    lines = records.read(straight / "records.jsonl")
    assert [(r.step, r.kind) for r in lines if r.kind != "warning"] == [
        (1, "train"),
        (2, "train"),
        (3, "validation"),
        (4, "train"),
        (6, "train"),
        (6, "validation"),
    ]
    trained = model_folder.load(straight / "model")
    assert trained.model == CONFIG.model
    assert trained.scaling == "percentile"
    scores = {r.step: r.values["mean_iou"] for r in lines if r.kind == "validation"}
    assert trained.about["step"] == max(scores, key=lambda step: scores[step])
    assert (straight / "records.csv").read_text() == records.to_csv(lines)
    assert sorted(path.name for path in (straight / "pictures").iterdir()) == [
        "step_00000000.png",
        "step_00000003.png",
        "step_00000006.png",
    ]


def test_resumed_is_uninterrupted(straight, tmp_path):
    loop.train_and_evaluate(replace(CONFIG, num_steps=3), make_split(), tmp_path / "r")
    loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "r")
    assert_equal_runs(tmp_path / "r", straight)


def test_every_start_is_noted_with_where_it_went_on(tmp_path):
    for num_steps in (3, 6, 6):
        config = replace(CONFIG, num_steps=num_steps)
        loop.train_and_evaluate(config, make_split(), tmp_path / "r")
    starts = environment.read_starts(tmp_path / "r")
    assert [start["step"] for start in starts] == [0, 3]


def test_a_run_of_an_older_version_goes_on(tmp_path):
    """Its config.json lacks the options that did not exist."""
    loop.train_and_evaluate(replace(CONFIG, num_steps=3), make_split(), tmp_path / "r")
    path = tmp_path / "r" / "config.json"
    options = json.loads(path.read_text())
    del options["patience"], options["data"]["fold"]
    path.write_text(json.dumps(options))
    loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "r")
    assert json.loads(path.read_text())["patience"] == 0


STANDSTILL = replace(
    CONFIG,
    num_steps=8,
    evaluate_every=1,
    patience=2,
    optimizer=replace(CONFIG.optimizer, learning_rate=0.0),
)


def test_without_progress_a_run_is_finished_early_and_stays_so(tmp_path):
    """Nothing is learned at a rate of 0: the first of three evaluations is the best."""
    trained = loop.train_and_evaluate(STANDSTILL, make_split(), tmp_path / "r")
    assert trained.about["step"] == 1
    path = tmp_path / "r" / "records.jsonl"
    before = path.read_bytes()
    assert [r.step for r in records.read(path) if r.kind == "validation"] == [1, 2, 3]
    loop.train_and_evaluate(STANDSTILL, make_split(), tmp_path / "r")
    assert path.read_bytes() == before
    assert len(environment.read_starts(tmp_path / "r")) == 1


def test_more_patience_goes_on_as_if_it_had_never_stopped(tmp_path):
    loop.train_and_evaluate(STANDSTILL, make_split(), tmp_path / "a")
    patient = replace(STANDSTILL, patience=3)
    loop.train_and_evaluate(patient, make_split(), tmp_path / "a")
    loop.train_and_evaluate(patient, make_split(), tmp_path / "b")
    assert [r.step for r in records.read(tmp_path / "a" / "records.jsonl")][-1] == 4
    assert_equal_runs(tmp_path / "a", tmp_path / "b", patient)


def test_interrupted_and_resumed_stops_early_at_the_same_step(tmp_path):
    loop.train_and_evaluate(STANDSTILL, make_split(), tmp_path / "a")
    with pytest.raises(stopping.Interrupted):
        loop.train_and_evaluate(STANDSTILL, make_split(Alarm), tmp_path / "b")
    loop.train_and_evaluate(STANDSTILL, make_split(), tmp_path / "b")
    assert_equal_runs(tmp_path / "a", tmp_path / "b", STANDSTILL)


def test_a_watcher_sees_every_evaluation_and_may_end_the_run(straight, tmp_path):
    seen = []

    def watch(step, scores):
        seen.append((step, scores["mean_iou"]))
        if len(seen) == 1:
            raise RuntimeError("enough")

    for _ in range(2):
        with contextlib.suppress(RuntimeError):
            loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "r", watch=watch)
    lines = records.read(straight / "records.jsonl")
    expected = [(r.step, r.values["mean_iou"]) for r in lines if r.kind == "validation"]
    assert seen == expected
    assert_equal_runs(tmp_path / "r", straight)


def test_again_after_the_end_does_nothing(straight):
    before = {p: p.stat().st_mtime_ns for p in straight.rglob("*") if p.is_file()}
    loop.train_and_evaluate(CONFIG, make_split(), straight)
    after = {p: p.stat().st_mtime_ns for p in straight.rglob("*") if p.is_file()}
    changed = {
        p.name for p in before.keys() | after.keys() if before.get(p) != after.get(p)
    }
    assert changed <= {"config.json", ".unetjax.lock"}


class Alarm(list):
    """Validation images that send one signal, when they are first scored."""

    sent = False

    def __iter__(self):
        if not self.sent:
            self.sent = True
            signal.raise_signal(signal.SIGTERM)
        return super().__iter__()


def test_a_signal_stops_between_two_steps_and_loses_nothing(straight, tmp_path):
    with pytest.raises(stopping.Interrupted, match="step 3 of 6; run the same command"):
        loop.train_and_evaluate(CONFIG, make_split(Alarm), tmp_path / "r")
    loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "r")
    assert_equal_runs(tmp_path / "r", straight)


KILLED = """
import os, pathlib, signal, sys, threading, time
sys.path[:0] = sys.argv[2:]
from tests.training import test_loop as t
from unetjax.devices import runtime
runtime.set_compiler_flags()
import jax
jax.config.update("jax_num_cpu_devices", 2)
workdir = pathlib.Path(sys.argv[1])

def kill():  # in the middle of saving step 3, or a little later
    while not list((workdir / "checkpoints").glob("3*")):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=kill, daemon=True).start()
t.loop.train_and_evaluate(t.CONFIG, t.make_split(), workdir)
"""


def test_killed_while_saving_and_resumed_is_uninterrupted(straight, tmp_path):
    """SIGKILL leaves no time to tidy up: lock, torn files and all."""
    root = str(pathlib.Path(__file__).parents[2])
    code = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "r"), root],
        cwd=root,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    ).returncode
    assert code == -signal.SIGKILL
    loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "r")
    assert_equal_runs(tmp_path / "r", straight)


KILLED_ANYWHERE = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
from tests.training import test_loop as t
workdir, left = sys.argv[1], int(sys.argv[2])

def count(event, args):  # what Python does to a file of the run folder
    global left
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        if str(args[0]).startswith(workdir):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
t.loop.train_and_evaluate(t.CONFIG, t.make_split(), workdir)
"""


def kill_at(workdir, action):
    """Trains in a process that dies at its n-th file action; returns whether it did."""
    root = str(pathlib.Path(__file__).parents[2])
    code = subprocess.run(
        [sys.executable, "-c", KILLED_ANYWHERE, str(workdir), str(action), root],
        cwd=root,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "2"},
    ).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.parametrize(
    ("seed", "kills"),
    [(0, 2), *(pytest.param(seed, 5, marks=pytest.mark.slow) for seed in range(1, 11))],
)
def test_killed_anywhere_and_resumed_is_uninterrupted(straight, tmp_path, seed, kills):
    """SIGKILL at random file actions: of the lock, records, pictures, model, saves.

    A run of this size does some 130 of them; the last process is not killed.
    """
    points = np.random.default_rng(seed).integers(1, 120, size=kills).tolist()
    killed = [kill_at(tmp_path / "r", point) for point in points]
    assert any(killed), points
    trained = loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "r")
    assert_equal_runs(tmp_path / "r", straight)
    image = make_split().validation[0].image
    found = [
        segment(each, image).probs
        for each in (trained, model_folder.load(straight / "model"))
    ]
    np.testing.assert_array_equal(*found)


def test_a_resumed_run_is_shown_as_one(tmp_path):
    """TensorBoard's reader finds every number of the records once, and no other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what TensorBoard imports
        reader = pytest.importorskip(
            "tensorboard.backend.event_processing.event_accumulator",
            reason="tensorboard, which reads event files, is not installed",
        )
    config = replace(
        CONFIG, writers=("tensorboard",), histograms=True, log_grad_norms=True
    )
    workdir = tmp_path / "r"
    with pytest.raises(stopping.Interrupted):
        loop.train_and_evaluate(config, make_split(Alarm), workdir)
    checkpoint = workdir / "checkpoints" / "3"
    checkpoint.rename(tmp_path / "lost")  # as if it had been killed before the save
    loop.train_and_evaluate(config, make_split(), workdir)
    everything = {"scalars": 0, "images": 0, "histograms": 0}
    events = reader.EventAccumulator(str(workdir / "tensorboard"), everything)
    events.Reload()
    shown = {
        (event.step, name): event.value
        for name in events.Tags()["scalars"]
        for event in events.Scalars(name)
    }
    written = {
        (record.step, name): value
        for record in records.read(workdir / "records.jsonl")
        for name, value in metric_writer.numbers(record).items()
        if np.isfinite(value)
    }
    assert shown == pytest.approx(written)
    counts = {name: len(events.Scalars(name)) for name in events.Tags()["scalars"]}
    assert counts["train/grad_norm/encoder_0/conv_0/kernel"] == 4
    assert counts["validation/mean_iou"] == 2
    assert [event.step for event in events.Images("pictures")] == [0, 3, 6]
    histograms = events.Histograms("activations/encoder_0/conv_0")
    assert [event.step for event in histograms] == [3, 6]
    assert histograms[0].histogram_value.num == 30 * 30 * 2  # a tile of 32, 2 features


def test_another_config_is_refused_with_the_difference(straight):
    other = replace(CONFIG, seed=1, model=CONFIG.model.clone(features=3))
    with pytest.raises(
        ValueError, match=r"model.features: 2, now 3; seed: 0, now 1\); use that"
    ):
        loop.train_and_evaluate(other, make_split(), straight)


def test_a_folder_of_somebody_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("two years of work")
    with pytest.raises(FileExistsError, match="holds files and no run of unetjax"):
        loop.train_and_evaluate(CONFIG, make_split(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_workdir(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(FileExistsError, match="is a file; name a new or empty folder"):
        loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "a")


@pytest.mark.parametrize(
    ("reduction", "message"),
    [
        ("weighted_mean", "of step 2 is nan, over tiles of .*; the checkpoints before"),
        ("sum", "conv_0/bias is not finite after step 1; the checkpoints before"),
    ],
)
def test_a_run_that_diverges_stops_and_saves_nothing(reduction, message, tmp_path):
    """Nothing broken becomes a checkpoint, or the best model."""
    diverging = replace(
        CONFIG,
        evaluate_every=1 if reduction == "sum" else 6,
        loss=replace(CONFIG.loss, reduction=reduction),
        optimizer=replace(CONFIG.optimizer, name="sgd", learning_rate=1e38),
    )
    with pytest.raises(stopping.NotFiniteError, match=message):
        loop.train_and_evaluate(diverging, make_split(), tmp_path / "r")
    assert not (tmp_path / "r" / "model").exists()
    assert not list((tmp_path / "r" / "checkpoints").iterdir())


def test_a_loss_that_is_not_finite_names_its_images_and_leaves_the_last_save(tmp_path):
    """One image of two breaks the loss: it is named, the other is not.

    With seed 9 they are drawn in turns, the dim one first.
    """
    dim, bright = (
        from_instances(
            np.full((40, 40, 1), level, np.uint8), cells(), f"{level} of 255"
        )
        for level in (50, 220)
    )

    def poison(image, label, weight, key):
        return jnp.where(image.mean() > 0.5, jnp.nan, image), label, weight

    workdir = tmp_path / "r"
    config = replace(CONFIG, scaling="unit", batch_size=1, evaluate_every=1, seed=9)
    with pytest.raises(
        stopping.NotFiniteError,
        match="the loss of step 2 is nan, over tiles of 220 of 255;",
    ):
        loop.train_and_evaluate(
            config, Split([dim, bright], [dim]), workdir, transform=poison
        )
    assert model_folder.load(workdir / "model").about["step"] == 1
    state = dict(final_state(workdir, config))
    assert [int(leaf) for path, leaf in state.items() if "step" in str(path)][:1] == [1]
    lines = records.read(workdir / "records.jsonl")
    assert {record.step for record in lines} == {1}
    assert (workdir / "records.csv").read_text() == records.to_csv(lines)


def test_a_collapse_is_said_aloud_and_written_down(tmp_path, caplog):
    """Cells that weigh nothing are given up at once."""
    weight_map = replace(CONFIG.weight_map, class_balance=(1.0, 0.0))
    config = replace(CONFIG, num_steps=20, evaluate_every=20, weight_map=weight_map)
    loop.train_and_evaluate(config, make_split(), tmp_path / "r")
    (line,) = [
        record
        for record in records.read(tmp_path / "r" / "records.jsonl")
        if record.kind == "warning"
    ]
    assert (
        "nearly every validation pixel is predicted as class 0" in (line.values["text"])
    )
    assert caplog.messages == [line.values["text"]]


def test_tuned_after_the_last_step_and_once(straight, tmp_path):
    """The choice is the same function of the best model, interrupted or not."""
    config = replace(CONFIG, tune_instances=True)
    loop.train_and_evaluate(replace(config, num_steps=3), make_split(), tmp_path / "r")
    loop.train_and_evaluate(config, make_split(), tmp_path / "r")
    assert_equal_runs(tmp_path / "r", straight)
    shutil.copytree(straight / "model", tmp_path / "copy")
    validation, metric = make_split().validation, config.best_metric
    expected = postprocessing_search.store_best(
        tmp_path / "copy", validation, best_metric=metric
    )
    trained = model_folder.load(tmp_path / "r")
    assert trained.instances == expected.instances
    words = trained.about["instances_chosen"]
    assert words == expected.about["instances_chosen"]
    before = (tmp_path / "r" / "model" / "model.json").stat().st_mtime_ns
    loop.train_and_evaluate(config, make_split(), tmp_path / "r")
    assert (tmp_path / "r" / "model" / "model.json").stat().st_mtime_ns == before


def test_it_learns(tmp_path):
    """Bright squares on dark ground, in seconds."""
    rng = np.random.default_rng(0)
    instances = np.zeros((40, 40), np.int32)
    for i, (y, x) in enumerate([(3, 4), (5, 20), (22, 8), (25, 25)]):
        instances[y : y + 9, x : x + 9] = i + 1
    noise = rng.integers(0, 20, (40, 40, 1))
    image = (60 + 120 * (instances[..., None] > 0) + noise).astype(np.uint8)
    example = from_instances(image, instances, "squares")
    config = replace(CONFIG, num_steps=120, evaluate_every=120)
    trained = loop.train_and_evaluate(
        config, Split([example], [example]), tmp_path / "r"
    )
    lines = records.read(tmp_path / "r" / "records.jsonl")
    losses = [r.values["loss"] for r in lines if r.kind == "train"]
    assert losses[-1] < 0.3 * losses[0]
    assert trained.about["scores"]["mean_iou"] > 0.8


def test_a_transform_and_gradient_norms_reach_the_step(tmp_path):
    """A transform that ignores every pixel leaves nothing to learn."""

    def ignore(image, label, weight, key):
        return image, label, 0 * weight

    config = replace(CONFIG, num_steps=1, log_grad_norms=True)
    loop.train_and_evaluate(config, make_split(), tmp_path / "a", transform=ignore)
    train = next(
        r for r in records.read(tmp_path / "a" / "records.jsonl") if r.kind == "train"
    )
    assert train.values["loss"] == 0
    norms = {n: x for n, x in train.values.items() if n.startswith("grad_norm/")}
    assert len(norms) == 2 * (2 * 3 + 1 + 1)  # kernels and biases
    assert norms["grad_norm/encoder_0/conv_1/kernel"] == 0


def test_histograms_show_what_the_network_makes_of_a_held_out_tile(tmp_path):
    """In TensorBoard, at every evaluation; rectified but for the convolutions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what TensorBoard imports
        reader = pytest.importorskip(
            "tensorboard.backend.event_processing.event_accumulator",
            reason="tensorboard, which reads event files, is not installed",
        )
    config = replace(
        CONFIG, num_steps=2, evaluate_every=1, writers=("tensorboard",), histograms=True
    )
    loop.train_and_evaluate(config, make_split(), tmp_path / "a")
    events = reader.EventAccumulator(str(tmp_path / "a/tensorboard"), {"histograms": 0})
    events.Reload()
    names = events.Tags()["histograms"]
    assert {"activations/encoder_0", "activations/up_0", "activations/head"} < {*names}
    for name, least in (("bottleneck", 0), ("bottleneck/conv_1", -np.inf)):
        shown = events.Histograms(f"activations/{name}")
        assert [event.step for event in shown] == [1, 2]
        # A tile of 32 pixels is 10 wide at the bottom, of 4 channels.
        assert shown[0].histogram_value.num == 4 * 10**2
        assert (shown[0].histogram_value.min >= 0) == (least == 0)
