"""What commands print in common, and how much: -q, -v and completion of the shell."""

import argparse
import importlib.metadata
import logging
import pathlib
import platform
import sys
import time
from collections.abc import Callable, Iterable

from unetjax.cli.command import path

_log = logging.getLogger(__name__)
_LEVELS = {-1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG}
_SHELLS = ("bash", "zsh", "tcsh")


def say(text: str) -> None:
    """Prints a line that informs, which -q silences; results are printed by `print`."""
    _log.info("%s", text)


def show_file(what: str, file: pathlib.Path) -> None:
    """Prints the full path of a file."""
    print(f"{what}: {file.resolve()}")


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how much is printed."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "-q",
        "--quiet",
        dest="verbosity",
        action="store_const",
        const=-1,
        default=0,
        help="print results, warnings and errors only",
    )
    group.add_argument(
        "-v",
        "--verbose",
        dest="verbosity",
        action="store_const",
        const=1,
        default=0,
        help="also print versions, devices and the time taken",
    )


def run(
    command: Callable[[argparse.Namespace], int], options: argparse.Namespace
) -> int:
    """Runs a command with as many lines as its options ask for."""
    logging.getLogger("unetjax").setLevel(_LEVELS[options.verbosity])
    start = time.monotonic()
    version = importlib.metadata.version
    _log.debug(
        "unetjax %s, Python %s, JAX %s, NumPy %s, on %s",
        *(version("unetjax"), platform.python_version(), version("jax")),
        *(version("numpy"), platform.platform()),
    )
    status = command(options)
    if options.verbosity > 0 and "jax" in sys.modules:
        import jax

        _log.debug("devices: %s", ", ".join(map(str, jax.devices())))
    _log.debug("took %.3g s", time.monotonic() - start)
    return status


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Adds the option that prints the completion of a shell."""
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=_SHELLS,
        help="print what completes commands and options in a shell; needs  pip install "
        "'unetjax[completion]'",
    )


class _PrintCompletion(argparse.Action):
    """Prints a script and exits."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        try:
            import shtab
        except ImportError as error:
            raise ModuleNotFoundError(
                "completion needs shtab: pip install 'unetjax[completion]'."
            ) from error
        for action in _all_actions(parser):
            if action.type is path:
                vars(action)["complete"] = shtab.FILE
        print(shtab.complete(parser, shell=str(values)))
        parser.exit(0)


def _all_actions(parser: argparse.ArgumentParser) -> Iterable[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _all_actions(each)
