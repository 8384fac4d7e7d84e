"""What all launchers share: from the command line to a validated configuration."""

import argparse
import ast
import dataclasses
import inspect
import pathlib
import re
import runpy
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from unetjax import settings
from unetjax.cli.command import ArgumentParser, parse_args, run_command
from unetjax.devices import runtime, self_check
from unetjax.training import config as configs
from unetjax.training.config import ExperimentConfig

_FOLDER = pathlib.Path("ml_collections_configs")
_HOME = pathlib.Path(__file__).parents[1]  # of launchers and configs, also installed


class Invocation(NamedTuple):
    """A command line that was understood.

    Attributes:
      config: The configuration, overrides included.
      options: The other arguments of the launcher.
      file: Config file, as given.
      overrides: The overrides, each as `--config.SECTION.OPTION=VALUE`.
      argv: All arguments as given.
    """

    config: ExperimentConfig
    options: argparse.Namespace
    file: str
    overrides: list[str]
    argv: list[str]


def make_parser(name: str, description: str | None) -> ArgumentParser:
    """Returns a parser with `--config`, to which a launcher adds its own options.

    Args:
      name: Name of the launcher, such as "train".
      description: Its module docstring.
    """
    parser = ArgumentParser(
        prog=f"python -m {__package__}.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    # Only listed in the help: `split_args` takes these arguments out before parsing.
    parser.add_argument("--config", metavar="FILE.py", help="config file (required)")
    parser.add_argument(
        "--config.SECTION.OPTION",
        metavar="VALUE",
        dest="override",
        help="override any option of the config file",
    )
    return parser


def launch(
    run: Callable[[Invocation], None],
    parser: ArgumentParser,
    argv: Sequence[str] | None = None,
    *,
    join: Callable[[argparse.Namespace], AbstractContextManager[None]] | None = None,
) -> int:
    """Parses the command line, calls `run`, and returns the exit status.

    Args:
      run: The work of the launcher.
      parser: From `make_parser`.
      argv: Arguments after the program's name; those of the process by default.
      join: Joins the other processes of the launcher, if it is one of several.
    """
    given = list(sys.argv[1:] if argv is None else argv)

    def command() -> None:
        file, overrides, rest = split_args(given)
        if {"-h", "--help"} & set(rest):
            parser.epilog = describe_configs()
        options = parse_args(parser, rest)
        config = read_config(file, overrides)  # computes nothing, so flags can be set
        runtime.set_compiler_flags(deterministic=config.deterministic)
        runtime.keep_compiled_programs()
        with nullcontext() if join is None else join(options):
            self_check.check()
            run(Invocation(config, options, file, overrides, given))

    return run_command(command)


def split_args(argv: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """Returns the config file, the overrides of its options, and all other arguments.

    Raises:
      ValueError: If `--config` or an override has no value.

    Example:
      >>> split_args(["--out", "a", "--config=b.py", "--config.c", "1"])
      ('b.py', ['--config.c=1'], ['--out', 'a'])
    """
    file, overrides, rest, args = "", list[str](), list[str](), iter(argv)
    for arg in args:
        name, equals, value = arg.partition("=")
        if not re.fullmatch(r"--?config(\.[\w.]+)?", name):
            rest.append(arg)
            continue
        if not equals:
            value = next(args, "--")
            if value.startswith("--"):  # the next option; -1 is a value
                raise ValueError(f"{name} has no value; write {name}=VALUE.")
        if "." in name:
            overrides.append(f"{name}={value}")
        else:
            file = value
    return file, overrides, rest


def read_config(file: str, overrides: Sequence[str]) -> ExperimentConfig:
    """Returns the configuration of a file with its overrides.

    Every option can be overridden, whether the file sets it or not.

    Args:
      file: FILE.py, or FILE.py:ARGUMENT for an argument of its `get_config`.
      overrides: Any number of `--config.SECTION.OPTION=VALUE`.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If no file is named, or an option is unknown or its value refused.
    """
    values = {}
    for arg in overrides:
        name, _, value = arg.partition("=")
        values[name.lstrip("-").removeprefix("config.")] = value
    return configs.override(configs.from_dict(load_file(file)), values)


def load_file(file: str) -> dict[str, object]:
    """Returns the options that `get_config` of a file gives, as plain data.

    Args:
      file: FILE.py, as `run_file` finds it, or FILE.py:ARGUMENT.

    Raises:
      FileNotFoundError: If there is no such file.
      ModuleNotFoundError: If ml_collections is not installed.
      ValueError: If no file is named, or it has no `get_config`.
    """
    path, _, argument = file.partition(":")
    if not path:
        raise ValueError(
            f"--config names no file; try --config={_FOLDER}/smoke.py, or another file "
            "of that folder (--help lists them)."
        )
    try:
        namespace = run_file(path)
    except ModuleNotFoundError as error:
        if error.name != "ml_collections":
            raise
        raise ModuleNotFoundError(
            f"{path} needs ml_collections: pip install 'unetjax[experiments]'."
        ) from error
    if "get_config" not in namespace:
        raise ValueError(f"{path} has no function get_config; it must return a config.")
    arguments = [argument] if argument else []
    return namespace["get_config"](*arguments).to_dict()


def run_file(path: str) -> dict[str, Any]:
    """Returns the names that a config file defines.

    Args:
      path: FILE.py. A path that does not exist from the current folder is looked up
        beside the launchers, which bring the config files along.

    Raises:
      FileNotFoundError: If there is no such file.
    """
    found = next((p for p in (pathlib.Path(path), _HOME / path) if p.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"--config={path} is no file; name a .py file.")
    return runpy.run_path(str(found))


def describe_configs() -> str:
    """Returns the config files and all options, each with its default and meaning."""
    lines = ["config files:"]
    for path in sorted((_HOME / _FOLDER).glob("*.py")):
        summary = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
        lines.append(f"  {path.name:<17} {summary}")
    lines += ["", "options of a config, with their defaults:"]
    return "\n".join([*lines, *_describe(ExperimentConfig(), "--config.")])


def _describe(section: object, prefix: str) -> list[str]:
    """One paragraph for each option of a section and of the sections in it."""
    kind = type(section)
    meanings = _attributes(inspect.getdoc(kind) or "")
    lines = list[str]()
    for name in settings.field_types(kind):
        value = getattr(section, name)
        if dataclasses.is_dataclass(value):
            lines += ["", f"  {prefix}{name}: {meanings.get(name, '')}"]
            lines += _describe(value, f"{prefix}{name}.")
        else:
            lines.append(f"  {prefix}{name}={value}")
            meaning = textwrap.fill(meanings.get(name, ""), 82)
            lines += textwrap.indent(meaning, " " * 6).splitlines()
    return lines


def _attributes(docstring: str) -> dict[str, str]:
    """The meanings in the section `Attributes:` of a docstring, by field."""
    _, _, text = docstring.partition("Attributes:\n")
    text = re.split(r"\n\n\S", text)[0]
    entries = re.findall(r"^  (\w+): (.*(?:\n    .*)*)", text, re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in entries}
