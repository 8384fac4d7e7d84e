"""The machine that is measured: what it is, and how busy it is."""

import importlib.metadata
import os
import pathlib
import platform

import jax

from unetjax.reporting import environment


def num_threads() -> int:
    """Returns how many cores this process may use: the threads of every contender."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> str:
    """Returns how many processes ran or waited in the last 1, 5 and 15 minutes."""
    if not hasattr(os, "getloadavg"):
        return "unknown"
    return ", ".join(f"{average:.2f}" for average in os.getloadavg())


def busy() -> str:
    """Returns a warning if other processes use the machine; "" if not."""
    if not hasattr(os, "getloadavg") or os.getloadavg()[0] < num_threads() / 2:
        return ""
    return (
        f"the load is {load()} on {num_threads()} cores: times are not those of a "
        "quiet machine, and PyTorch, whose threads wait for each other, suffers most."
    )


def describe() -> dict[str, str]:
    """Returns what the figures may depend on, by name."""
    # Names CUDA and cuDNN where there are any.
    version = str(jax.devices()[0].client.platform_version).replace("\n", " ")
    return environment.environment() | {
        "platform": f"{jax.default_backend()}, {version}",
        "processor": f"{_processor()}, {num_threads()} threads",
        "PyTorch": _version("torch"),
        "OpenVINO": _version("openvino"),
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", "not set"),
    }


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [x.partition(":")[2].strip() for x in lines if x.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
