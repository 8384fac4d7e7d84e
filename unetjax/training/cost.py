"""What a training takes: parameters, operations, memory and time of a step.

Also the largest tiles, or the most of them, whose step fits into memory.
"""

import bisect
import datetime
import functools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
from jax.stages import Compiled
from jaxtyping import PyTree

from unetjax.data.device_dataset import DeviceDataset
from unetjax.data.examples import Example
from unetjax.devices import memory, parallel, runtime
from unetjax.devices.memory import Memory
from unetjax.network.flops import count_flops
from unetjax.network.forward import forward
from unetjax.reporting import console
from unetjax.reporting.report import Table
from unetjax.targets.target import MAPS, num_logits
from unetjax.training import config as configs
from unetjax.training import programs, run_folder
from unetjax.training.config import ExperimentConfig
from unetjax.training.steps import TrainState

Largest = Literal["tile", "batch"]

# Of a training image: label and cell, which are 32-bit numbers, and each channel.
BYTES_A_PIXEL = 8
BYTES_A_CHANNEL = 4  # at a pixel
_MOST_TILES = 1024  # on a device
_TIMED_STEPS = 3
_NEIGHBOURS = 2  # tile sizes to show on each side of the configured one


def describe(config: ExperimentConfig, *, channels: int) -> str:
    """Returns in words and numbers what a training would take, without data.

    The step is compiled for the devices of this machine and timed, with one training
    image of the size of a tile. Each pixel of further images takes `BYTES_A_PIXEL`
    bytes, and `BYTES_A_CHANNEL` for each channel. A step that would not fit into
    memory is not timed.

    Args:
      config: The experiment.
      channels: Number of channels of its images.
    """
    state = _abstract_state(config, channels)
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params)]
    num_devices = parallel.usable_devices(config.batch_size)
    kind = jax.local_devices()[0].device_kind
    tile = f"a tile of {config.tile_size}x{config.tile_size}x{channels}"
    passes = flops(config, channels=channels)
    step = compile_step(config, channels=channels)
    plan = memory.memory_of(step)
    lines = [
        f"parameters: {sum(sizes):,}",
        f"forward: {passes[0] / 1e9:,.3f} GFLOP for {tile}",
        f"forward and backward: {passes[1] / 1e9:,.3f} GFLOP for {tile}, "
        f"{config.batch_size * passes[1] / 1e9:,.3f} for a step of {config.batch_size}",
        f"devices: {num_devices} x {kind}, "
        f"{config.batch_size // num_devices} of {config.batch_size} tiles on each",
        f"memory of the step: {_memory_words(plan)}",
        f"time: {_time_words(config, step, plan, channels=channels)}",
    ]
    table = tile_table(config, channels=channels)
    return "\n".join([*lines, "", console.table(table.rows, table.columns)])


def flops(config: ExperimentConfig, *, channels: int) -> tuple[int, int]:
    """Returns the operations for one tile: of the forward pass, and with its gradient.

    See `network.flops.count_flops`.
    """
    state = _abstract_state(config, channels)
    image = _tile(config.tile_size, channels)

    def predict(params: PyTree, image: jax.Array) -> jax.Array:
        return forward(config.model, params, state.model_state, image)[0]

    def learn(params: PyTree, image: jax.Array) -> PyTree:
        logits, pull_back = jax.vjp(lambda p: predict(p, image), params)
        return pull_back(jnp.ones_like(logits))

    return (
        count_flops(predict, state.params, image),
        count_flops(learn, state.params, image),
    )


def compile_step(config: ExperimentConfig, *, channels: int) -> Compiled:
    """Returns the training step of one device, compiled for its part of the batch."""
    num_devices = parallel.usable_devices(config.batch_size)
    items = jax.ShapeDtypeStruct((config.batch_size // num_devices,), jnp.int32)
    keys = jax.eval_shape(lambda: run_folder.make_keys(0))
    data = jax.eval_shape(lambda: _one_tile(config, channels))
    step = functools.partial(programs.build_step(config), axis_name=None)
    lowered = jax.jit(step, donate_argnums=0).lower(
        _abstract_state(config, channels), items, data, keys
    )
    with runtime.silent_compiler():
        return lowered.compile()


@functools.lru_cache(maxsize=64)  # a search asks for some sizes again
def step_memory(config: ExperimentConfig, *, channels: int) -> Memory | None:
    """Returns the memory of the compiled training step on each device, in bytes."""
    return memory.memory_of(compile_step(config, channels=channels))


def step_seconds(config: ExperimentConfig, step: Compiled, *, channels: int) -> float:
    """Returns the median time of some steps, in seconds, without the first one.

    Args:
      config: The experiment.
      step: From `compile_step`. Several devices work side by side, so it takes as long
        as all of them, except for the sum of their gradients.
      channels: Number of channels of the images.
    """
    keys, data = run_folder.make_keys(config.seed), _one_tile(config, channels)
    state = programs.initial_state(config, keys.init, channels=channels)
    items = jnp.arange(config.batch_size // parallel.usable_devices(config.batch_size))
    times = []
    for _ in range(1 + _TIMED_STEPS):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, items, data, keys))
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def steps_within(config: ExperimentConfig, minutes: float, *, channels: int) -> int:
    """Returns how many steps this machine computes in a time, at least one.

    The step is compiled and timed; evaluations are not counted.

    Args:
      config: The experiment; its `num_steps` does not matter.
      minutes: The time.
      channels: Number of channels of the images.
    """
    step = compile_step(config, channels=channels)
    seconds = step_seconds(config, step, channels=channels)
    return max(int(60 * minutes / seconds), 1)


def tile_table(config: ExperimentConfig, *, channels: int) -> Table:
    """Returns the legal tile sizes around the configured one, and what each costs."""
    rows = []
    for size in tile_sizes(config):
        other = replace(config, tile_size=size)
        output = configs.output_size(other)
        work = flops(other, channels=channels)[0]
        rows.append(
            {
                "tile": f"{size}{' *' if size == config.tile_size else ''}",
                "output": output,
                "GFLOP forward": work / 1e9,
                "MFLOP a pixel": work / 1e6 / output**2,
            }
        )
    return Table(list(rows[0]), rows, "Legal tile sizes in pixels; * is configured.")


def tile_sizes(config: ExperimentConfig) -> list[int]:
    """Returns the legal tile sizes next to the configured one, in pixels."""
    geometry = config.model.geometry
    step = geometry.period
    around = range(-_NEIGHBOURS * step, (_NEIGHBOURS + 1) * step, step)
    return [
        config.tile_size + change
        for change in around
        if geometry.is_legal(config.tile_size + change)
    ]


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
        BYTES_A_PIXEL + BYTES_A_CHANNEL * channels
    )
    limit = memory.limit() if limit is None else limit

    def of_size(size: int) -> ExperimentConfig:
        if what == "tile":
            return replace(config, tile_size=size)
        return replace(config, batch_size=size)

    def is_too_large(size: int) -> bool:
        plan = step_memory(of_size(size), channels=channels)
        if plan is None:
            raise ValueError(
                "this device does not say how much memory a program takes; choose "
                "tile_size and batch_size yourself."
            )
        return plan.total + data > limit

    longest = max(max(shape[:2]) for shape in shapes)
    sizes = _tile_sizes(config, longest) if what == "tile" else _batch_sizes()
    count = _count_fitting(sizes, is_too_large)
    if not count:
        least = of_size(sizes[0])
        raise ValueError(
            f"a step of {least.batch_size} tiles of {least.tile_size} pixels, the "
            f"least that could be chosen, does not fit into {limit / 1e9:.3f} GB "
            f"beside {data / 1e9:.3f} GB of images; lower batch_size, tile_size, "
            "model.features or model.depth, or set model.remat=True."
        )
    return of_size(sizes[count - 1])


def _tile_sizes(config: ExperimentConfig, longest: int) -> range:
    geometry = config.model.geometry
    smallest, last = (geometry.input_size(side) for side in (1, longest))
    return range(smallest, last + 1, geometry.period)


def _batch_sizes() -> range:
    num_devices = jax.local_device_count()
    return range(num_devices, _MOST_TILES * num_devices + 1, num_devices)


def _count_fitting(sizes: range, is_too_large: Callable[[int], bool]) -> int:
    """How many of these fit, compiling few of them: twice as many, then bisection."""
    end = 1
    while end <= len(sizes) and not is_too_large(sizes[end - 1]):
        end *= 2
    last = min(end - 1, len(sizes))
    return bisect.bisect_left(sizes, True, end // 2, last, key=is_too_large)


def _abstract_state(config: ExperimentConfig, channels: int) -> TrainState:
    init = functools.partial(programs.initial_state, config, channels=channels)
    return jax.eval_shape(init, jax.random.key(0))


def _one_tile(config: ExperimentConfig, channels: int) -> DeviceDataset:
    """A black image as large as a tile."""
    side, model = config.tile_size, config.model
    num_maps = len(MAPS[model.target])
    image, numbers = jnp.zeros((side**2, channels)), jnp.zeros(side**2, jnp.int32)
    return DeviceDataset(
        image=image,
        label=numbers,
        instances=numbers,
        start=jnp.zeros(1, jnp.int32),
        height=jnp.full(1, side),
        width=jnp.full(1, side),
        class_weights=jnp.ones(num_logits(model.num_classes, model.target)),
        maps=jnp.zeros((side**2, num_maps)) if num_maps else None,
    )


def _tile(side: int, channels: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)


def _memory_words(plan: Memory | None) -> str:
    if plan is None:
        return "the device does not say"
    parts = ", ".join(
        f"{name} {size / 1e9:.3f}" for name, size in plan._asdict().items()
    )
    return f"{plan.total / 1e9:.3f} GB ({parts})"


def _time_words(
    config: ExperimentConfig, step: Compiled, plan: Memory | None, *, channels: int
) -> str:
    try:
        limit = memory.limit()
    except ValueError:  # some systems do not say: the step may fit
        limit = math.inf
    if plan is not None and plan.total > limit:
        return f"not measured, as the step does not fit into {limit / 1e9:.3f} GB"
    seconds = step_seconds(config, step, channels=channels)
    whole = datetime.timedelta(seconds=math.ceil(config.num_steps * seconds))
    return (
        f"{seconds:.3g} s a step, {whole} for {config.num_steps:,} steps "
        "without evaluations"
    )
