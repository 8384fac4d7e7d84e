"""SIGINT and SIGTERM: the first ends a program in order, the second at once."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class StoppedError(KeyboardInterrupt):
    """A signal ended the program; no `except Exception` takes it for an error.

    Attributes:
      signum: Number of the signal; the exit status is 128 plus that.
    """

    def __init__(self, signum: int, message: str = "interrupted.") -> None:
        super().__init__(message)
        self.signum = signum


@contextlib.contextmanager
def raise_on_signal() -> Iterator[None]:
    """Raises `StoppedError` on the first signal; a second one kills the process.

    Has no effect in a thread, which receives no signals.
    """
    hook = sys.unraisablehook

    def show(unraisable: Any) -> None:  # noqa: ANN401
        if _is_closed_loop(unraisable):
            return
        # Raised where Python cannot pass it on, such as in the collection of garbage.
        if isinstance(unraisable.exc_value, StoppedError):
            print(unraisable.exc_value, file=sys.stderr, flush=True)
            os._exit(128 + unraisable.exc_value.signum)
        hook(unraisable)

    with _handled(_stop):
        sys.unraisablehook = show
        try:
            yield
        finally:
            # Threads may go on after the command.
            is_usual = hook is sys.__unraisablehook__
            sys.unraisablehook = _show_later if is_usual else hook


@contextlib.contextmanager
def first_signal() -> Iterator[list[int]]:
    """Yields a list that receives the first signal.

    A loop checks it after every step, and so always stops between two steps. A second
    signal has its usual effect at once: in a command it kills the process.
    """
    received: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is _stop else handler)

    with _handled(note) as previous:
        yield received


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Raises `StoppedError` for a signal when the block has ended, not in it."""
    with first_signal() as received:
        yield
    if received:
        raise StoppedError(received[0])


def exit_program(status: int) -> NoReturn:
    """Ends the process with an exit status, at once where a signal stopped it.

    Threads of XLA may compute still, and those of Orbax may start others. Where Python
    ends in its usual way, the first crash the process and the second print a traceback.
    """
    if status > 128:
        exit_at_once(status)
    sys.exit(status)


def exit_at_once(status: int) -> NoReturn:
    """Ends the process without Python's shutdown; what was printed is shown."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed
            stream.flush()
    os._exit(status)


def _is_closed_loop(unraisable: Any) -> bool:  # noqa: ANN401
    """Whether TensorStore called a loop that Orbax has closed after a failure."""
    return str(unraisable.exc_value) == "Event loop is closed"


def _show_later(unraisable: Any) -> None:  # noqa: ANN401
    if not _is_closed_loop(unraisable):
        sys.__unraisablehook__(unraisable)


def _stop(signum: int, frame: FrameType | None) -> None:
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_DFL)
    raise StoppedError(signum)


@contextlib.contextmanager
def _handled(handler: Callable[..., None]) -> Iterator[dict[int, Any]]:
    """Sets a handler of both signals; yields those before, and sets them again.

    Where a command has received its first signal, the second one goes on to kill it.
    """
    previous = dict[int, Any]()
    if threading.current_thread() is threading.main_thread():
        for number in _NUMBERS:
            previous[number] = signal.signal(number, handler)
    try:
        yield previous
    finally:
        for number, before in previous.items():
            is_second = before is _stop and signal.getsignal(number) is signal.SIG_DFL
            if not is_second:
                signal.signal(number, before)
