"""Trains many steps and predicts many images of different sizes with flat memory.

    python -m tests.studies.memory [--steps 3000] [--images 300] [--seed 0]

The first third of each warms up: programs are compiled, and the allocator gets its
memory. After it the resident memory may grow by 128 MB at most. Linux only. Prints a
line for each part.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tests.training.runs import PLAIN, make_split
from unetjax.devices import runtime
from unetjax.inference.segment import segment
from unetjax.training import loop

BOUND = 128.0  # MB, after the warm-up
SIDES = (5, 200)  # pixels, of the images that are predicted


def resident() -> float:
    """Returns the memory of this process in RAM, in MB."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def report(title: str, sizes: list[float]) -> bool:
    """Prints what was measured, and returns whether it grew too much."""
    warm = sizes[len(sizes) // 3 :]
    growth = max(warm) - warm[0]
    print(
        f"{title}: {sizes[0]:.0f} MB at first, {warm[0]:.0f} MB after the warm-up, "
        f"{max(warm):.0f} MB at most after it, growth {growth:.1f} MB of at most "
        f"{BOUND:.0f} MB"
    )
    return growth > BOUND


def main() -> int:
    """Runs the study and returns 1 if memory grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    runtime.set_compiler_flags()
    began, sizes = time.monotonic(), list[float]()

    def watch(step: int, scores: Mapping[str, float]) -> None:
        sizes.append(resident())

    every = max(options.steps // 60, 1)
    config = replace(PLAIN, num_steps=options.steps, evaluate_every=every, log_every=10)
    with tempfile.TemporaryDirectory(prefix="memory.") as folder:
        workdir = pathlib.Path(folder) / "run"
        trained = loop.train_and_evaluate(config, make_split(), workdir, watch=watch)
    grown = report(f"{options.steps} steps, {len(sizes)} evaluations", sizes)
    rng, sizes = np.random.default_rng(options.seed), []
    for _ in range(options.images):
        height, width = rng.integers(*SIDES, size=2, endpoint=True)
        image = rng.integers(0, 256, (height, width, 1), dtype=np.uint8)
        result = segment(trained, image)
        if result.instances.shape != (height, width):
            raise AssertionError(f"{result.instances.shape} for {height}x{width}")
        sizes.append(resident())
    grown |= report(f"{options.images} predictions", sizes)
    print(f"seed {options.seed} ({(time.monotonic() - began) / 60:.0f} min)")
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
