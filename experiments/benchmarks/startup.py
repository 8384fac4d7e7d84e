"""From a command to its first result, in fresh interpreters."""

import functools
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping

from experiments.benchmarks import measuring
from experiments.benchmarks.measuring import OURS, Case, Contender, Row
from experiments.benchmarks.plan import Plan

_ROOT = pathlib.Path(__file__).parents[2]
_FIRST_STEP = "training:"  # begins the line that a first step prints


def starts(plan: Plan, _: dict[str, float]) -> Iterator[list[Row]]:
    """Measures imports, and training commands up to their first step."""
    case = Case("startup", "import of all public names, in a fresh interpreter")
    contenders = [
        Contender(name, functools.partial(_import, words), precision="")
        for name, words in (
            (OURS, "from unetjax import *"),
            ("jax alone", "import jax"),
        )
    ]
    yield measuring.measure(case, contenders, plan.effort)

    words = [
        "--config=ml_collections_configs/smoke.py",
        *(f"--config.{name}={value}" for name, value in plan.first_run.items()),
    ]
    shape = ", ".join(f"{name} {value}" for name, value in plan.first_run.items())
    case = Case("startup", f"experiments.train to its first step, {shape}")
    with tempfile.TemporaryDirectory() as kept:
        contenders = [
            Contender(
                OURS,
                functools.partial(_steps, words, lambda: kept),
                precision="",
                note="again: compiled programs are kept",
            ),
            Contender(
                "unetjax, the first time",
                functools.partial(_steps, words, None),
                precision="",
                note="nothing compiled before",
            ),
        ]
        yield measuring.measure(case, contenders, plan.effort._replace(seconds=0.0))


def first_step(words: list[str], cache: str) -> None:
    """Starts a training, waits for its first step, and ends it.

    Args:
      words: Options of `experiments.train`, without the run folder.
      cache: Folder of the caches of programs, such as compiled ones.

    Raises:
      RuntimeError: If the training ends before.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.train", *words]
        with subprocess.Popen(
            [*command, f"--workdir={folder}/run"],
            cwd=_ROOT,
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


def _steps(words: list[str], keep: Callable[[], str] | None, n: int) -> None:
    for _ in range(n):
        if keep is not None:
            first_step(words, keep())
            continue
        with tempfile.TemporaryDirectory() as fresh:
            first_step(words, fresh)


def _import(words: str, n: int) -> None:
    for _ in range(n):
        subprocess.run([sys.executable, "-c", words], check=True)


def _environment(cache: str) -> Mapping[str, str]:
    """Compiled programs are kept where a user's are, in another home."""
    named = "JAX_COMPILATION_CACHE_DIR"
    others = {name: value for name, value in os.environ.items() if name != named}
    return others | {"XDG_CACHE_HOME": cache}
