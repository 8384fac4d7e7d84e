"""What all commands share: argument parsing, exit status, log lines."""

import argparse
import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from unetjax.devices import runtime
from unetjax.settings import suggest
from unetjax.training.stopping import Interrupted


class ArgumentParser(argparse.ArgumentParser):
    """A parser that reports an error in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Exits with status 2 and the message on standard error."""
        end = "" if message.endswith((".", "?")) else "."
        self.exit(2, f"error: {message}{end}\n")


def parse_args(
    parser: argparse.ArgumentParser,
    args: Sequence[str],
    *,
    known: Sequence[argparse.ArgumentParser] = (),
) -> argparse.Namespace:
    """Returns the parsed arguments; an unknown option is answered with the nearest.

    Args:
      parser: The parser of the command.
      args: The arguments, without the program's name.
      known: Further parsers, those of subcommands, whose options may be meant.
    """
    options, unknown = parser.parse_known_args(args)
    if not unknown:
        return options
    name = unknown[0].partition("=")[0]
    if not name.startswith("-"):
        parser.error(f"unexpected argument {name!r}; --help lists what is accepted")
    pages = "".join(each.format_help() for each in (parser, *known))
    names = list(dict.fromkeys(re.findall(r"(?<!\S)--[\w-]+", pages)))
    parser.error(f"there is no option {name!r}; {suggest(name, names)}")


def run_command(command: Callable[[], int | None]) -> int:
    """Runs a command and returns its exit status.

    0 on success; 2 for anything that the user can fix, after one sentence on standard
    error; 128 plus the signal's number when interrupted; 141 when the reader of the
    output has gone.

    Args:
      command: Parses arguments and does the work; None counts as 0.
    """
    try:
        with _plain_log_lines():
            runtime.prepare()
            return command() or 0
    except SystemExit as stop:  # of argparse, which has printed its message
        return int(stop.code or 0)
    except BrokenPipeError:
        # Python would complain again when it flushes standard output at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {_sentence(error)}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signum
    except KeyboardInterrupt:
        print("interrupted.", file=sys.stderr)
        return 130


class _Lines(logging.Handler):
    """Prints messages to standard output, warnings to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            print(f"warning: {record.getMessage()}", file=sys.stderr, flush=True)
        else:
            print(record.getMessage(), flush=True)


@contextlib.contextmanager
def _plain_log_lines() -> Iterator[None]:
    """Shows log messages of unetjax and Python warnings as plain lines."""
    log, handler = logging.getLogger("unetjax"), _Lines()
    before, propagated = log.level, log.propagate
    log.propagate = False  # absl, where imported, would print every line again
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports every save
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
        log.propagate = propagated


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}."
    return str(error)
