"""From a command to its first result, in fresh interpreters."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping

from . import contenders, measuring
from .measuring import OURS, Case, Contender, Row
from .plan import Plan

_TRAIN = f"{__name__.partition('.benchmarks')[0]}.train"
_FIRST_STEP = "training:"  # how the line begins that follows the first step


def starts(plan: Plan, _: dict[str, float]) -> Iterator[list[Row]]:
    """Measures imports, and training commands up to their first step."""
    case = Case("startup", "import of all public names, in a fresh interpreter")
    found = [
        _contender(OURS, lambda: _import("from unetjax import *")),
        _contender("jax alone", lambda: _import("import jax")),
    ]
    yield measuring.measure(case, found, plan.effort)

    args = [
        "--config=ml_collections_configs/smoke.py",
        *(f"--config.{name}={value}" for name, value in plan.first_run.items()),
    ]
    shape = ", ".join(f"{name} {value}" for name, value in plan.first_run.items())
    case = Case("startup", f"experiments.train to its first step, {shape}")

    def without_cache() -> None:
        with tempfile.TemporaryDirectory() as fresh:
            first_step(args, fresh)

    with tempfile.TemporaryDirectory() as kept:
        found = [
            _contender(
                OURS,
                lambda: first_step(args, kept),
                note="again: compiled programs are kept",
            ),
            _contender(
                "unetjax, the first time",
                without_cache,
                note="nothing compiled before",
            ),
        ]
        yield measuring.measure(case, found, plan.effort._replace(seconds=0.0))


def first_step(args: list[str], cache: str) -> None:
    """Starts a training, waits for its first step, and ends it.

    Args:
      args: Options of `experiments.train`, without the run folder.
      cache: Folder for caches, such as that of compiled programs.

    Raises:
      RuntimeError: If the training ends before that.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", _TRAIN, *args]
        with subprocess.Popen(
            [*command, f"--workdir={folder}/run"],
            env=_environment(cache),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            seen = any(line.startswith(_FIRST_STEP) for line in process.stdout)
            process.kill()
            if not seen:
                raise RuntimeError(f"training did not start: {process.stderr.read()}")


def _contender(name: str, work: Callable[[], None], note: str = "") -> Contender:
    return Contender(name, contenders.repeat(work), precision="", note=note)


def _import(statement: str) -> None:
    subprocess.run([sys.executable, "-c", statement], check=True)


def _environment(cache: str) -> Mapping[str, str]:
    """The environment of a user whose cache folder is another one."""
    named = "JAX_COMPILATION_CACHE_DIR"
    others = {name: value for name, value in os.environ.items() if name != named}
    return others | {"XDG_CACHE_HOME": cache}
