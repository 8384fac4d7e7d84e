"""A run that was interrupted in any way, and resumed, equals an uninterrupted one."""

import contextlib
import logging
import os
import pathlib
import signal
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

from tests.training.runs import CONFIG, PLAIN, Alarm, assert_equal_runs, make_split
from unetjax.inference.segment import segment
from unetjax.model_io import model_folder
from unetjax.reporting import environment, metric_writer, records
from unetjax.training import loop, stopping

ROOT = str(pathlib.Path(__file__).parents[2])


def test_resumed_with_more_steps(uninterrupted, tmp_path, caplog):
    """Each start logs from where it trains, and is noted unless nothing is trained."""
    with caplog.at_level(logging.INFO, logger="unetjax"):
        for num_steps in (3, 6, 6):
            config = replace(CONFIG, num_steps=num_steps)
            loop.train_and_evaluate(config, make_split(), tmp_path / "r")
    assert_equal_runs(tmp_path / "r", uninterrupted)
    starts = environment.read_starts(tmp_path / "r")
    assert [start["step"] for start in starts] == [0, 3]
    logged = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
    assert logged == [
        f"{tmp_path / 'r'} resumes at step 3 of 6.",
        f"{tmp_path / 'r'} is finished, at step 6; a larger num_steps resumes it.",
    ]


def test_an_exception_of_a_watcher_ends_the_run_after_the_save(uninterrupted, tmp_path):
    seen = []

    def watch(step, scores):
        seen.append((step, scores["mean_iou"]))
        if len(seen) == 1:
            raise RuntimeError("enough")

    for _ in range(2):
        with contextlib.suppress(RuntimeError):
            loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "r", watch=watch)
    lines = records.read(uninterrupted / "records.jsonl")
    expected = [(r.step, r.values["mean_iou"]) for r in lines if r.kind == "validation"]
    assert seen == expected
    assert_equal_runs(tmp_path / "r", uninterrupted)


def test_a_signal_stops_between_two_steps_and_loses_nothing(uninterrupted, tmp_path):
    with pytest.raises(
        stopping.Interrupted, match="step 3 of 6; run the same command again to resume"
    ):
        loop.train_and_evaluate(CONFIG, make_split(Alarm), tmp_path / "r")
    loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "r")
    assert_equal_runs(tmp_path / "r", uninterrupted)


KILLED_WHILE_SAVING = """
import os, pathlib, signal, sys, threading, time
sys.path[:0] = sys.argv[2:]
from tests.training import runs
from unetjax.devices import runtime
runtime.set_compiler_flags()
import jax
from unetjax.training import loop
jax.config.update("jax_num_cpu_devices", 2)
workdir = pathlib.Path(sys.argv[1])

def kill():  # in the middle of saving step 3, or a little later
    while not list((workdir / "checkpoints").glob("3*")):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=kill, daemon=True).start()
loop.train_and_evaluate(runs.CONFIG, runs.make_split(), workdir)
"""


def test_killed_while_saving(uninterrupted, tmp_path):
    """SIGKILL leaves no time to tidy up: lock, torn files and all."""
    code = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_SAVING, str(tmp_path / "r"), ROOT],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    ).returncode
    assert code == -signal.SIGKILL
    loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "r")
    assert_equal_runs(tmp_path / "r", uninterrupted)


KILLED_ANYWHERE = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
from tests.training import runs
from unetjax.training import loop
workdir, left = sys.argv[1], int(sys.argv[2])

def count(event, args):  # what Python does to a file of the run folder
    global left
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        if str(args[0]).startswith(workdir):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
loop.train_and_evaluate(runs.CONFIG, runs.make_split(), workdir)
"""


def kill_at(workdir, action):
    """Trains in a process that dies at its n-th file action; returns whether it did."""
    code = subprocess.run(
        [sys.executable, "-c", KILLED_ANYWHERE, str(workdir), str(action), ROOT],
        cwd=ROOT,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "2"},
    ).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.parametrize(
    ("seed", "kills"),
    [(0, 1), *((seed, 5) for seed in range(11))],
)
@pytest.mark.slow
def test_killed_at_random_file_actions(uninterrupted, tmp_path, seed, kills):
    """SIGKILL at actions on the lock, records, pictures, model or checkpoints.

    A run of this size does some 130 of them; the last process is not killed.
    """
    points = np.random.default_rng(seed).integers(1, 120, size=kills).tolist()
    killed = [kill_at(tmp_path / "r", point) for point in points]
    assert any(killed), points
    trained = loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "r")
    assert_equal_runs(tmp_path / "r", uninterrupted)
    image = make_split().validation[0].image
    probs = [
        segment(each, image).probs
        for each in (trained, model_folder.load_model(uninterrupted / "model"))
    ]
    np.testing.assert_array_equal(*probs)


def test_a_resumed_run_is_one_run_in_tensorboard(tmp_path):
    """TensorBoard's reader finds every number of the records once, and no other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from what TensorBoard imports
        reader = pytest.importorskip(
            "tensorboard.backend.event_processing.event_accumulator",
            reason="tensorboard, which reads event files, is not installed",
        )
    config = replace(
        PLAIN, writers=("tensorboard",), histograms=True, log_grad_norms=True
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
