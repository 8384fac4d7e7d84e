"""Early ends of a run: lack of progress, signals, and numbers that are not finite."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_REMEDY = (
    "the checkpoints before it are intact. Lower optimizer.learning_rate, or set "
    "optimizer.clip_norm, and start in another workdir."
)


def no_progress(scores: Sequence[float], patience: int) -> bool:
    """Returns whether the last `patience` evaluations all failed to beat the best.

    Only scores decide, so that a resumed run stops where an uninterrupted one does.

    Args:
      scores: Best metric of each evaluation, larger being better; NaN never is.
      patience: Number of evaluations; 0 for no limit.

    Example:
      >>> no_progress([0.1, 0.5, 0.4, 0.5], 2), no_progress([0.1, 0.5, 0.4, 0.6], 2)
      (True, False)
    """
    best, since = -math.inf, 0
    for score in scores:
        best, since = (score, 0) if score > best else (best, since + 1)
    return 0 < patience <= since


class EndedEarlyError(Exception):
    """A run has ended before its last step, with results that are worth a report."""


class NotFiniteError(EndedEarlyError, ValueError):
    """A loss or parameter is NaN or infinite, from which training does not recover."""


class Interrupted(EndedEarlyError):  # noqa: N818
    """The run was stopped by a signal; its state is saved.

    Attributes:
      signum: Number of the signal; the exit status is 128 plus that.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


def check_finite_loss(loss: float, step: int, names: Sequence[str]) -> None:
    """Checks that a loss is finite.

    Args:
      loss: Loss of the step.
      step: Number of the update, counted from 1.
      names: Images from which the tiles of its batch were cut.

    Raises:
      NotFiniteError: If it is not; the message names step, value and images.
    """
    if not math.isfinite(loss):
        raise NotFiniteError(
            f"the loss of step {step} is {loss}, over tiles of {', '.join(names)}; "
            f"{_REMEDY}"
        )


def check_finite_params(params: Mapping[str, Any], step: int) -> None:
    """Checks that parameters are finite, before they are evaluated or saved.

    Raises:
      NotFiniteError: If they are not; the message names step and first such array.
    """
    import jax  # not at the top: commands that compute nothing import this module
    import jax.numpy as jnp

    for path, values in jax.tree.leaves_with_path(params):
        if not jnp.isfinite(values).all():
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise NotFiniteError(f"{name} is not finite after step {step}; {_REMEDY}")
