"""The machine that is measured: what it is, how busy it is, how fast it multiplies."""

import functools
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

import jax
import jax.numpy as jnp

from experiments.benchmarks import measuring
from experiments.benchmarks.measuring import Case, Contender, Row
from experiments.benchmarks.plan import Plan
from unetjax.reporting import environment


def num_threads() -> int:
    """Returns how many cores this process may use: the threads of both sides."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> str:
    """Returns how many processes ran or waited in the last 1, 5 and 15 minutes."""
    if not hasattr(os, "getloadavg"):
        return "unknown"
    return ", ".join(f"{average:.2f}" for average in os.getloadavg())


def busy() -> str:
    """Returns a warning if others use the machine; "" if not."""
    if not hasattr(os, "getloadavg") or os.getloadavg()[0] < num_threads() / 2:
        return ""
    return (
        f"the load is {load()} on {num_threads()} cores: times are not those of a "
        "quiet machine, and peers whose threads wait for each other suffer most."
    )


def describe() -> dict[str, str]:
    """Returns what the figures may depend on, by name."""
    return environment.environment() | {
        "platform": f"{jax.default_backend()}, {_platform_version()}",
        "processor": f"{_processor()}, {num_threads()} threads",
        "PyTorch": _version("torch"),
        "OpenVINO": _version("openvino"),
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", "not set"),
    }


def torch_unet() -> ModuleType | None:
    """Returns the peer in PyTorch, ready to be measured; None where it is absent."""
    try:
        from experiments.benchmarks import torch_unet
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return None
    torch_unet.prepare(num_threads())
    return torch_unet


def absent(name: str, precision: str, reason: str) -> Contender:
    """Returns a contender that is not there, and says why."""
    return Contender(name, None, precision, note=reason)


NO_TORCH = "not installed; the extra `benchmark` brings it"


def matrix_products(plan: Plan) -> Iterator[list[Row]]:
    """Measures products of two square matrices: what is called the peak."""
    size = plan.matrix_size
    case = Case("matrix", f"{size} x {size} product", flops=2 * size**3)
    contenders = [
        Contender(measuring.OURS, _product(size, precision), precision)
        for precision in plan.precisions
    ]
    peer = torch_unet()
    for precision in plan.precisions:
        if peer is None:
            contenders.append(absent("PyTorch", precision, NO_TORCH))
            continue
        try:
            where = peer.device(jax.default_backend())
        except ValueError as error:
            contenders.append(absent("PyTorch", precision, str(error)))
            continue
        run = peer.matrix_product(size, precision, where=where)
        contenders.append(Contender("PyTorch", run, precision))
    yield measuring.measure(case, contenders, plan.effort)


def peaks(rows: Sequence[Row]) -> dict[str, float]:
    """Returns the operations a second of the fastest product, by precision."""
    found = dict[str, float]()
    for row in rows:
        if row.workload == "matrix" and row.tflops and row.fastest and row.median:
            rate = row.tflops * 1e12 * row.median / row.fastest
            found[row.precision] = max(rate, found.get(row.precision, 0.0))
    return found


def _product(size: int, precision: str) -> Callable[[int], object]:
    a = jnp.ones((size, size), precision)
    multiply = jax.jit(functools.partial(jnp.matmul, preferred_element_type="float32"))

    def run(n: int) -> object:
        return jax.block_until_ready([multiply(a, a) for _ in range(n)])

    return run


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [x.partition(":")[2].strip() for x in lines if x.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _platform_version() -> str:
    """CUDA and cuDNN, where the backend names them."""
    backend = jax.devices()[0].client
    return str(backend.platform_version).replace("\n", " ")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
