"""The files for clusters: each parses, and unetjax accepts every command in them."""

import pathlib
import re
import shlex
import subprocess

import pytest
import yaml

from experiments import launch, sweep, train
from unetjax.cli.command import parse_args

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "cluster"
FILES = sorted(FOLDER.iterdir())
PARSERS = {"experiments.train": train, "experiments.sweep": sweep}


def commands(path):
    """The command lines of a file, with an example for each variable."""
    if path.suffix == ".yaml":
        for words in lists(yaml.safe_load(path.read_text())):
            if "experiments.train" in words:
                yield [word.replace("$(PROCESS_ID)", "1") for word in words]
    lines = re.sub(r"\\\n#?\s*", " ", path.read_text())
    for line in re.findall(r"python -m experiments\..*", lines):
        line = line.partition(" || ")[0].replace('"$SLURM_ARRAY_TASK_ID"', "5")
        yield shlex.split(line.rstrip('"'))


def lists(tree):
    """All lists in nested lists and dictionaries."""
    children = tree.values() if isinstance(tree, dict) else tree
    if isinstance(tree, list):
        yield tree
    for child in children if isinstance(tree, dict | list) else ():
        yield from lists(child)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_parses(path):
    if path.suffix == ".yaml":
        assert isinstance(yaml.safe_load(path.read_text()), dict)
    else:
        subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_its_commands_are_accepted(path):
    found = list(commands(path))
    assert len(found) == 1
    for _, _, program, *args in found:
        file, overrides, rest = launch.split_args(args)
        options = parse_args(PARSERS[program].make_parser(), rest)
        config = launch.read_config(file, overrides)
        if program == "experiments.train":
            assert config.batch_size % (options.num_processes or 8) == 0


def test_the_array_of_slurm_covers_the_trials(capsys):
    """--array names as many tasks as --launcher=print lists."""
    path = FOLDER / "sweep.sbatch"
    ((_, _, _, *args),) = commands(path)
    args = [arg for arg in args if not arg.startswith("--trial")]
    assert sweep.main([*args, "--launcher=print"]) == 0
    listed = capsys.readouterr().out.splitlines()
    last = re.search(r"--array=0-(\d+)", path.read_text()).group(1)
    assert listed[-1].endswith(f"--trial={last}")
