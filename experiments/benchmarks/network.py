"""The network alone, on a batch that never changes: forward pass and training step."""

import functools
import itertools
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Compiled, Wrapped
from jaxtyping import PyTree

from experiments.benchmarks import machine, measuring, memory, work
from experiments.benchmarks.measuring import OURS, Case, Contender, Row
from experiments.benchmarks.plan import Plan
from unetjax.network.forward import forward
from unetjax.network.unet import UNet
from unetjax.training.optimizers import OptimizerSettings, build_optimizer
from unetjax.training.steps import TrainState, init_state, train_step

# Never so large that the weights run away: a step with NaN may take another time.
_LEARNING_RATE = 1e-4
_OUR_PART = 0.4  # of the device's memory; the peer keeps its own


def forward_passes(plan: Plan, peaks: dict[str, float]) -> Iterator[list[Row]]:
    """Measures one forward pass over a batch, logits on the device."""
    for features, wanted in itertools.product(plan.features, plan.batch_sizes):
        model = UNet(features=features, depth=plan.depth)
        params = initial_params(model, plan.tile_size)
        ours = functools.partial(our_forward, model, params, plan.tile_size)
        batch_size = wanted or largest_batch(ours)
        case = Case(
            "forward",
            sizes(plan, features, batch_size),
            items=batch_size,
            flops=batch_size * work.forward_flops(model, plan.tile_size),
        )
        contenders = [ours(batch_size, precision) for precision in plan.precisions]
        contenders += _peers(plan, model, params, batch_size, optimizer="")
        yield measuring.measure(case, contenders, plan.effort, peaks=peaks)


def training_steps(plan: Plan, peaks: dict[str, float]) -> Iterator[list[Row]]:
    """Measures one update: forward, weighted loss, backward, optimizer."""
    for features, wanted, rule in itertools.product(
        plan.features, plan.batch_sizes, plan.optimizers
    ):
        model = UNet(features=features, depth=plan.depth)
        params = initial_params(model, plan.tile_size)
        ours = functools.partial(our_training, model, rule, plan.tile_size)
        batch_size = wanted or largest_batch(ours)
        case = Case(
            "train",
            f"{sizes(plan, features, batch_size)}, {rule}",
            items=batch_size,
            flops=batch_size * work.training_flops(model, plan.tile_size),
        )
        contenders = [ours(batch_size, precision) for precision in plan.precisions]
        contenders += _peers(plan, model, params, batch_size, optimizer=rule)
        yield measuring.measure(case, contenders, plan.effort, peaks=peaks)


def largest_batch(build: Callable[[int, str], Contender]) -> int:
    """Returns how many tiles fit into the device, as a power of two.

    Projected from the memory of one and of two tiles in float32, which is that of a
    constant and a part for each tile. Beside it there must be room for the peer.

    Args:
      build: From a batch size and a precision to a contender that knows its memory.

    Raises:
      ValueError: If the device does not tell its memory, as a CPU.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        raise ValueError(
            "batch size 0 needs a device that tells how much memory it has; name one."
        )
    one, two = (build(n, "float32").memory or 0 for n in (1, 2))
    return fitting(one, two, int(_OUR_PART * stats["bytes_limit"]))


def fitting(one: int, two: int, budget: int) -> int:
    """Returns the largest power of two of tiles that `budget` bytes hold, at least 1.

    Args:
      one: Bytes of a batch of one tile.
      two: Bytes of a batch of two tiles.
      budget: Bytes that there are.

    Example:
      >>> fitting(3, 5, 40), fitting(3, 5, 33), fitting(3, 5, 2)
      (16, 16, 1)
    """
    slope = max(two - one, 1)
    count = max((budget - (one - slope)) // slope, 1)
    return 2 ** (count.bit_length() - 1)


def synthetic_batch(
    model: UNet, tile_size: int, batch_size: int
) -> dict[str, np.ndarray]:
    """Returns a batch drawn from a fixed seed; the weights are between 1 and 10."""
    rng = np.random.default_rng(0)
    side = model.geometry.output_size(tile_size)
    shape = (batch_size, side, side)
    image = rng.standard_normal((batch_size, tile_size, tile_size, 1))
    return {
        "image": image.astype(np.float32),
        "label": rng.integers(0, model.num_classes, shape, dtype=np.int32),
        "weight": rng.uniform(1, 10, shape).astype(np.float32),
    }


def initial_params(model: UNet, tile_size: int) -> PyTree:
    """Returns the initial parameters of a seed."""

    def make(key: jax.Array) -> PyTree:
        image = jnp.zeros((1, tile_size, tile_size, 1))
        return model.init(key, image, train=False)["params"]

    return jax.jit(make)(jax.random.key(0))


def our_forward(
    model: UNet, params: PyTree, tile_size: int, batch_size: int, precision: str
) -> Contender:
    """Returns the forward pass, compiled."""
    model = model.clone(dtype=precision)

    def logits(params: PyTree, image: jax.Array) -> jax.Array:
        return forward(model, params, {}, image)[0]

    tiles = jnp.asarray(synthetic_batch(model, tile_size, batch_size)["image"])
    compiled, compile_seconds = compile_ahead(jax.jit(logits), params, tiles)

    def run(n: int) -> object:
        return jax.block_until_ready([compiled(params, tiles) for _ in range(n)])

    return Contender(OURS, run, precision, compile_seconds, memory_of(compiled))


def our_training(
    model: UNet, optimizer: str, tile_size: int, batch_size: int, precision: str
) -> Contender:
    """Returns the training step that runs use, compiled; the state is donated."""
    model = model.clone(dtype=precision)
    settings = OptimizerSettings(
        name="adam" if optimizer == "adam" else "sgd", learning_rate=_LEARNING_RATE
    )
    rule = build_optimizer(settings, 1)
    tile = jnp.zeros((1, tile_size, tile_size, 1))
    make = jax.jit(lambda key: init_state(model, rule, key, tile))
    state: TrainState = make(jax.random.key(0))
    batch = synthetic_batch(model, tile_size, batch_size)
    arrays, key = jax.tree.map(jnp.asarray, batch), jax.random.key(1)
    step = jax.jit(
        functools.partial(train_step, model=model, optimizer=rule), donate_argnums=0
    )
    compiled, compile_seconds = compile_ahead(step, state, arrays, key)

    def run(n: int) -> object:
        nonlocal state
        metrics = None
        for _ in range(n):
            state, metrics = compiled(state, arrays, key)
        return jax.block_until_ready((state, metrics))

    return Contender(OURS, run, precision, compile_seconds, memory_of(compiled))


def memory_of(compiled: Compiled) -> int | None:
    """Returns the bytes that a compiled program needs at most, arguments included."""
    stats = compiled.memory_analysis()
    if stats is None:
        return None
    return (
        stats.argument_size_in_bytes
        + stats.output_size_in_bytes
        + stats.temp_size_in_bytes
        - stats.alias_size_in_bytes
    )


def compile_ahead(function: Wrapped, *arguments: PyTree) -> tuple[Compiled, float]:
    """Returns the compiled function, and how long that took, without tracing."""
    lowered = function.lower(*arguments)
    start = time.perf_counter()
    compiled = lowered.compile()
    return compiled, time.perf_counter() - start


def _peers(
    plan: Plan, model: UNet, params: PyTree, batch_size: int, *, optimizer: str
) -> list[Contender]:
    """The same work in PyTorch, eager and compiled, each with its own network.

    Args:
      plan: Sizes.
      model: The network.
      params: Its parameters.
      batch_size: Number of tiles.
      optimizer: Rule of the training step; "" for a forward pass.
    """
    peer = machine.torch_unet()
    batch = synthetic_batch(model, plan.tile_size, batch_size)
    found = []
    for compiled, precision in itertools.product(
        (False, True) if plan.compiled else (False,), plan.precisions
    ):
        name = "PyTorch compiled" if compiled else "PyTorch"
        if peer is None:
            found.append(machine.absent(name, precision, machine.NO_TORCH))
            continue
        how = {"precision": precision, "compiled": compiled}
        try:
            where = peer.device(jax.default_backend())
            net = peer.from_flax(model, params, device=where)
            run = (
                peer.training(net, batch, optimizer=optimizer, **how)
                if optimizer
                else peer.prediction(net, batch["image"], **how)
            )
            first = measuring.seconds(run)
            peak = None
            if plan.watch_memory and not compiled:
                peak = memory.peak_of_torch(
                    memory.Work(
                        model.features,
                        model.depth,
                        plan.tile_size,
                        batch["label"].shape[1],
                        batch_size,
                        precision,
                        optimizer,
                        where,
                        machine.num_threads(),
                    )
                )
        except (ValueError, RuntimeError) as error:
            found.append(machine.absent(name, precision, str(error).partition("\n")[0]))
            continue
        found.append(Contender(name, run, precision, first, peak))
    return found


def sizes(plan: Plan, features: int, batch_size: int) -> str:
    """Returns the size of a step in words."""
    return f"base {features}, {plan.tile_size} pixels, batch {batch_size}"
