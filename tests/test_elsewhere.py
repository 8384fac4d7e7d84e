"""Our column of docs/elsewhere.md: every command and option is accepted."""

import functools
import importlib
import pathlib
import re
import shlex

import pytest

from experiments import launch
from unetjax.cli import main
from unetjax.training import config as configs

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "elsewhere.md").read_text()
ROWS = [
    (lines[0].split("|")[1].strip(), *re.split(r"(?<!\\)\|", row)[1:3])
    for lines in (
        table.splitlines() for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.M)
    )
    for row in lines[2:]
]


def command(words):
    main.make_parsers()[0].parse_args(words)


def launcher(name, words):
    file, overrides, rest = launch.split_args(words)
    importlib.import_module(name).make_parser().parse_args(rest)
    launch.read_config(file, overrides)


def options(words):
    pairs = dict(word.split("=", 1) for word in words)
    configs.override(configs.from_dict({}), pairs)


def try_out(text):
    """Parses a command, builds a config of options, or finds a name of Python."""
    first, *words = shlex.split(text)
    if first == "unetjax":
        command(words)
    elif text.startswith("python -m experiments."):
        launcher(words[1], words[2:])
    elif "=" in first:
        options(text.split())
    else:
        module, _, name = first.rpartition(".")
        while module:
            try:
                found = importlib.import_module(module)
            except ModuleNotFoundError:
                module, _, last = module.rpartition(".")
                name = f"{last}.{name}"
            else:
                functools.reduce(getattr, name.split("."), found)
                return
        raise AssertionError(text)


@pytest.mark.parametrize(
    ("program", "theirs", "ours"), ROWS, ids=[f"{row[0]}:{row[1]}" for row in ROWS]
)
def test_our_column_is_accepted(program, theirs, ours, capsys):
    assert theirs.strip()
    pieces = re.findall(r"`([^`]+)`", ours)
    assert pieces == [] or f"`{'` `'.join(pieces)}`" == ours.strip(), "code only"
    try:
        for piece in pieces:
            try_out(piece)
    except SystemExit:
        pytest.fail(capsys.readouterr().err)


def test_every_program_has_its_table():
    assert {row[0] for row in ROWS} == {
        *("zhixuhao/unet", "milesial/Pytorch-UNet", "nnU-Net v2", "StarDist"),
        "Cellpose",
    }
    assert len(ROWS) > 90
    assert PAGE.count("**Better there:**") == 5


@pytest.mark.parametrize(
    "wrong",
    [
        "unetjax train images/ masks/",
        "unetjax predict mymodel new/ --out out --tta d3",
        "python -m experiments.train --config=ml_collections_configs/no.py",
        "model.features=many",
        "modle.features=1",
        "unetjax.segmnt",
    ],
)
def test_what_does_not_exist_is_noticed(wrong):
    with pytest.raises((SystemExit, ValueError, OSError, AttributeError)):
        try_out(wrong)
