"""Machines without a home, users without a name, folders that cannot be written."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests import commands
from unetjax.devices import runtime
from unetjax.files import images

NAMES = ("größe #1.tif", "図 (2).tif", "a b%20'c'.tif")


@pytest.fixture
def annotated(tmp_path):
    """Images and masks with unusual names, in a folder that has one as well."""
    folder = tmp_path / "Zellen größer #3"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
        for i, name in enumerate(NAMES):
            values = np.random.default_rng(i).integers(0, 9, (40, 40, 1), np.uint8)
            values[8:16, 8:16] = i + 100
            values = values if part == "images" else (values > 99).astype(np.uint8)
            images.write_image(folder / part / name, values)
    return folder


def test_without_home_and_entry_in_the_list_of_users_nothing_is_kept(monkeypatch):
    def fail(path):
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pathlib.Path, "expanduser", fail)
    runtime.keep_compiled_programs()


@pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="no /proc")
def test_a_folder_that_cannot_be_made_is_refused_before_training(annotated):
    words = ("train", annotated / "images", annotated / "masks")
    done = commands.in_process("unetjax.cli.main", *words, "--out=/proc/nowhere/m")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: /proc/nowhere")
    assert "training:" not in done.stdout


CASES = {
    "a locale without Unicode": {"LC_ALL": "C"},
    "a terminal without abilities": {"TERM": "dumb", "COLUMNS": "0", "NO_COLOR": "1"},
    "no folder for temporary files": {"TMPDIR": "/proc/nowhere"},
    "no home": {"HOME": "", "XDG_CACHE_HOME": ""},
}


@pytest.mark.parametrize("case", CASES)
def test_a_data_set_is_checked_on_an_odd_machine(annotated, case):
    done = subprocess.run(
        [sys.executable, "-m", "unetjax", "check", *("images", "masks")],
        cwd=annotated,
        env={**os.environ, "PYTHONPATH": str(commands.ROOT)} | CASES[case],
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.stderr == ""
    assert "3 images 40x40 uint8" in done.stdout
    assert done.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="a shell of Unix")
@pytest.mark.parametrize("closed", ["<&- >&-", "2>&-", pytest.param("<&- >&- 2>&-")])
def test_closed_streams_are_no_error(annotated, closed):
    program = f"{sys.executable} -m unetjax check images masks {closed}"
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 64; {program}"],
        cwd=annotated,
        env={**os.environ, "PYTHONPATH": str(commands.ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
