"""Which libraries a command imports: JAX alone takes seconds."""

import json
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import tifffile

from unetjax.cli import main
from unetjax.data.mask_formats import MaskType
from unetjax.evaluation.score_sets import SCORE_SETS
from unetjax.inference.tta import TTA

HEAVY = {"flax", "jax", "jaxlib", "optax", "orbax", "tensorflow", "tensorflow_datasets"}
HEAVIER_THAN_PARSING = {"numpy", "PIL", "rich", "scipy", "skimage", "tifffile"}
CODE = """
import json, sys
from unetjax.cli import main
status = main.main(sys.argv[1:])
print()
print(json.dumps([status, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def run(*words, code=CODE):
    """Status, output and imported libraries of a command in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, last = done.stdout.splitlines()
    status, libraries = json.loads(last)
    return status, "\n".join(lines) + done.stderr, set(libraries)


@pytest.mark.parametrize(
    ("words", "expected", "text"),
    [
        ([], 0, "COMMAND"),
        (["--help"], 0, "COMMAND"),
        (["--version"], 0, "unetjax "),
        (["predict", "--help"], 0, "--tta"),
        (["predcit"], 2, "did you mean predict?"),
        (["train", "a", "b", "--out", "c", "--steps", "many"], 2, "--steps"),
        (["predict", "model", "--engine", "slow"], 2, "--engine"),
        (["evaluate", "a"], 2, "required: truth"),
    ],
)
def test_help_and_refusals_import_no_library(words, expected, text):
    status, printed, libraries = run(*words)
    assert status == expected
    assert text in printed
    assert not libraries & (HEAVY | HEAVIER_THAN_PARSING)


def test_check_computes_without_jax(tmp_path):
    cells = np.kron(np.arange(6).reshape(2, 3), np.ones((8, 8), int)).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 50, cells.shape, np.uint8)
    for name, pixels in {"images": noise + 30 * cells, "masks": cells}.items():
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a.tif", pixels)
    status, printed, libraries = run("check", tmp_path / "images", tmp_path / "masks")
    assert status == 0
    assert "numbered cells, 5 to 5 per image" in printed
    assert not libraries & HEAVY


def test_view_serves_without_jax(tmp_path):
    """With scores of true masks; the process is stopped when it is ready."""
    for name in ("images", "masks", "out"):
        (tmp_path / name).mkdir()
        ending = "_labels" if name == "out" else ""
        cells = np.eye(16, dtype=np.uint8)
        tifffile.imwrite(tmp_path / name / f"a{ending}.tif", cells)
    code = CODE.replace(
        "status =",
        """
import os, signal, socketserver
from unetjax.viewer import ranking
def stop(server):
    assert server.site._ranking.wait().values == [1.0]
    os.kill(os.getpid(), signal.SIGINT)
socketserver.BaseServer.service_actions = stop
status =""",
    )
    words = ("--images", tmp_path / "images", "--masks", tmp_path / "masks")
    status, printed, libraries = run(
        "view", tmp_path / "out", *words, "--no-browser", code=code
    )
    assert status == 0
    assert "1 image: http://127.0.0.1:" in printed
    assert not libraries & HEAVY


def test_choices_are_those_of_the_library():
    """The parsers name them without importing the modules that define them."""
    _, commands = main.make_parsers()

    def choices(command, option):
        return commands[command]._option_string_actions[option].choices

    assert choices("predict", "--tta") == get_args(TTA)
    assert choices("check", "--mask-type") == get_args(MaskType)
    assert choices("evaluate", "--scores") == tuple(SCORE_SETS)
