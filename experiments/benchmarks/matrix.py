"""The product of two square matrices, whose rate is called the peak."""

import functools
from collections.abc import Iterator, Sequence
from types import ModuleType

import jax.numpy as jnp

from . import contenders, measuring
from .measuring import OURS, Case, Contender, Row
from .plan import Plan


def products(plan: Plan) -> Iterator[list[Row]]:
    """Measures products of two square matrices."""
    size = plan.matrix_size
    case = Case("matrix", f"{size} x {size} product", flops=2 * size**3)
    found = []
    multiply = functools.partial(jnp.matmul, preferred_element_type="float32")
    for precision in plan.precisions:
        a = jnp.ones((size, size), precision)
        ours = contenders.of_function(OURS, multiply, a, a, precision=precision)
        found.append(ours._replace(compile_seconds=None, memory=None))

    def make(peer: ModuleType, where: str, precision: str) -> Contender:
        run = peer.matrix_product(size, precision, where=where)
        return Contender("PyTorch", run, precision)

    for precision in plan.precisions:
        build = functools.partial(make, precision=precision)
        found.append(contenders.of_torch("PyTorch", precision, build))
    yield measuring.measure(case, found, plan.effort)


def peaks(rows: Sequence[Row]) -> dict[str, float]:
    """Returns the operations per second of the fastest product, by precision."""
    found = dict[str, float]()
    for row in rows:
        if row.workload == "matrix" and row.tflops and row.fastest and row.median:
            rate = row.tflops * 1e12 * row.median / row.fastest
            found[row.precision] = max(rate, found.get(row.precision, 0.0))
    return found
