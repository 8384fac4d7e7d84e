"""The largest tiles, or the most of them, whose training step fits into memory.

Read off the compiler's own plan of the step, which is compiled for several sizes and
run for none of them.
"""

import bisect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import jax

from unetjax.data.examples import Example
from unetjax.devices import memory
from unetjax.training import dry_run
from unetjax.training.config import ExperimentConfig

Largest = Literal["tile", "batch"]

_MOST_TILES = 1024  # on a device


def largest_that_fits(
    config: ExperimentConfig,
    train: Sequence[Example],
    *,
    what: Largest,
    limit: int | None = None,
) -> ExperimentConfig:
    """Returns the experiment with the largest tiles, or the most of them, that fit.

    The paper favours large tiles over large batches (Sec. 3). Tiles end where one holds
    the longest image: larger ones would teach nothing more.

    Args:
      config: The experiment.
      train: Its training images, which lie in the same memory.
      what: "tile" keeps `batch_size` and chooses `tile_size`; "batch" the other way.
      limit: Bytes that a device has; `memory.limit()` by default.

    Raises:
      ValueError: If not even the smallest one fits, or the device does not say how much
        memory there is or a program takes.
    """
    shapes = [example.image.shape for example in train]
    channels = shapes[0][-1]
    data = sum(height * width for height, width, _ in shapes) * (
        dry_run.BYTES_A_PIXEL + dry_run.BYTES_A_CHANNEL * channels
    )
    limit = memory.limit() if limit is None else limit

    def is_too_large(candidate: ExperimentConfig) -> bool:
        plan = dry_run.step_memory(candidate, channels=channels)
        if plan is None:
            raise ValueError(
                "this device does not say how much memory a program takes; choose "
                "tile_size and batch_size yourself."
            )
        return plan.total + data > limit

    longest = max(max(shape[:2]) for shape in shapes)
    candidates = _tiles(config, longest) if what == "tile" else _batches(config)
    count = _count_fitting(candidates, is_too_large)
    if not count:
        least = candidates[0]
        raise ValueError(
            f"a step of {least.batch_size} tiles of {least.tile_size} pixels, the "
            f"least that could be chosen, does not fit into {limit / 1e9:.3f} GB "
            f"beside {data / 1e9:.3f} GB of images; lower batch_size, tile_size, "
            "model.features or model.depth, or set model.remat=True."
        )
    return candidates[count - 1]


def _tiles(config: ExperimentConfig, longest: int) -> list[ExperimentConfig]:
    geometry = config.model.geometry
    smallest, last = (geometry.input_size(side) for side in (1, longest))
    sizes = range(smallest, last + 1, geometry.period)
    return [replace(config, tile_size=size) for size in sizes]


def _batches(config: ExperimentConfig) -> list[ExperimentConfig]:
    num_devices = jax.local_device_count()
    return [
        replace(config, batch_size=n * num_devices) for n in range(1, _MOST_TILES + 1)
    ]


def _count_fitting(
    candidates: Sequence[ExperimentConfig],
    is_too_large: Callable[[ExperimentConfig], bool],
) -> int:
    """How many of these fit, compiling few of them: twice as many, then bisection."""
    end = 1
    while end <= len(candidates) and not is_too_large(candidates[end - 1]):
        end *= 2
    last = min(end - 1, len(candidates))
    return bisect.bisect_left(candidates, True, end // 2, last, key=is_too_large)
