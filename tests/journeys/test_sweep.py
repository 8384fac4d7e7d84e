"""Sweeps as a researcher launches them: several workers, one of which is killed."""

import csv
import signal
import time

import pytest

from tests import commands
from unetjax.files import folders
from unetjax.reporting import records

TINY = [
    "--config=ml_collections_configs/smoke.py",
    "--config.model.features=2",
    "--config.model.depth=1",
    "--config.tile_size=20",
    "--config.augmentation.elastic_sigma=0",
    "--config.weight_map.w0=0",
    "--config.num_steps=6",
    "--config.evaluate_every=2",
    "--config.log_every=2",
    "--config.data.num_images=3",
]


def start(workdir, *args):
    args = [*TINY, *args, f"--workdir={workdir}"]
    return commands.as_program("experiments.sweep", *args)


def sweep(workdir, *args):
    return commands.in_process(
        "experiments.sweep", *TINY, *args, f"--workdir={workdir}"
    )


def evaluate(workdir, *args):
    return commands.in_process(
        "experiments.evaluate", *TINY, *args, f"--workdir={workdir}"
    )


def first_claim(workdir, pid):
    """Waits until a worker holds a trial that has been evaluated once."""
    while True:
        for lock in (workdir / ".claims").glob("*/.unetjax.lock"):
            lines = records.read(workdir / lock.parent.name / "records.jsonl")
            if f"process {pid} on" in lock.read_text() and len(lines) > 1:
                return lock.parent.name
        time.sleep(0.01)


@pytest.mark.slow
def test_two_workers_share_a_sweep_and_one_is_killed(tmp_path):
    """The survivor takes over what the dead one held; nothing runs twice or is lost."""
    workdir, args = tmp_path / "s", ["--folds=2", "--grid=weight_map.w0=0,10"]
    doomed, other = start(workdir, *args), start(workdir, *args)
    held = first_claim(workdir, doomed.pid)
    doomed.send_signal(signal.SIGKILL)
    doomed.communicate()
    out, err = other.communicate()
    assert other.returncode == 0, err
    with (workdir / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert {row["state"] for row in rows} == {"finished"}
    assert held in {row["trial"] for row in rows}
    for row in rows:
        lines = records.read(workdir / row["trial"] / "records.jsonl")
        steps = [r.step for r in lines if r.kind == "validation"]
        assert steps == [2, 4, 6]
    with (workdir / "means.csv").open() as file:
        assert [row["trials"] for row in csv.DictReader(file)] == ["2", "2"]
    assert "IoU, mean of classes" in out
    for lock in (workdir / ".claims").rglob(folders.LOCK):
        with folders.claim(lock.parent):  # free: nobody holds it any more
            pass
    # Every trial is scored on the images of its own fold, as in its training.
    scored = evaluate(workdir)
    assert scored.returncode == 0, scored.stderr
    known = {(row["data.fold"], row["weight_map.w0"]): row for row in rows}
    lines = scored.stdout.split("\n\n")[0].splitlines()[2:]
    assert len(lines) == 4
    for line in lines:
        w0, fold, _, _, accuracy = line.split()[:5]
        assert float(accuracy) == pytest.approx(
            float(known[fold, w0]["accuracy"]), abs=1e-4
        )


@pytest.mark.slow
def test_all_trials_are_scored_at_once(tmp_path):
    """With scores that no training takes, and their spread over seeds."""
    workdir = tmp_path / "s"
    done = sweep(workdir, "--seeds=2", "--config.num_steps=2")
    assert (workdir / "means.csv").exists(), done.stderr
    scored = evaluate(workdir, "--config.num_steps=2", "--scores=tracking")
    assert scored.returncode == 0, scored.stderr
    trials, means = scored.stdout.strip().split("\n\n")
    assert [line.split()[:3] for line in trials.splitlines()[:1]] == [
        ["seed", "state", "best"]
    ]
    assert len(trials.splitlines()) == 2 + 2  # head, rule and two seeds
    assert means.splitlines()[0].split()[:3] == ["trials", "SEG", "DET"]
    assert "±" in means.splitlines()[2]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "smoke.py has no function sweep; say what to vary"),
        (["--search=seed=1..2", "--seeds=2"], "--search chooses the trials itself"),
        (
            ["--search=seed=1.."],
            "--search must be of the form optimizer.learning_rate=1e-5",
        ),
        (["--seeds=-1"], "--seeds must be at least 0, got -1."),
    ],
)
def test_bad_arguments_end_in_one_sentence(tmp_path, args, message):
    done = sweep(tmp_path / "s", *args)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert not (tmp_path / "s").exists()
