"""Checkpoints by Orbax, with digests that detect damaged arrays."""

import contextlib
import hashlib
import os
import pathlib
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from unetjax.training.steps import TrainState

Manager = ocp.CheckpointManager


class CorruptCheckpointError(ValueError):
    """A checkpoint cannot be read, or its bytes are not those that were saved."""


@contextlib.contextmanager
def open_checkpoints(
    folder: str | os.PathLike[str], *, best_metric: str
) -> Iterator[Manager]:
    """Opens a folder of checkpoints, one subfolder for each; closing waits for saves.

    The latest two checkpoints are kept, and the best one by `best_metric` (larger is
    better). Temporary folders that a killed run left behind are removed.
    """

    def metric(metrics: Mapping[str, float]) -> float:
        return metrics[best_metric]

    keep = checkpoint_managers.AnyPreservationPolicy(
        [
            checkpoint_managers.LatestN(2),
            checkpoint_managers.BestN(get_metric_fn=metric, n=1),
        ]
    )
    options = ocp.CheckpointManagerOptions(
        best_fn=metric,
        best_mode="max",
        preservation_policy=keep,
        cleanup_tmp_directories=True,
    )
    path = pathlib.Path(folder).absolute()
    with ocp.CheckpointManager(path, options=options) as manager:
        yield manager


def save(manager: Manager, state: TrainState, metrics: Mapping[str, float]) -> None:
    """Saves a state under its step, in the background.

    Args:
      manager: From `open_checkpoints`.
      state: State to save; the caller may donate it at once.
      metrics: Scores of the state, with the best metric among them.
    """
    # Orbax keeps no checksums and restores a flipped bit silently. The digests are in
    # the same composite, so they are committed together with the arrays.
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(state), digests=ocp.args.JsonSave(digests(state))
    )
    manager.save(int(state.step), args=items, metrics=dict(metrics), force=True)


def restore_latest(manager: Manager, like: TrainState) -> TrainState | None:
    """Returns the latest undamaged state, or None if nothing was saved.

    A damaged checkpoint is skipped with a warning, and the one before it is tried.

    Args:
      manager: From `open_checkpoints`.
      like: A state of the same shapes, on the devices on which to restore it.

    Raises:
      CorruptCheckpointError: If there are checkpoints and all of them are damaged.
    """
    steps = sorted(manager.all_steps(), reverse=True)
    for step in steps:
        try:
            return restore(manager, step, like)
        except CorruptCheckpointError as error:
            warnings.warn(f"{error} Trying the one before it.", stacklevel=2)
    if steps:
        raise CorruptCheckpointError(
            f"{manager.directory} holds no undamaged checkpoint; start again in "
            "another workdir."
        )
    return None


def restore(manager: Manager, step: int, like: TrainState) -> TrainState:
    """Returns the state of one step.

    Raises:
      CorruptCheckpointError: If it is missing, damaged, or of another architecture.
    """
    where = f"checkpoint {manager.directory / str(step)}"
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    items = ocp.args.Composite(
        state=ocp.args.StandardRestore(abstract), digests=ocp.args.JsonRestore()
    )
    try:
        restored = manager.restore(step, args=items)
    except Exception as error:  # Orbax raises many types, bare Exception among them
        reason = textwrap.shorten(str(error), 160)
        raise CorruptCheckpointError(f"{where} cannot be read: {reason}") from error
    state = restored["state"]
    if digests(state) != restored["digests"]:
        raise CorruptCheckpointError(f"{where} is damaged: its bytes changed on disk.")
    return state


def digests(state: TrainState) -> dict[str, str]:
    """Returns the SHA-256 of type, shape and bytes of every array, by its path."""

    def digest(array: jax.Array) -> str:
        values = np.asarray(array)
        header = f"{values.dtype} {values.shape} ".encode()
        return hashlib.sha256(header + values.tobytes()).hexdigest()

    leaves = jax.tree.leaves_with_path(state)
    return {jax.tree_util.keystr(path): digest(leaf) for path, leaf in leaves}


def finish(manager: Manager, step: int) -> None:
    """Waits for saves, and checks that the last one is on disk.

    Raises:
      OSError: If it is not; nothing else reports a save that failed in the background.
    """
    manager.wait_until_finished()
    manager.reload()
    if step not in manager.all_steps():
        raise OSError(
            f"the checkpoint of step {step} was not written to {manager.directory}; is "
            "the disk full?"
        )


def as_metrics(scores: Mapping[str, Any]) -> dict[str, float]:
    """Returns scores as finite numbers: NaN (nothing to score) ranks below others."""
    return {
        name: float(value) if np.isfinite(value) else -1.0
        for name, value in scores.items()
    }
