"""The network alone, on a batch that never changes: forward pass and training step."""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Compiled, Wrapped
from jaxtyping import PyTree

from experiments.benchmarks import machine, measuring, work
from experiments.benchmarks.measuring import OURS, Case, Contender, Row
from experiments.benchmarks.plan import Plan
from unetjax import geometry
from unetjax.network.forward import forward
from unetjax.network.unet import UNet
from unetjax.training.optimizers import OptimizerSettings, build_optimizer
from unetjax.training.steps import TrainState, init_state, train_step

# Never so large that the weights run away: a step with NaN may take another time.
_LEARNING_RATE = 1e-4


def forward_passes(plan: Plan, peaks: dict[str, float]) -> Iterator[list[Row]]:
    """Measures one forward pass over a batch, logits on the device."""
    for features, batch_size in itertools.product(plan.features, plan.batch_sizes):
        model = UNet(features=features, depth=plan.depth)
        case = Case(
            "forward",
            _name(plan, features, batch_size),
            items=batch_size,
            flops=batch_size * work.forward_flops(model, plan.tile_size),
        )
        batch = synthetic_batch(model, plan.tile_size, batch_size)
        params = initial_params(model, plan.tile_size)
        contenders = [
            our_forward(model.clone(dtype=precision), params, batch["image"])
            for precision in plan.precisions
        ]
        contenders += _peers(
            plan,
            lambda peer, net, precision, compiled, image=batch["image"]: (
                peer.prediction(net, image, precision=precision, compiled=compiled)
            ),
            model,
            params,
        )
        yield measuring.measure(case, contenders, plan.effort, peaks=peaks)


def training_steps(plan: Plan, peaks: dict[str, float]) -> Iterator[list[Row]]:
    """Measures one update: forward, weighted loss, backward, optimizer."""
    for features, batch_size, rule in itertools.product(
        plan.features, plan.batch_sizes, plan.optimizers
    ):
        model = UNet(features=features, depth=plan.depth)
        case = Case(
            "train",
            f"{_name(plan, features, batch_size)}, {rule}",
            items=batch_size,
            flops=batch_size * work.training_flops(model, plan.tile_size),
        )
        batch = synthetic_batch(model, plan.tile_size, batch_size)
        params = initial_params(model, plan.tile_size)
        contenders = [
            our_training(model.clone(dtype=precision), batch, optimizer=rule)
            for precision in plan.precisions
        ]
        contenders += _peers(
            plan,
            lambda peer, net, precision, compiled, batch=batch, rule=rule: (
                peer.training(
                    net, batch, optimizer=rule, precision=precision, compiled=compiled
                )
            ),
            model,
            params,
        )
        yield measuring.measure(case, contenders, plan.effort, peaks=peaks)


def synthetic_batch(
    model: UNet, tile_size: int, batch_size: int
) -> dict[str, np.ndarray]:
    """Returns a batch drawn from a fixed seed; the weights are between 1 and 10."""
    rng = np.random.default_rng(0)
    side = geometry.output_size(tile_size, depth=model.depth, padding=model.padding)
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


def our_forward(model: UNet, params: PyTree, image: np.ndarray) -> Contender:
    """Returns the forward pass, compiled."""

    def logits(params: PyTree, image: jax.Array) -> jax.Array:
        return forward(model, params, {}, image)[0]

    tiles = jnp.asarray(image)
    compiled, compile_seconds = _compile(jax.jit(logits), params, tiles)

    def run(n: int) -> object:
        return jax.block_until_ready([compiled(params, tiles) for _ in range(n)])

    return Contender(
        OURS, run, str(model.dtype), compile_seconds, memory=memory_of(compiled)
    )


def our_training(
    model: UNet, batch: dict[str, np.ndarray], *, optimizer: str
) -> Contender:
    """Returns the training step that runs use, compiled; the state is donated."""
    settings = OptimizerSettings(
        name="adam" if optimizer == "adam" else "sgd", learning_rate=_LEARNING_RATE
    )
    rule = build_optimizer(settings, 1)
    tile = jnp.zeros((1, *batch["image"].shape[1:]))
    make = jax.jit(lambda key: init_state(model, rule, key, tile))
    state: TrainState = make(jax.random.key(0))
    arrays, key = jax.tree.map(jnp.asarray, batch), jax.random.key(1)
    step = jax.jit(
        functools.partial(train_step, model=model, optimizer=rule), donate_argnums=0
    )
    compiled, compile_seconds = _compile(step, state, arrays, key)

    def run(n: int) -> object:
        nonlocal state
        metrics = None
        for _ in range(n):
            state, metrics = compiled(state, arrays, key)
        return jax.block_until_ready((state, metrics))

    return Contender(
        OURS, run, str(model.dtype), compile_seconds, memory=memory_of(compiled)
    )


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


def _compile(function: Wrapped, *arguments: PyTree) -> tuple[Compiled, float]:
    """The compiled function, and how long the compiler took without tracing."""
    lowered = function.lower(*arguments)
    start = time.perf_counter()
    compiled = lowered.compile()
    return compiled, time.perf_counter() - start


def _peers(
    plan: Plan,
    build: Callable[[Any, Any, str, bool], Callable[[int], object]],
    model: UNet,
    params: PyTree,
) -> list[Contender]:
    """The same work in PyTorch, eager and compiled, each with its own network."""
    peer = machine.torch_unet()
    found = []
    for compiled, precision in itertools.product(
        (False, True) if plan.compiled else (False,), plan.precisions
    ):
        name = "PyTorch compiled" if compiled else "PyTorch"
        if peer is None:
            found.append(machine.absent(name, precision, machine.NO_TORCH))
            continue
        try:
            where = peer.device(jax.default_backend())
            net = peer.from_flax(model, params, device=where)
            run = build(peer, net, precision, compiled)
            first = measuring.seconds(run)
        except (ValueError, RuntimeError) as error:
            found.append(machine.absent(name, precision, str(error).partition("\n")[0]))
            continue
        found.append(Contender(name, run, precision, first))
    return found


def _name(plan: Plan, features: int, batch_size: int) -> str:
    return f"base {features}, {plan.tile_size} pixels, batch {batch_size}"
