"""Trains an experiment; run the same command again to resume.

  python -m experiments.train --config=ml_collections_configs/smoke.py --workdir=runs/a
      --config.optimizer.learning_rate=1e-4

--config=FILE.py selects the experiment, --config.SECTION.OPTION=VALUE overrides any of
its options. --dry_run prints parameters, FLOPs, memory and time instead of training.
--largest=tile takes the largest tiles that fit into memory, --largest=batch the largest
batch.
"""

import argparse
import contextlib
import pathlib
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import get_args

from unetjax import signals
from unetjax.cli.command import ArgumentParser
from unetjax.data.splits import Split
from unetjax.devices import processes
from unetjax.training import cost, experiment, loop
from unetjax.training.config import ExperimentConfig
from unetjax.training.cost import Largest

from . import launch as launching
from .launch import Invocation, launch


def make_parser() -> ArgumentParser:
    """Returns the parser of the command line."""
    parser = launching.make_parser("train", __doc__)
    parser.add_argument("--workdir", metavar="FOLDER", help="run folder, new or old")
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="print what a training would take, and do nothing",
    )
    parser.add_argument(
        "--channels",
        type=int,
        default=1,
        help="channels of the images, for --dry_run (default 1)",
    )
    parser.add_argument(
        "--largest",
        choices=get_args(Largest),
        help="take the largest tile_size, or batch_size, whose step fits into memory",
    )
    shared = parser.add_argument_group(
        "several processes train together",
        "found by themselves under SLURM, Open MPI, Kubernetes (with jax[k8s]) and "
        "Cloud TPU; otherwise start the same command once for each, with:",
    )
    shared.add_argument(
        "--coordinator",
        default="auto",
        metavar="HOST:PORT",
        help="address of process 0; auto (default) asks the cluster, none trains alone",
    )
    shared.add_argument(
        "--num_processes", type=int, metavar="N", help="how many processes there are"
    )
    shared.add_argument(
        "--process_id", type=int, metavar="I", help="which of them this is, from 0"
    )
    return parser


def join(options: argparse.Namespace) -> AbstractContextManager[None]:
    """Joins the other processes of a training, see `devices.processes`."""
    if options.dry_run:
        return contextlib.nullcontext()
    return processes.joined(
        options.coordinator, options.num_processes, options.process_id
    )


def run(invocation: Invocation) -> None:
    """Trains, scores the best model, and writes the report."""
    config, options = invocation.config, invocation.options
    if options.dry_run:
        _describe(config, options.channels, options.largest)
        return
    if not processes.is_leader():
        loop.follow()
        return
    if options.workdir is None:
        raise ValueError("--workdir names no folder; try --workdir=runs/a.")
    split = _open(config)
    config = _fitted(config, split, options.largest)
    outcome = experiment.run(
        config,
        split,
        options.workdir,
        title=f"{pathlib.Path(options.workdir).name}: {len(split.train)} images, "
        f"{config.num_steps} steps",
        command=shlex.join(["python", "-m", f"{__package__}.train", *invocation.argv]),
    )
    print(outcome.text)
    print(f"model: {options.workdir}/model  report: {outcome.report}")


def _describe(config: ExperimentConfig, channels: int, largest: Largest | None) -> None:
    """Prints what the training would take; reads data only if tiles are chosen."""
    if largest is not None:
        split = _open(config)
        config = _fitted(config, split, largest)
        channels = split.train[0].image.shape[-1]
    print(cost.describe(config, channels=channels))


def _open(config: ExperimentConfig) -> Split:
    split = experiment.open_split(config)
    print(experiment.describe(split), flush=True)
    return split


def _fitted(
    config: ExperimentConfig, split: Split, largest: Largest | None
) -> ExperimentConfig:
    """Returns the experiment with the tiles that --largest asks for."""
    if largest is None:
        return config
    if processes.count() > 1:
        raise ValueError(
            "--largest measures one process; find the sizes with --dry_run, and set "
            "config.tile_size and config.batch_size."
        )
    config = cost.largest_that_fits(config, split.train, what=largest)
    print(
        f"tile_size {config.tile_size}, batch_size {config.batch_size}: the largest "
        f"{largest} whose step fits into memory",
        flush=True,
    )
    return config


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the launcher and returns its exit status, see `launch`."""
    return launch(run, make_parser(), argv, join=join)


if __name__ == "__main__":
    signals.exit_program(main())
