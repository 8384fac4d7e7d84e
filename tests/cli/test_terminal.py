"""How much commands print, and what completes them in a shell."""

import importlib.metadata
import shutil
import subprocess

import numpy as np
import pytest

from unetjax.cli import main
from unetjax.files import images


@pytest.fixture
def cells(tmp_path, capsys):
    """A function that runs a command on two folders of label images."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    mask = np.kron(np.arange(6).reshape(2, 3), np.ones((8, 8), int)).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 50, mask.shape, np.uint8)
    images.write_image(tmp_path / "images" / "a.tif", (noise + 30 * mask)[..., None])
    images.write_labels(tmp_path / "masks" / "a.tif", mask)

    def run(command, first, *options):
        argv = [command, str(tmp_path / first), str(tmp_path / "masks"), *options]
        assert main.main(argv) == 0
        return capsys.readouterr().out

    return run


def test_quiet_leaves_results_alone(cells):
    assert cells("check", "images", "-q") == ""
    scores = cells("evaluate", "masks", "--quiet")
    assert "AP at IoU 0.5" in scores
    assert "numbered cells" not in scores
    assert "numbered cells" in cells("evaluate", "masks")


def test_quiet_keeps_warnings(cells, tmp_path):
    (tmp_path / "images" / "notes.txt").touch()
    assert cells("check", "images", "-q").startswith("warning: 1 file is not read")


def test_verbose_names_versions_and_time(cells):
    usual = cells("check", "images")
    first, *others, last = cells("check", "images", "-v").splitlines()
    assert first.startswith(f"unetjax {importlib.metadata.version('unetjax')}, Python ")
    assert f"JAX {importlib.metadata.version('jax')}" in first
    count = len(usual.splitlines())
    assert others[:count] == usual.splitlines()
    assert others[count:] in ([], [others[-1]])  # devices, if another test used JAX
    assert last.startswith("took ")


def complete(script, line):
    """What bash offers after a line, which may end within a word."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    code = f"""{script}
COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'
_shtab_unetjax unetjax '{words[-1]}' '{words[-2]}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
    return done.stdout.split()


def test_bash_completes_commands_options_and_choices(capsys, tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    assert main.main(["--print-completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert complete(script, "unetjax pre") == ["predict"]
    assert complete(script, "unetjax predict --eng") == ["--engine"]
    assert complete(script, "unetjax predict --engine o") == ["openvino"]
    folder = tmp_path / "mymodel"
    folder.mkdir()
    assert complete(script, f"unetjax info {tmp_path}/my") == [str(folder)]


def test_zsh_gets_a_script_of_its_own(capsys):
    assert main.main(["--print-completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("#compdef unetjax")
