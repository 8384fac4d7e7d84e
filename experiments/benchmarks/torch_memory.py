"""Peak memory of PyTorch, in a fresh process, as a peak is never undone."""

import multiprocessing
import pathlib
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor

import numpy as np

_STATUS = pathlib.Path("/proc/self/status")


def peak(
    batch: Mapping[str, np.ndarray],
    *,
    features: int,
    depth: int,
    optimizer: str,
    precision: str,
    where: str,
    num_threads: int,
) -> int | None:
    """Returns the peak memory of the work in bytes, without that of the process before.

    On a GPU, it is the most that torch has allocated. None where the system does not
    say.

    Args:
      batch: See `torch_unet.work`, as are `optimizer` and `precision`.
      features: Channels of the network at full resolution.
      depth: Its number of poolings.
      optimizer: Rule of the training step; "" for a forward pass.
      precision: `float32` or `bfloat16`.
      where: Device of torch.
      num_threads: Threads of torch.

    Raises:
      RuntimeError: If the process fails, as when there is too little memory.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        network = (features, depth, where, num_threads)
        return pool.submit(_peak, batch, optimizer, precision, *network).result()


def _peak(
    batch: Mapping[str, np.ndarray],
    optimizer: str,
    precision: str,
    features: int,
    depth: int,
    where: str,
    num_threads: int,
) -> int | None:
    from . import torch_unet

    torch_unet.prepare(num_threads)
    before = _restart_peak()
    net = torch_unet.TorchUNet(features, depth).to(
        device=where, memory_format=torch_unet.torch.channels_last
    )
    run = torch_unet.work(
        net, batch, optimizer=optimizer, precision=precision, compiled=False
    )
    run(2)
    if where == "cuda":
        return torch_unet.torch.cuda.max_memory_allocated()
    return None if before is None else _status("VmHWM") - before


def _restart_peak() -> int | None:
    """Resets the peak of this process; returns the bytes in memory now.

    They are read from `/proc`, as `getrusage` inherits the peak of the parent process.
    None on systems without it.
    """
    if not _STATUS.exists():
        return None
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    """Bytes of this process, by the name that Linux gives them."""
    lines = _STATUS.read_text().splitlines()
    return next(1024 * int(x.split()[1]) for x in lines if x.startswith(f"{name}:"))
