"""Checkpoints by Orbax, with digests that detect damage of any file."""

import contextlib
import hashlib
import os
import pathlib
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from unetjax import signals
from unetjax.devices import memory, processes
from unetjax.files import folders, json_files
from unetjax.training.steps import TrainState


class CorruptCheckpointError(ValueError):
    """A checkpoint cannot be read, or its bytes are not those that were saved."""


class Origin(NamedTuple):
    """What a checkpoint says about its run, besides the state.

    Attributes:
      config: Digest of the config.
      data: Digest of the images and their split.
      records: Contents of `records.jsonl` up to the step of the checkpoint.
    """

    config: str
    data: str
    records: str


class Saved(NamedTuple):
    """A checkpoint; one of an earlier version of unetjax has no origin."""

    state: TrainState
    origin: Origin | None


class Manager(ocp.CheckpointManager):
    """Keeps the latest two checkpoints, and that of the best step."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._keep = checkpoint_managers.AnyPreservationPolicy(
            [checkpoint_managers.LatestN(2), checkpoint_managers.CustomSteps([])]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._keep,
            cleanup_tmp_directories=True,
            create=False,
            multiprocessing_options=_alone(),
        )
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, options=options)

    def close(self) -> None:
        """Waits for everything in the background, and closes."""
        # Orbax waits for the removal of temporary folders before a save only; without
        # one, its thread could outlive the program, and print a traceback.
        wait = getattr(self, "_maybe_await_cleanup_tmp_directory", None)
        if wait is not None:
            wait()
        super().close()

    def keep_best(self, step: int | None) -> None:
        """Keeps the checkpoint of a step beside the latest two, from the next save."""
        steps = [] if step is None else [step]
        self._keep.policies = [
            checkpoint_managers.LatestN(2),
            checkpoint_managers.CustomSteps(steps),
        ]


def _alone() -> ocp.options.MultiprocessingOptions:
    """Options by which process 0 saves and restores without the others."""
    if processes.count() == 1:
        return ocp.options.MultiprocessingOptions()
    return ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="unetjax"
    )


@contextlib.contextmanager
def open_checkpoints(folder: str | os.PathLike[str]) -> Iterator[Manager]:
    """Opens a folder of checkpoints, one subfolder for each; closing waits for saves.

    Temporary folders that a killed run left behind are removed.

    Raises:
      OSError: If a save in the background failed that nobody has waited for.
    """
    with contextlib.ExitStack() as stack:
        with signals.deferred():  # it starts threads, which must be waited for
            manager = Manager(pathlib.Path(folder).absolute())
            stack.callback(_close, manager)
        yield manager


def save(
    manager: Manager, state: TrainState, origin: Origin, *, best_step: int | None
) -> None:
    """Saves a state under its step, in the background.

    Earlier checkpoints stay until it is complete, so there must be space for one more.

    Args:
      manager: From `open_checkpoints`.
      state: State to save; the caller may donate it at once.
      origin: The run so far.
      best_step: The step whose checkpoint is kept for its scores; may be this one.

    Raises:
      OSError: If the disk has no space for it, or if the save before it failed.
    """
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    folders.check_space(str(manager.directory), num_bytes)
    # Orbax keeps no checksums and restores a flipped bit silently. The digests are in
    # the same composite, so they are committed together with the arrays.
    run = origin._asdict()
    if processes.count() > 1:  # Orbax takes arrays of JAX for parts of larger ones
        state = jax.device_get(state)
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        digests=ocp.args.JsonSave(digests(state)),
        run=ocp.args.JsonSave({**run, "sha256": json_files.digest(run)}),
    )
    manager.keep_best(best_step)
    with _as_os_error(manager):
        manager.save(int(state.step), args=items, force=True)


def restore_latest(
    manager: Manager, like: TrainState, *, damaged: pathlib.Path
) -> Saved | None:
    """Returns the latest undamaged checkpoint, or None if nothing was saved.

    Damaged checkpoints after it are moved away with a warning, so that their steps can
    be saved again.

    Args:
      manager: From `open_checkpoints`.
      like: A state of the same shapes, on the devices on which to restore it.
      damaged: The folder for damaged checkpoints.

    Raises:
      CorruptCheckpointError: If there are checkpoints and all of them are damaged.
    """
    problems = dict[int, CorruptCheckpointError]()
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            saved = restore(manager, step, like)
        except CorruptCheckpointError as error:
            problems[step] = error
            continue
        set_aside(manager, list(problems), damaged)
        for error in problems.values():
            warnings.warn(
                f"{error} It was moved into {damaged}, and the run resumes from step "
                f"{step}.",
                stacklevel=2,
            )
        return saved
    if problems:
        raise CorruptCheckpointError(
            f"{manager.directory} holds no undamaged checkpoint "
            f"({' '.join(map(str, problems.values()))}); start again in another "
            "workdir."
        )
    return None


def set_aside(manager: Manager, steps: Sequence[int], folder: pathlib.Path) -> None:
    """Moves the checkpoints of some steps into a folder."""
    for step in steps:
        folders.set_aside(pathlib.Path(manager.directory) / str(step), folder)
    manager.reload()


def restore(manager: Manager, step: int, like: TrainState) -> Saved:
    """Returns the checkpoint of one step.

    Raises:
      CorruptCheckpointError: If it is missing, damaged, or of another architecture.
      OSError: If its files may not be read.
      MemoryError: If there is too little memory.
    """
    if processes.count() > 1:
        target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
    else:
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    items: dict[str, Any] = {
        "state": ocp.args.StandardRestore(target),
        "digests": ocp.args.JsonRestore(),
    }
    restored = _restore(manager, step, items)
    state = restored["state"]
    if digests(state) != restored["digests"]:
        raise _damaged(manager, step, "its bytes changed on disk")
    if processes.count() > 1:
        state = jax.tree.map(lambda x, to: jax.device_put(x, to.sharding), state, like)
    return Saved(state, restore_origin(manager, step))


def restore_origin(manager: Manager, step: int) -> Origin | None:
    """Returns the origin of a checkpoint; None for one of an earlier version.

    Raises:
      CorruptCheckpointError: If it is damaged.
    """
    if not (pathlib.Path(manager.directory) / str(step) / "run").exists():
        return None
    run = dict(_restore(manager, step, {"run": ocp.args.JsonRestore()})["run"])
    if run.pop("sha256", None) != json_files.digest(run):
        raise _damaged(manager, step, "its record of the run changed on disk")
    return Origin(**run)


def latest_origin(manager: Manager) -> Origin | None:
    """Returns the origin of the latest checkpoint in which it is undamaged, if any."""
    for step in sorted(manager.all_steps(), reverse=True):
        with contextlib.suppress(CorruptCheckpointError):
            return restore_origin(manager, step)
    return None


def _restore(manager: Manager, step: int, items: dict[str, Any]) -> Any:  # noqa: ANN401
    try:
        return manager.restore(step, args=ocp.args.Composite(**items))
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # Orbax raises many types, bare Exception among them
        if memory.is_exhausted(error):
            raise MemoryError(
                f"checkpoint {manager.directory / str(step)} does not fit into memory."
            ) from error
        raise _damaged(manager, step, textwrap.shorten(str(error), 160)) from error


def _damaged(manager: Manager, step: int, reason: str) -> CorruptCheckpointError:
    return CorruptCheckpointError(
        f"checkpoint {manager.directory / str(step)} is damaged: {reason.rstrip('.')}."
    )


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
      OSError: If it is not.
    """
    with _as_os_error(manager):
        manager.wait_until_finished()
    manager.reload()
    if step not in manager.all_steps():
        raise OSError(
            f"the checkpoint of step {step} was not written to {manager.directory}; is "
            "the disk full?"
        )


def _close(manager: Manager) -> None:
    with _as_os_error(manager):
        manager.close()


@contextlib.contextmanager
def _as_os_error(manager: Manager) -> Iterator[None]:
    """Turns whatever Orbax raises for a save that failed into one sentence.

    Orbax raises it once, at the next save, wait or close, and as many types.
    """
    try:
        yield
    except Exception as error:
        number = re.search(r"os_error_code='(\d+)'", str(error))  # of TensorStore
        if number:
            reason = os.strerror(int(number[1]))
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        elif memory.is_exhausted(error):
            raise
        else:
            reason = textwrap.shorten(str(error), 160).rstrip(".")
        raise OSError(
            f"a checkpoint could not be written to {manager.directory} ({reason}); "
            "earlier ones are intact: mend that, and run the same command again to "
            "resume."
        ) from error
