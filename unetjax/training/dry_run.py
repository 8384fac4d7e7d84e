"""What an experiment would take: parameters, operations, memory; nothing is trained."""

import functools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from unetjax.data.device_dataset import DeviceDataset
from unetjax.devices import memory, parallel
from unetjax.devices.memory import Memory
from unetjax.network.flops import count_flops
from unetjax.network.forward import forward
from unetjax.reporting import console
from unetjax.reporting.report import Table
from unetjax.training import config as configs
from unetjax.training import programs, run_folder
from unetjax.training.config import ExperimentConfig
from unetjax.training.steps import TrainState

# Of a training image: label and cell, which are 32-bit numbers, and each channel.
BYTES_A_PIXEL = 8
BYTES_A_CHANNEL = 4  # at a pixel
_NEIGHBOURS = 2  # tile sizes to show on each side of the configured one


def describe(config: ExperimentConfig, *, channels: int) -> str:
    """Returns in words and numbers what a training would take, without data.

    The step is compiled for the devices that are there, with one training image of the
    size of a tile; a pixel of further ones takes
    `BYTES_A_PIXEL`, and `BYTES_A_CHANNEL` for each channel.

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
    plan = step_memory(config, channels=channels)
    lines = [
        f"parameters: {sum(sizes):,}",
        f"forward: {passes[0] / 1e9:,.3f} GFLOP for {tile}",
        f"forward and backward: {passes[1] / 1e9:,.3f} GFLOP for {tile}, "
        f"{config.batch_size * passes[1] / 1e9:,.3f} for a step of {config.batch_size}",
        f"devices: {num_devices} x {kind}, "
        f"{config.batch_size // num_devices} of {config.batch_size} tiles on each",
        f"memory of the step: {_memory_words(plan)}",
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


def step_memory(config: ExperimentConfig, *, channels: int) -> Memory | None:
    """Returns the memory of the compiled training step on each device, in bytes."""
    num_devices = parallel.usable_devices(config.batch_size)
    items = jax.ShapeDtypeStruct((config.batch_size // num_devices,), jnp.int32)
    keys = jax.eval_shape(lambda: run_folder.make_keys(0))
    step = functools.partial(programs.build_step(config), axis_name=None)
    lowered = jax.jit(step, donate_argnums=0).lower(
        _abstract_state(config, channels), items, _abstract_data(config, channels), keys
    )
    return memory.memory_of(lowered.compile())


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


def _abstract_state(config: ExperimentConfig, channels: int) -> TrainState:
    init = functools.partial(programs.initial_state, config, channels=channels)
    return jax.eval_shape(init, jax.random.key(0))


def _abstract_data(config: ExperimentConfig, channels: int) -> DeviceDataset:
    """One image as large as a tile."""
    pixels = config.tile_size**2

    def zeros() -> DeviceDataset:
        image = jnp.zeros((pixels, channels))
        one_each, one = jnp.zeros(pixels, jnp.int32), jnp.zeros(1, jnp.int32)
        weights = jnp.zeros(config.model.num_classes)
        return DeviceDataset(image, one_each, one_each, one, one, one, weights)

    return jax.eval_shape(zeros)


def _tile(side: int, channels: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)


def _memory_words(plan: Memory | None) -> str:
    if plan is None:
        return "the device does not say"
    parts = ", ".join(
        f"{name} {size / 1e9:.3f}" for name, size in plan._asdict().items()
    )
    return f"{plan.total / 1e9:.3f} GB ({parts})"
