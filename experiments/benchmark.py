"""Measures unetjax beside what else could be used, side by side in one process.

  export GLIBC_TUNABLES=glibc.malloc.hugetlb=1  # large pages of memory
  python -m experiments.benchmark --out=runs/benchmark
  python -m experiments.benchmark --quick --only=train,forward

Prints medians, quartiles and ratios, and writes `benchmark.json`, `benchmark.md` and
`benchmark.html` into the folder. See docs/benchmarks.md for how it is measured.
"""

import os
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence

import jax
from absl import app, flags, logging

from experiments.benchmarks import (
    augmentation,
    data,
    machine,
    network,
    plan,
    prediction,
    rewrites,
    startup,
    table,
    weight_maps,
)
from experiments.benchmarks.measuring import Row
from experiments.benchmarks.plan import Plan
from unetjax.devices import runtime

Peaks = dict[str, float]

WORKLOADS: dict[str, Callable[[Plan, Peaks], Iterator[list[Row]]]] = {
    "forward": network.forward_passes,
    "train": network.training_steps,
    "predict": prediction.predictions,
    "weight_map": weight_maps.weight_maps,
    "augment": augmentation.augmentations,
    "data": data.steps_with_data,
    "rewrites": rewrites.rewrites,
    "startup": startup.starts,
}

ONLY = flags.DEFINE_list(
    "only", list(WORKLOADS), f"Which workloads: {', '.join(WORKLOADS)}."
)
QUICK = flags.DEFINE_bool("quick", False, "Smaller sizes, fewer rounds.")
FULL = flags.DEFINE_bool("full", False, "Everything, more rounds.")
ROUNDS = flags.DEFINE_integer("rounds", None, "Rounds at least.", lower_bound=1)
IMAGES = flags.DEFINE_list(
    "images",
    None,
    "Images to predict: features of the network x side in pixels, 16x512.",
)
OUT = flags.DEFINE_string("out", None, "Folder of the results, which has none yet.")


def run(chosen: Plan, only: Sequence[str]) -> list[Row]:
    """Measures workloads, and prints the rows of every case as it is done.

    Args:
      chosen: Sizes.
      only: Names of workloads.

    Raises:
      ValueError: If a name is unknown.
    """
    unknown = sorted(set(only) - set(WORKLOADS))
    if unknown:
        raise ValueError(
            f"--only has no workload {unknown[0]!r}; accepted are "
            f"{', '.join(WORKLOADS)}."
        )
    rows = list[Row]()
    for group in machine.matrix_products(chosen):
        rows += _show(group)
    peaks = machine.peaks(rows)
    for name in only:
        for group in WORKLOADS[name](chosen, peaks):
            rows += _show(group)
    return rows


def choose(
    quick: bool,
    full: bool,
    *,
    rounds: int | None = None,
    images: Sequence[str] | None = None,
) -> Plan:
    """Returns the sizes for this device.

    Args:
      quick: Whether they are small.
      full: Whether they are all.
      rounds: Rounds at least, instead of the plan's.
      images: Of predictions, such as `16x512`, instead of the plan's.

    Raises:
      ValueError: If both are wanted, or an image is not understood.
    """
    if quick and full:
        raise ValueError("--quick and --full exclude each other; give one of them.")
    chosen = plan.QUICK if quick else plan.FULL if full else plan.DEFAULT
    if jax.default_backend() != "cpu":
        chosen = plan.on_accelerator(chosen)
    if rounds is not None:
        chosen = chosen._replace(effort=chosen.effort._replace(rounds=rounds))
    if images is not None:
        chosen = chosen._replace(images=tuple(_image(words) for words in images))
    return chosen


def _image(words: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", words)
    if found is None:
        raise ValueError(
            f"--images has {words!r}; accepted is the number of features of the "
            "network and the side of the image in pixels, such as 16x512."
        )
    return int(found[1]), int(found[2])


def _show(rows: list[Row]) -> list[Row]:
    print(table.text(rows), end="\n\n", flush=True)
    return rows


def _main() -> None:
    out = pathlib.Path(OUT.value) if OUT.value else None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for path in table.files(out):
            if path.exists():
                raise FileExistsError(f"{path} exists already; name another folder.")
    warning = machine.busy()
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    chosen = choose(QUICK.value, FULL.value, rounds=ROUNDS.value, images=IMAGES.value)
    facts = machine.describe() | {"load at the start": machine.load()}
    rows = run(chosen, ONLY.value)
    facts |= {"load at the end": machine.load()}
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    if out is not None:
        command = shlex.join(["python", "-m", "experiments.benchmark", *sys.argv[1:]])
        for path in table.write(out, rows, facts, command):
            print(path)


def main(_: Sequence[str]) -> None:
    """Runs the command; what the user can mend is one sentence and exit code 2."""
    logging.set_verbosity(logging.ERROR)  # JAX reports every backend it looks for
    try:
        _main()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    runtime.set_compiler_flags()
    jax.config.update("jax_enable_compilation_cache", False)  # compiling is timed
    # PyTorch must find room on the GPU beside JAX.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    app.run(main)
