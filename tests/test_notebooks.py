"""Notebooks are valid, install what they need, and run; the long part on request."""

import ast
import importlib
import json
import shlex
import subprocess
import sys

import pytest

from tests.commands import ROOT
from unetjax.cli import main

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
RUNNER = ROOT / "docs" / "notebook_pages.py"
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def pages():
    """The extension of the site that shows and runs notebooks."""
    specification = importlib.util.spec_from_file_location("notebook_pages", RUNNER)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def cells(path, kind="code"):
    notebook = json.loads(path.read_text())
    return [
        "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == kind
    ]


@each_notebook
def test_a_notebook_is_complete_and_without_outputs(path):
    """Fields that Jupyter and Colab require; outputs would change at every run."""
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    identifiers = [cell["id"] for cell in notebook["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert cells(path, "markdown")[0].startswith("# ")
    assert path.read_text() == json.dumps(notebook, indent=1) + "\n"  # small diffs


@each_notebook
def test_the_first_cell_installs_what_is_absent(path):
    first = cells(path)[0]
    assert 'find_spec("unetjax") is None' in first
    assert 'f"unetjax[experiments] @ {SOURCE}"' in first


@each_notebook
def test_names_and_commands_of_a_notebook_exist(path, pages, capsys):
    for text in cells(path):
        for node in ast.walk(ast.parse(pages.python(text))):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")
        for line in text.splitlines():
            if line.startswith("!unetjax "):
                try:
                    main.make_parsers()[0].parse_args(shlex.split(line)[1:])
                except SystemExit:
                    pytest.fail(capsys.readouterr().err)


def test_a_cell_shows_what_it_prints_and_its_last_value(pages):
    source = ["word = 'seen'\n", "!echo {word}\n", "print('<b>')\n", "1 + 1"]
    picture = "from PIL import Image\nImage.new('RGB', (2, 2))"
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": ["# Title"]},
            {"cell_type": "code", "source": source},
            {"cell_type": "code", "source": [picture]},
            {"cell_type": "code", "source": ["word = 2"]},
        ]
    }
    outputs = pages.run(notebook)
    assert outputs[0] == {"text": "seen\n<b>\n2"}
    assert outputs[1]["png"]
    assert outputs[2] == {"text": ""}
    page = pages.page(notebook, outputs)
    assert page.startswith("# Title\n\n```python\nword = 'seen'\n")
    assert "seen\n&lt;b&gt;\n2</pre>" in page
    assert page.count("<img ") == 1


def test_a_cell_that_fails_is_an_error(pages):
    for source in ("1 / 0", "!exit 3"):
        notebook = {"cells": [{"cell_type": "code", "source": [source]}]}
        with pytest.raises(RuntimeError, match=r"ZeroDivisionError|exit 3"):
            pages.run(notebook)


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs(path, tmp_path):
    done = subprocess.run(
        [sys.executable, RUNNER, path], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "<pre class='output'>" in done.stdout
    assert not list(tmp_path.iterdir())  # it runs in a folder of its own
