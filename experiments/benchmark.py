"""Measures unetjax and its alternatives, interleaved in one process.

  export GLIBC_TUNABLES=glibc.malloc.hugetlb=1  # large pages of memory
  python -m experiments.benchmark --out=runs/benchmark
  python -m experiments.benchmark --quick --only=train,forward

Prints medians, quartiles and ratios, and writes `benchmark.json`, `benchmark.md` and
`benchmark.html` into the folder. See docs/benchmarks.md for how it is measured.
"""

import argparse
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence

import jax

from unetjax import signals
from unetjax.cli.command import ArgumentParser, parse_args, run_command
from unetjax.devices import runtime
from unetjax.suggestions import suggest

from .benchmarks import (
    augmentation,
    data,
    machine,
    matrix,
    network,
    plan,
    prediction,
    rewrites,
    startup,
    table,
    weight_maps,
)
from .benchmarks.measuring import Row
from .benchmarks.plan import Plan

Peaks = dict[str, float]

WORKLOADS: dict[str, Callable[[Plan, Peaks], Iterator[list[Row]]]] = {
    "forward": network.forward_passes,
    "train": network.training_steps,
    "predict": prediction.predictions,
    "weight_map": weight_maps.weight_maps,
    "augment": augmentation.augmentations,
    "data": data.steps_with_data,
    "targets": data.steps_with_targets,
    "rewrites": rewrites.rewrites,
    "startup": startup.starts,
}


def make_parser() -> ArgumentParser:
    """Returns the parser of the command line."""
    parser = ArgumentParser(
        prog=f"python -m {__package__}.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        type=_workloads,
        default=list(WORKLOADS),
        metavar="NAME,NAME",
        help=f"workloads: {', '.join(WORKLOADS)} (default all)",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    size.add_argument("--full", action="store_true", help="all sizes, more rounds")
    parser.add_argument("--rounds", type=int, help="least number of rounds")
    parser.add_argument(
        "--images",
        type=_images,
        metavar="FEATURESxSIDE",
        help="images to predict: features of the network x side in pixels, as 16x512",
    )
    parser.add_argument("--out", type=pathlib.Path, help="folder of the results, new")
    return parser


def run(chosen: Plan, only: Sequence[str]) -> list[Row]:
    """Measures workloads, and prints the rows of each case when it is done.

    Args:
      chosen: Sizes.
      only: Names of workloads.
    """
    rows = list[Row]()
    for group in matrix.products(chosen):
        rows += _show(group)
    peaks = matrix.peaks(rows)
    for name in only:
        for group in WORKLOADS[name](chosen, peaks):
            rows += _show(group)
    return rows


def choose(options: argparse.Namespace) -> Plan:
    """Returns the sizes that the options name, for this device."""
    chosen = (
        plan.QUICK if options.quick else plan.FULL if options.full else plan.DEFAULT
    )
    if jax.default_backend() != "cpu":
        chosen = plan.on_accelerator(chosen)
    if options.rounds is not None:
        effort = chosen.effort._replace(rounds=options.rounds)
        chosen = chosen._replace(effort=effort)
    return chosen._replace(images=options.images or chosen.images)


def _workloads(text: str) -> list[str]:
    """The names in a list separated by commas."""
    names = text.split(",")
    for name in names:
        if name not in WORKLOADS:
            raise argparse.ArgumentTypeError(
                f"there is no workload {name!r}; {suggest(name, WORKLOADS)}"
            )
    return names


def _images(text: str) -> tuple[tuple[int, int], ...]:
    """The widths and sides in a list separated by commas."""
    images = []
    for size in text.split(","):
        found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", size)
        if found is None:
            raise argparse.ArgumentTypeError(
                f"{size!r} is not the number of features of the network and the side "
                "of the image in pixels, such as 16x512"
            )
        images.append((int(found[1]), int(found[2])))
    return tuple(images)


def _show(rows: list[Row]) -> list[Row]:
    print(table.text(rows), end="\n\n", flush=True)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark and returns its exit status, see `run_command`."""
    given = list(sys.argv[1:] if argv is None else argv)

    def command() -> None:
        runtime.set_compiler_flags()
        # Compilation is timed, and PyTorch needs memory of the GPU as well.
        jax.config.update("jax_enable_compilation_cache", False)
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        _run(parse_args(make_parser(), given), given)

    return run_command(command)


def _run(options: argparse.Namespace, argv: Sequence[str]) -> None:
    out = options.out
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for path in table.files(out):
            if path.exists():
                raise FileExistsError(f"{path} exists already; name another folder.")
    warning = machine.busy()
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    chosen = choose(options)
    facts = machine.describe() | {"load at the start": machine.load()}
    rows = run(chosen, options.only)
    facts |= {"load at the end": machine.load()}
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    if out is not None:
        command = shlex.join(["python", "-m", f"{__package__}.benchmark", *argv])
        for path in table.write(out, rows, facts, command):
            print(path)


if __name__ == "__main__":
    signals.exit_program(main())
