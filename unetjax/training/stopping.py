"""What ends a run before its last step: signals and numbers that are not finite."""

import contextlib
import math
import signal
from collections.abc import Iterator
from types import FrameType


class NonFiniteLoss(ValueError):  # noqa: N818
    """A loss that is NaN or infinite; nothing after it is worth computing."""


class Interrupted(Exception):  # noqa: N818
    """The run was asked to stop; its state is saved.

    Attributes:
      signum: The signal, so that the exit code can be 128 plus its number.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


@contextlib.contextmanager
def first_signal() -> Iterator[list[int]]:
    """Yields a list that receives the first SIGINT or SIGTERM; a second one acts.

    The loop looks at it after every step, and so always stops between two steps.
    """
    received: list[int] = []
    previous = {}

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        for number, handler in previous.items():
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def check_finite(loss: float, step: int) -> None:
    """Refuses to go on after a loss that is not finite.

    Raises:
      NonFiniteLoss: Naming step and value.
    """
    if not math.isfinite(loss):
        raise NonFiniteLoss(
            f"the loss of step {step} is {loss}; the checkpoints before it are sound. "
            "Lower optimizer.learning_rate, or set optimizer.clip_norm, and start in "
            "another workdir."
        )
