"""Peak memory of the peer, in a process of its own: what a peak is, is never undone."""

import json
import pathlib
import subprocess
import sys
from typing import NamedTuple

import numpy as np

_STATUS = pathlib.Path("/proc/self/status")
_ROOT = pathlib.Path(__file__).parents[2]


class Work(NamedTuple):
    """What the peer does while its memory is watched.

    Attributes:
      features: Width of the network at full resolution.
      depth: Its number of poolings.
      tile_size: Side of the tiles, in pixels.
      output_size: Side of the output, in pixels.
      batch_size: Number of tiles.
      precision: `float32` or `bfloat16`.
      optimizer: Rule of the training step; "" for a forward pass.
      where: Device of torch.
      num_threads: Threads of torch.
    """

    features: int
    depth: int
    tile_size: int
    output_size: int
    batch_size: int
    precision: str
    optimizer: str
    where: str
    num_threads: int


def peak_of_torch(work: Work) -> int | None:
    """Returns by how many bytes the peer's peak exceeds that of a process without it.

    On a GPU, what torch has allocated at most. None where the system does not say.

    Raises:
      RuntimeError: If that process fails, as without memory.
    """
    done = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.memory", json.dumps(work)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
    return json.loads(done.stdout)


def _peak(work: Work) -> int | None:
    from experiments.benchmarks import torch_unet

    torch_unet.prepare(work.num_threads)
    before = _restart_peak()
    net = torch_unet.TorchUNet(work.features, work.depth).to(
        device=work.where, memory_format=torch_unet.torch.channels_last
    )
    rng = np.random.default_rng(0)
    outer = (work.batch_size, work.tile_size, work.tile_size, 1)
    inner = (work.batch_size, work.output_size, work.output_size)
    batch = {
        "image": rng.standard_normal(outer).astype(np.float32),
        "label": rng.integers(0, 2, inner),
        "weight": np.ones(inner, np.float32),
    }
    if work.optimizer:
        run = torch_unet.training(
            net,
            batch,
            optimizer=work.optimizer,
            precision=work.precision,
            compiled=False,
        )
    else:
        run = torch_unet.prediction(
            net, batch["image"], precision=work.precision, compiled=False
        )
    run(2)
    if work.where == "cuda":
        return torch_unet.torch.cuda.max_memory_allocated()
    return None if before is None else _status("VmHWM") - before


def _restart_peak() -> int | None:
    """Forgets the peak that imports made; returns the bytes in memory now.

    From `/proc`, as `getrusage` inherits the peak of the process that started this one.
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


if __name__ == "__main__":
    print(json.dumps(_peak(Work(*json.loads(sys.argv[1])))))
