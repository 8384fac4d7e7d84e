"""Contenders of each kind: compiled by JAX, on the host, and in PyTorch."""

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
from jax.stages import Compiled, Wrapped
from jaxtyping import PyTree

from unetjax.devices import memory

from . import machine
from .measuring import Contender


def of_function(
    name: str,
    function: Callable[..., PyTree],
    *arguments: PyTree,
    precision: str = "",
    note: str = "",
) -> Contender:
    """Returns a contender that calls a function on arguments that never change.

    Args:
      name: Name of the contender.
      function: A function that JAX can compile.
      *arguments: Its arguments.
      precision: See `Contender`, as is `note`.
      note: What a reader must know.
    """
    compiled, seconds = _compile(jax.jit(function), *arguments)

    def run(n: int) -> object:
        return jax.block_until_ready([compiled(*arguments) for _ in range(n)])

    return Contender(name, run, precision, seconds, _num_bytes(compiled), note)


def of_update(
    name: str,
    update: Callable[..., tuple[PyTree, PyTree]],
    state: PyTree,
    *arguments: PyTree,
    precision: str,
) -> Contender:
    """Returns a contender that updates a state, whose memory is donated.

    Args:
      name: Name of the contender.
      update: From a state and `arguments` to the next state and the metrics.
      state: The first state.
      *arguments: Arguments that never change.
      precision: See `Contender`.
    """
    step = jax.jit(update, donate_argnums=0)
    compiled, seconds = _compile(step, state, *arguments)

    def run(n: int) -> object:
        nonlocal state
        metrics = None
        for _ in range(n):
            state, metrics = compiled(state, *arguments)
        return jax.block_until_ready((state, metrics))

    return Contender(name, run, precision, seconds, _num_bytes(compiled))


def of_torch(
    name: str, precision: str, make: Callable[[ModuleType, str], Contender]
) -> Contender:
    """Returns the contender in PyTorch, or one that says why it is absent.

    Args:
      name: Name of the contender.
      precision: In which numbers it computes.
      make: From the module `torch_unet` and a device of PyTorch to the contender.
    """
    try:
        from . import torch_unet
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        note = "not installed; the extra `benchmark` brings it"
        return Contender(name, None, precision, note=note)
    torch_unet.prepare(machine.num_threads())
    try:
        return make(torch_unet, torch_unet.device(jax.default_backend()))
    except (ValueError, RuntimeError) as error:
        return Contender(name, None, precision, note=str(error).partition("\n")[0])


def repeat(work: Callable[[], Any]) -> Callable[[int], object]:
    """Returns a function that does some work on the host n times."""
    return lambda n: [work() for _ in range(n)]


def _compile(function: Wrapped, *arguments: PyTree) -> tuple[Compiled, float]:
    """The compiled function, and the seconds of the compiler, without tracing."""
    lowered = function.lower(*arguments)
    start = time.perf_counter()
    compiled = lowered.compile()
    return compiled, time.perf_counter() - start


def _num_bytes(compiled: Compiled) -> int | None:
    plan = memory.memory_of(compiled)
    return None if plan is None else plan.total
