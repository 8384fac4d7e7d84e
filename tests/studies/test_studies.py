"""The studies of reliability, in full where marked slow; see docs/reliability.md."""

import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests import commands
from tests.studies import headers

has_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or not sys.platform.startswith("linux"),
    reason="file actions are counted on Linux, by a library that cc makes",
)


def study(name, *options):
    """Runs a study and returns the last line that it prints."""
    ended = subprocess.run(
        [sys.executable, "-m", f"tests.studies.{name}", *map(str, options)],
        capture_output=True,
        text=True,
        cwd=commands.ROOT,
    )
    print(ended.stdout, ended.stderr)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout.splitlines()[-1]


@pytest.mark.parametrize("count", [200, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutated_files_are_read_rightly_or_refused_in_one_sentence(count):
    assert importlib.util.find_spec("imagecodecs")  # of LZW, which is among them
    line = study("mutations", "--count", count)
    assert f"{count} inputs, " in line
    assert ", 0 wrong" in line


@has_compiler
@pytest.mark.slow
def test_kills_at_file_actions_and_times_do_no_harm():
    line = study("kills", "--count", 200)
    assert "; 0 did harm" in line


@has_compiler
@pytest.mark.slow
def test_killed_workers_leave_the_table_of_one_that_was_not():
    line = study("kills", "--count", 16, "--commands", "sweep", "search")
    assert "; 0 did harm" in line


@has_compiler
@pytest.mark.slow
def test_file_actions_that_fail_once_do_no_harm():
    assert study("failures").startswith("0 did harm")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_memory_is_flat():
    assert study("memory").startswith("seed 0")


def test_headers_tell_shapes_that_were_changed():
    """The judge of the mutations is not content with any shape."""
    image = np.zeros((1, 3, 4, 1), np.uint8)
    known = headers.Declared((3, 4), 12, {1}, {np.dtype(np.uint8)})
    assert headers.agrees(known, image.shape, image.dtype)
    for shape in ((1, 3, 4, 3), (2, 3, 4, 1), (1, 2, 6, 1)):
        assert not headers.agrees(known, shape, image.dtype)
    assert not headers.agrees(known, image.shape, np.dtype(np.int8))
