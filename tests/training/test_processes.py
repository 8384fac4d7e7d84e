"""Several processes train one run: real ones, which talk over the loopback device."""

import signal
import time

import numpy as np
import pytest

from tests.commands import in_process
from tests.training import together
from tests.training.runs import make_split
from unetjax.reporting import environment, records
from unetjax.training import loop

SMOKE = "--config=ml_collections_configs/smoke.py"


def losses(workdir):
    lines = records.read(workdir / "records.jsonl")
    return [record.values["loss"] for record in lines if record.kind == "train"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of this process, with its two devices."""
    workdir = tmp_path_factory.mktemp("alone") / "r"
    loop.train_and_evaluate(together.configured({}), make_split(), workdir)
    return workdir


@pytest.mark.slow
def test_two_processes_train_as_one_and_one_resumes_their_run(alone, tmp_path):
    """Three steps by two processes with two devices each, three by this one alone.

    Rounding differs, as sums over devices have another order.
    """
    started = together.start(tmp_path / "r", 2, 2, num_steps=3)
    statuses, errors = together.wait(started)
    assert statuses == [0, 0], errors
    (begin,) = environment.read_starts(tmp_path / "r")
    assert begin["devices"] == "4 x cpu in 2 processes"
    written = {path.name for path in (tmp_path / "r" / "checkpoints").iterdir()}
    assert written == {"3"}
    loop.train_and_evaluate(together.configured({}), make_split(), tmp_path / "r")
    assert [each["step"] for each in environment.read_starts(tmp_path / "r")] == [0, 3]
    np.testing.assert_allclose(losses(tmp_path / "r"), losses(alone), rtol=0, atol=1e-6)
    assert len(losses(alone)) == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_processes", "num_devices", "partition"),
    [
        *((1, 4, "pmap"), (1, 1, "pmap"), (2, 2, "pmap"), (2, 2, "jit")),
        *((8, 1, "pmap"), (8, 1, "jit")),
    ],
)
def test_any_number_of_processes_gives_the_same_curve(
    alone, tmp_path, num_processes, num_devices, partition
):
    started = together.start(
        tmp_path / "r", num_processes, num_devices, partition=partition
    )
    statuses, errors = together.wait(started)
    assert statuses == [0] * num_processes, errors
    np.testing.assert_allclose(losses(tmp_path / "r"), losses(alone), rtol=0, atol=1e-6)


def wait_for(path, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.05)


ENDLESS = {"num_steps": 10**6, "evaluate_every": 20}


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_the_others_end_when_one_is_killed_and_the_same_command_resumes(
    tmp_path, killed
):
    workdir = tmp_path / "r"
    started = together.start(workdir, 2, 1, **ENDLESS)
    wait_for(workdir / "checkpoints" / "20")
    started[killed].kill()
    statuses, errors = together.wait(started, timeout=60)
    assert statuses[killed] == -signal.SIGKILL
    assert statuses[1 - killed] not in (0, -signal.SIGKILL)
    sentence = "another process of the 2 has ended or cannot be reached"
    assert sentence in errors[1 - killed]
    assert "Traceback" not in errors[1 - killed]
    step = int(max(path.name for path in (workdir / "checkpoints").glob("[0-9]*")))
    statuses, errors = together.wait(
        together.start(workdir, 2, 1, **ENDLESS | {"num_steps": step + 20})
    )
    assert statuses == [0, 0], errors
    starts = [each["step"] for each in environment.read_starts(workdir)]
    assert starts == [0, step]
    assert len(losses(workdir)) == step + 20


@pytest.mark.slow
@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_to_either_process_stops_both_after_a_save(tmp_path, told):
    workdir = tmp_path / "r"
    started = together.start(workdir, 2, 1, **ENDLESS)
    wait_for(workdir / "checkpoints" / "20")
    started[told].terminate()
    (leader, follower), errors = together.wait(started, timeout=60)
    assert (leader, follower) == (128 + signal.SIGTERM, 2)
    last = len(losses(workdir))
    assert f"stopped at step {last} of 1000000; run the same command" in errors[0]
    assert "process 0 ended early" in errors[1]
    assert (workdir / "checkpoints" / str(last)).exists()


@pytest.mark.slow
def test_what_process_0_refuses_ends_all(alone):
    """A folder of another run: its lock and its checks are process 0's alone."""
    started = together.start(alone, 2, 1, seed=7)
    statuses, errors = together.wait(started, timeout=60)
    assert statuses == [2, 2]
    assert "holds a run with another config (seed: 0, now 7)" in errors[0]
    assert "process 0 ended early" in errors[1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--coordinator=host"], "--coordinator must be HOST:PORT, auto or none"),
        (["--coordinator=host:1"], "also needs --num_processes and --process_id"),
        (["--process_id=0"], "need --coordinator=HOST:PORT, the address of process 0"),
        (
            ["--coordinator=host:1", "--num_processes=2", "--process_id=2"],
            "--process_id must be at least 0 and below --num_processes=2, got 2.",
        ),
    ],
)
def test_incomplete_numbers_are_refused_in_one_sentence(args, message, tmp_path):
    done = in_process("experiments.train", SMOKE, f"--workdir={tmp_path / 'r'}", *args)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
