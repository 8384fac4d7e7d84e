"""Processes that train together, on one machine or many, by JAX's distributed runtime.

Process 0 leads: it alone reads the images, and alone writes and reads the run folder.
It shares images and state with the others once. Before every step it gives an order,
so that all processes take the same steps, however training ends. Orders and arrays
travel by the collectives of JAX, as gradients do.
"""

import atexit
import collections
import contextlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from unetjax import signals
from unetjax.devices import memory

STEP, END = 1, 0  # orders; a negative one is a failure, see `await_order`
_HEARTBEAT = 30  # seconds without a sign of life after which a process counts as lost
_SHUTDOWN = 60  # seconds; all processes have their last order by then
_LOOPBACK = ("localhost:", "127.0.0.1:", "[::1]:")
# By a variable of every process of a job, the one with their number.
_COUNTS = {
    "SLURM_STEP_NODELIST": "SLURM_NTASKS",  # set by srun, not by sbatch
    "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE",
}


class LostProcessError(ConnectionError):
    """Another process has ended or cannot be reached, so no step can be computed."""


class LeaderEndedError(ConnectionError):
    """Process 0 has ended before its last step.

    Attributes:
      signum: Number of the signal that ended it, if one did, else 1.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(
            "process 0 ended early; its own output says why, and the same command "
            "resumes the run."
        )
        self.signum = signum


def count() -> int:
    """Returns the number of processes that train together."""
    return jax.process_count()


def is_leader() -> bool:
    """Returns whether this is process 0."""
    return jax.process_index() == 0


def in_cluster() -> bool:
    """Returns whether the environment says that this is one of several processes.

    As `srun` of SLURM, Open MPI, indexed Jobs of Kubernetes (for which JAX needs its
    client, `jax[k8s]`) and Cloud TPU slices of several hosts do;
    `jax.distributed.initialize` reads the rest from there.
    """
    env = os.environ
    if any(key in env and int(env.get(n, 1)) > 1 for key, n in _COUNTS.items()):
        return True
    if "," in env.get("TPU_WORKER_HOSTNAMES", ""):
        return True
    is_indexed = "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env
    return is_indexed and importlib.util.find_spec("kubernetes") is not None


@contextlib.contextmanager
def joined(
    coordinator: str = "auto",
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Iterator[None]:
    """Joins the other processes for a training; must precede every computation.

    At the end of the block process 0 dismisses the others, which are in `await_order`.

    Args:
      coordinator: Host and port of process 0; "auto" to ask the cluster, if there is
        one; "none" to train alone.
      num_processes: Their number, where a host is given.
      process_id: The number of this process, from 0, where a host is given.

    Raises:
      ValueError: If one of the numbers is missing or out of range, or processes have
        different numbers of devices.
      ConnectionError: If the others cannot be reached.
    """
    _check(coordinator, num_processes, process_id)
    if coordinator == "none" or (coordinator == "auto" and not in_cluster()):
        yield
        return
    _initialize(coordinator, num_processes, process_id)
    try:
        _check_devices()
        with _losses_named():
            # The first exchange connects the processes, which must be there within 30
            # seconds; process 0 may read its images for longer.
            _exchange(0, interrupted=False)
            yield
    except BaseException as error:
        is_orderly = isinstance(error, LeaderEndedError)
        if is_leader() and not isinstance(error, LostProcessError | MemoryError):
            with contextlib.suppress(LostProcessError):
                give_order(-getattr(error, "signum", 1))
                is_orderly = True
        if not is_orderly:
            # JAX would wait for all processes; they notice the end of this one.
            atexit.register(signals.exit_at_once, 2)
            raise
        jax.distributed.shutdown()
        raise
    if is_leader():
        give_order(END)
    jax.distributed.shutdown()


def _check(coordinator: str, num_processes: int | None, process_id: int | None) -> None:
    numbers = (num_processes, process_id)
    if coordinator in ("auto", "none"):
        if numbers != (None, None):
            raise ValueError(
                "--num_processes and --process_id need --coordinator=HOST:PORT, the "
                "address of process 0."
            )
        return
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(
            f"--coordinator must be HOST:PORT, auto or none, got {coordinator!r}."
        )
    if num_processes is None or process_id is None:
        raise ValueError(
            f"--coordinator={coordinator} also needs --num_processes and --process_id, "
            "from 0; --coordinator=auto asks the cluster for all three."
        )
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"--process_id must be at least 0 and below --num_processes="
            f"{num_processes}, got {process_id}."
        )


def _initialize(
    coordinator: str, num_processes: int | None, process_id: int | None
) -> None:
    # Its handler of SIGTERM would replace that of the training loop.
    jax.config.update("jax_enable_preemption_service", False)
    is_given = coordinator != "auto"
    is_local = coordinator.startswith(_LOOPBACK)
    try:
        jax.distributed.initialize(
            coordinator if is_given else None,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=_HEARTBEAT,
            shutdown_timeout_seconds=_SHUTDOWN,
            coordinator_bind_address=coordinator if is_local else None,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConnectionError(
            f"the processes of this training did not find each other ({reason}); name "
            "process 0 with --coordinator=HOST:PORT --num_processes=N --process_id=I, "
            "or train alone with --coordinator=none."
        ) from error


def _check_devices() -> None:
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        raise ValueError(
            "all processes must have the same number of devices, got "
            f"{', '.join(str(counts[i]) for i in sorted(counts))}."
        )


@contextlib.contextmanager
def _losses_named() -> Iterator[None]:
    """Says that another process was lost where a collective of JAX fails."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        # An array whose computation failed raises a ValueError when it is read.
        is_loss = isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)
        if memory.is_exhausted(error) or not is_loss:
            raise
        reason = str(error).partition("\n")[0]
        raise LostProcessError(
            f"another process of the {count()} has ended or cannot be reached "
            f"({reason}); start all of them again to resume from the last checkpoint."
        ) from error


def give_order(order: int) -> bool:
    """Tells the other processes what to do next; on one process, does nothing.

    Args:
      order: `STEP`, `END`, or minus the number of the signal that ended process 0; -1
        if an error did.

    Returns:
      Whether another process has received a signal to end.
    """
    return count() > 1 and _exchange(order, interrupted=False)[1]


def await_order(*, interrupted: bool = False) -> int:
    """Returns what process 0 says to do next: `STEP` or `END`.

    Args:
      interrupted: Whether this process has received a signal to end.

    Raises:
      LeaderEndedError: If process 0 ends early.
      LostProcessError: If it is gone.
    """
    order, _ = _exchange(0, interrupted=interrupted)
    if order < 0:
        raise LeaderEndedError(-order)
    return order


def _exchange(order: int, *, interrupted: bool) -> tuple[int, bool]:
    """Returns the order of process 0, and whether any process was interrupted."""
    with _losses_named():
        rows = multihost_utils.process_allgather(np.array([order, interrupted]))
    return int(rows[0, 0]), bool(rows[:, 1].any())


def share(arrays: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """Returns the named arrays of process 0, bit for bit, in every process.

    Args:
      arrays: Those of process 0; None in the others.
    """
    given = {name: np.asarray(x) for name, x in (arrays or {}).items()}
    table = [[name, x.dtype.str, x.shape] for name, x in given.items()]
    header = np.frombuffer(json.dumps(table).encode(), np.uint8)
    size = int(_broadcast(np.array(len(header))))
    header = _broadcast(header if arrays is not None else np.zeros(size, np.uint8))
    shared = {}
    for name, dtype, shape in json.loads(header.tobytes()):
        like = np.empty(shape, dtype) if arrays is None else given[name]
        # As bytes, since the sum by which JAX broadcasts turns -0.0 into 0.0.
        raw = np.frombuffer(like.tobytes(), np.uint8)
        shared[name] = np.frombuffer(_broadcast(raw).tobytes(), dtype).reshape(shape)
    return shared


def _broadcast(values: np.ndarray) -> np.ndarray:
    with _losses_named():
        return np.asarray(multihost_utils.broadcast_one_to_all(values))
