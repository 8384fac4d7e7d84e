"""The first signal ends a program in order, the second one at once."""

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from tests import commands
from unetjax import signals
from unetjax.cli import command

NUMBERS = (signal.SIGINT, signal.SIGTERM)
OPTIONS = (
    "--config=ml_collections_configs/smoke.py",
    *(
        f"--config.{option}"
        for option in (
            *("num_steps=4000", "evaluate_every=2000", "log_every=1"),
            *("model.depth=1", "tile_size=44", "num_pictures=1"),
        )
    ),
)


@pytest.fixture(autouse=True)
def handlers():
    """No test changes the handlers of the suite."""
    before = [signal.getsignal(number) for number in NUMBERS]
    yield
    assert [signal.getsignal(number) for number in NUMBERS] == before


@pytest.mark.parametrize("number", NUMBERS)
def test_a_command_ends_with_the_number_of_the_signal(capsys, number):
    assert command.run_command(lambda: signal.raise_signal(number)) == 128 + number
    assert capsys.readouterr().err == "interrupted.\n"


def test_no_handler_of_errors_stops_a_signal():
    def run():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:
            return 1

    assert command.run_command(run) == 143


@pytest.mark.parametrize("number", NUMBERS)
def test_a_loop_notes_the_first_signal(number):
    before = signal.getsignal(signal.SIGINT)
    with signals.first_signal() as received:
        signal.raise_signal(number)
        assert received == [number]
        # In a program of the user the second signal does what it did before.
        assert signal.getsignal(signal.SIGINT) is before


def test_the_second_signal_kills_a_command():
    def run():
        with signals.first_signal():
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL

    assert command.run_command(run) == 0


def test_a_deferred_signal_is_raised_at_the_end_of_the_block():
    done = []

    def run():
        with signals.deferred():
            signal.raise_signal(signal.SIGTERM)
            done.append("block")
        done.append("after it")

    assert command.run_command(run) == 143
    assert done == ["block"]


def test_a_thread_leaves_signals_alone():
    results = []

    def run():
        with signals.raise_on_signal(), signals.first_signal() as received:
            results.append(received)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert results == [[]]


COLLECTED = """
import signal, sys
from unetjax.cli import command

class Late:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

def run():
    late = Late()
    del late
    print("lost")

sys.exit(command.run_command(run))
"""


def test_a_signal_in_the_collection_of_garbage_is_not_lost():
    gc.collect()
    ended = subprocess.run(
        [sys.executable, "-c", COLLECTED],
        capture_output=True,
        text=True,
        cwd=commands.ROOT,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (143, "", "interrupted.\n")


def test_what_the_failed_save_of_a_checkpoint_says_besides_is_not_shown(capsys):
    """Orbax and TensorStore report it in several ways; it is raised as well."""

    def run():
        for name in ("absl", "asyncio"):
            logging.getLogger(name).error("the failure")
        for text in ("Event loop is closed", "something else"):
            error = RuntimeError(text)
            found = types.SimpleNamespace(
                exc_type=RuntimeError,
                exc_value=error,
                exc_traceback=None,
                err_msg=None,
                object=None,
            )
            sys.unraisablehook(found)

    before, sys.unraisablehook = sys.unraisablehook, lambda each: print(each.exc_value)
    try:
        assert command.run_command(run) == 0
    finally:
        sys.unraisablehook = before
    assert capsys.readouterr() == ("something else\n", "")


def test_threads_that_go_on_after_a_command_show_no_closed_loop(capsys):
    before, sys.unraisablehook = sys.unraisablehook, sys.__unraisablehook__
    try:
        assert command.run_command(lambda: 0) == 0
        error = RuntimeError("Event loop is closed")
        kind = types.SimpleNamespace(
            exc_type=RuntimeError,
            exc_value=error,
            exc_traceback=None,
            err_msg=None,
            object=None,
        )
        sys.unraisablehook(kind)
    finally:
        sys.unraisablehook = before
    assert capsys.readouterr() == ("", "")


def num_lines(path):
    return path.read_text().count("\n") if path.exists() else 0


PHASES = {
    "import": lambda workdir: True,
    "data and compilation": lambda workdir: (workdir / "config.json").exists(),
    "training": lambda workdir: num_lines(workdir / "records.jsonl") > 30,
}


@pytest.mark.parametrize(
    ("phase", "number", "twice"),
    [
        ("data and compilation", signal.SIGTERM, False),
        *(
            pytest.param(phase, number, twice, marks=pytest.mark.slow)
            for phase in PHASES
            for number in NUMBERS
            for twice in (False, True)
        ),
    ],
)
def test_a_training_is_stopped_in_any_phase(tmp_path, phase, number, twice):
    """Killed by the signal, or with 128 plus its number: a shell shows the same."""
    args = (*OPTIONS, f"--workdir={tmp_path / 'r'}")
    with commands.as_program("experiments.train", *args) as process:
        while not PHASES[phase](tmp_path / "r"):
            assert process.poll() is None
            time.sleep(0.01)
        if phase == "import":
            time.sleep(0.5)
        process.send_signal(number)
        if twice:
            time.sleep(0.01)
            process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert process.returncode in (128 + number, -number)
    if not twice and phase != "import":
        assert process.returncode == 128 + number
        text = "stopped at step" if phase == "training" else "interrupted."
        assert text in err.splitlines()[-1]
    if phase == "training" and not twice:
        assert os.listdir(tmp_path / "r" / "checkpoints")


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_a_closed_pipe_ends_quietly(words):
    """As in `unetjax --help | head -0`."""
    read, write = os.pipe()
    os.close(read)
    done = commands.run_program("unetjax", *words, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
