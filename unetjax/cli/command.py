"""What all commands share: argument parsing, exit status, log lines."""

import argparse
import contextlib
import itertools
import logging
import math
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from unetjax import signals
from unetjax.files import limits
from unetjax.files.names import escape
from unetjax.suggestions import suggest
from unetjax.training.stopping import Interrupted

_LEAST_MEMORY = 5 << 29  # bytes of addresses: JAX with its threads, a small network
_TOO_LITTLE = (
    "there is too little memory; use smaller images, or in training a smaller "
    "tile_size or batch_size, or close other programs."
)


class ArgumentParser(argparse.ArgumentParser):
    """A parser that reports an error in one sentence, without the usage."""

    @property
    def options(self) -> list[str]:
        """The names of all options, such as "--help"."""
        return [name for name in self._option_string_actions if name.startswith("--")]

    def _print_message(self, message: str, file: Any = None) -> None:  # noqa: ANN401
        # argparse would hide that the reader of the output has gone.
        print(message, end="", file=file or sys.stderr)

    def error(self, message: str) -> NoReturn:
        """Exits with status 2 and the message on standard error."""
        end = "" if message.endswith((".", "?")) else "."
        self.exit(2, f"error: {escape(message)}{end}\n")


def parse_args(
    parser: ArgumentParser,
    args: Sequence[str],
    *,
    known: Sequence[ArgumentParser] = (),
) -> argparse.Namespace:
    """Returns the parsed arguments; an unknown option is answered with the nearest.

    That comes before what is missing, as a misspelt option is missing as well.

    Args:
      parser: The parser of the command.
      args: The arguments, without the program's name.
      known: Further parsers, those of subcommands, whose options may be meant.
    """
    names = list(dict.fromkeys(n for each in (parser, *known) for n in each.options))
    for arg in itertools.takewhile(lambda arg: arg != "--", args):
        name = arg.partition("=")[0]
        is_known = name in names or (
            parser.allow_abbrev and any(each.startswith(name) for each in names)
        )
        if name.startswith("--") and not is_known:
            parser.error(f"there is no option {name!r}; {suggest(name, names)}")
    options, unknown = parser.parse_known_args(args)
    if unknown:
        name = unknown[0].partition("=")[0]
        kind = "option" if name.startswith("-") else "argument"
        parser.error(f"unexpected {kind} {name!r}; --help lists what is accepted")
    return options


def path(text: str) -> pathlib.Path:
    """Returns the path that an argument names; ~ is the home folder, also after =.

    Raises:
      ArgumentTypeError: If the text is empty, or names no user.
    """
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty")
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} begins with a user who does not exist; write ./{text} for a "
            "file of that name"
        ) from None


def count(text: str) -> int:
    """Returns an integer of at least 1.

    Raises:
      ArgumentTypeError: If the text is anything else.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer from 1 on, got {text!r}")
    return int(text)


def integer(text: str) -> int:
    """Returns an integer, which may be negative.

    Raises:
      ArgumentTypeError: If the text is anything else.
    """
    with contextlib.suppress(ValueError):
        return int(text)
    raise argparse.ArgumentTypeError(f"must be an integer, got {text!r}")


def positive(text: str) -> float:
    """Returns a finite number above 0.

    Raises:
      ArgumentTypeError: If the text is anything else.
    """
    if (number := _number(text)) > 0:
        return number
    raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")


def not_negative(text: str) -> float:
    """Returns a finite number of at least 0.

    Raises:
      ArgumentTypeError: If the text is anything else.
    """
    if (number := _number(text)) >= 0:
        return number
    raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text!r}")


def _number(text: str) -> float:
    """Returns a finite number; NaN, which no comparison accepts, for other text."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def channels(text: str) -> tuple[str, ...]:
    """Returns the channels that an argument such as 0,2 or DAPI,GFP names.

    Raises:
      ArgumentTypeError: If one is empty or named twice.
    """
    chosen = tuple(part.strip() for part in text.split(","))
    if not all(chosen) or len(set(chosen)) < len(chosen):
        raise argparse.ArgumentTypeError(
            f"must be different channels such as 0,2 or DAPI,GFP, got {text!r}"
        )
    return chosen


def fraction(text: str) -> float:
    """Returns a number of at least 0 and below 1.

    Raises:
      ArgumentTypeError: If the text is anything else.
    """
    with contextlib.suppress(ValueError):
        if 0 <= (number := float(text)) < 1:
            return number
    raise argparse.ArgumentTypeError(
        f"must be a fraction of at least 0 and below 1, got {text!r}"
    )


def run_command(command: Callable[[], int | None]) -> int:
    """Runs a command and returns its exit status.

    0 on success; 2 for anything that the user can fix, after one sentence on standard
    error; 128 plus the signal's number when interrupted; 141 when the reader of the
    output has gone.

    Args:
      command: Parses arguments and does the work; None counts as 0.
    """
    try:
        status = _run(command)
        if sys.stdout is not None:  # closed by the shell
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Python would complain again when it flushes standard output at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(command: Callable[[], int | None]) -> int:
    try:
        with signals.raise_on_signal(), _plain_log_lines():
            _check_memory()
            return command() or 0
    except SystemExit as stop:  # of argparse, which has printed its message
        return int(stop.code or 0)
    except BrokenPipeError:
        raise
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {escape(_sentence(error))}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:  # that of JAX is a RuntimeError
        from unetjax.devices import memory

        if not memory.is_exhausted(error):
            raise
        text = str(error) if isinstance(error, MemoryError) else ""
        print(f"error: {text or _TOO_LITTLE}", file=sys.stderr)
        return 2
    except (Interrupted, signals.StoppedError) as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signum
    except KeyboardInterrupt:
        print("interrupted.", file=sys.stderr)
        return 130


def _check_memory() -> None:
    """Refuses a limit of memory under which JAX cannot be imported."""
    limit = limits.address_space()
    if limit is not None and limit < _LEAST_MEMORY:
        raise MemoryError(
            f"this process may use {limits.format_bytes(limit)} of memory, and needs "
            f"{limits.format_bytes(_LEAST_MEMORY)}; raise the limit (ulimit -v)."
        )


class _Lines(logging.Handler):
    """Prints messages to standard output, warnings to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        text = escape(record.getMessage())
        if record.levelno >= logging.WARNING:
            print(f"warning: {text}", file=sys.stderr, flush=True)
        else:
            print(text, flush=True)


@contextlib.contextmanager
def _plain_log_lines() -> Iterator[None]:
    """Shows log messages of unetjax and Python warnings as plain lines."""
    log, handler = logging.getLogger("unetjax"), _Lines()
    before, propagated = log.level, log.propagate
    log.propagate = False  # absl, where imported, would print every line again
    # Orbax reports every save, and every failure several times, before it is raised.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
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
    print(f"warning: {escape(str(message))}", file=sys.stderr, flush=True)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}."
    return str(error)
