"""The command line: parser, messages, exit codes."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from unetjax.cli import check, demo, evaluate, predict, train
from unetjax.devices import runtime
from unetjax.training.stopping import Interrupted

_DESCRIPTION = """\
Segment images with a U-Net that learns from a few annotated ones.

  unetjax demo                                 see all of it work, in minutes
  unetjax check images/ masks/                 what is understood, what is wrong
  unetjax train images/ masks/ --out mymodel   learn; again goes on
  unetjax predict mymodel new/*.tif --out out  images of any size
  unetjax evaluate out/ truth/                 scores
"""


def parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="unetjax",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for command in (demo, check, train, predict, evaluate):
        command.add_parser(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    0 when done; 2 for anything the user can mend, in one sentence on standard error;
    128 plus the signal when stopped; 141 when nobody reads the output any more.

    Args:
      arguments: Words after the program's name; those of the process by default.
    """
    options = parser().parse_args(arguments)
    runtime.prepare()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports every save
    warnings.showwarning = _show_warning
    try:
        return options.run(options)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"unetjax: {_sentence(error)}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"unetjax: {stop}", file=sys.stderr)
        return 128 + stop.signum
    except KeyboardInterrupt:
        print("unetjax: stopped.", file=sys.stderr)
        return 130


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}."
    return str(error)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"unetjax: warning: {message}", file=sys.stderr)
