"""The `unetjax` command: check, train, predict, evaluate, and others.

Modules of this package import at their top what parsing needs, and in their functions
what a command needs when it runs: JAX alone takes seconds to import.
"""

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence

from unetjax.cli import (
    check,
    demo,
    evaluate,
    export,
    importing,
    info,
    predict,
    terminal,
    train,
    view,
)
from unetjax.cli.command import ArgumentParser, parse_args, run_command
from unetjax.suggestions import suggest

_DESCRIPTION = """\
Segment images with a U-Net that is trained on a few annotated ones.

  unetjax demo                                 train and predict on an example image
  unetjax check images/ masks/                 summarise a data set, list its problems
  unetjax train images/ masks/ --out mymodel   train a model; run again to resume
  unetjax predict mymodel new/*.tif --out out  segment images of any size
  unetjax view out/                            look through predictions in a browser
  unetjax evaluate out/ truth/                 score predictions
  unetjax info mymodel                         describe a model
  unetjax export mymodel mymodel.onnx          write a model for another runtime
  unetjax import weights.pth mymodel           make a model of a PyTorch U-Net
"""
_COMMANDS = (demo, check, train, predict, view, evaluate, info, export, importing)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status, see `run_command`.

    Args:
      argv: Arguments after the program's name; those of the process by default.
    """
    return run_command(lambda: _run(sys.argv[1:] if argv is None else argv))


def make_parsers() -> tuple[ArgumentParser, dict[str, ArgumentParser]]:
    """Returns the parser of the program, and those of its commands by name."""
    parser = ArgumentParser(
        prog="unetjax",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = importlib.metadata.version("unetjax")
    parser.add_argument("--version", action="version", version=f"unetjax {version}")
    terminal.add_completion(parser)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    for each in commands.choices.values():
        terminal.add_verbosity(each)
    return parser, commands.choices


def _run(argv: Sequence[str]) -> int:
    parser, commands = make_parsers()
    if not argv:
        parser.print_help()
        return 0
    first = argv[0]
    if not first.startswith("-") and first not in commands:
        parser.error(f"there is no command {first!r}; {suggest(first, commands)}")
    named = [commands[first]] if first in commands else []
    options = parse_args(parser, argv, known=named)
    return terminal.run(options.run, options)
