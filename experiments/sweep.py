"""Runs an experiment in variants; run the same command again to resume, or to help.

  python -m experiments.sweep --config=ml_collections_configs/isbi2012.py
      --workdir=runs/sweep --grid="optimizer.learning_rate=1e-4,1e-3" --seeds=3

Without --grid, --seeds, --folds and --search, the trials are those that `sweep()` of
the config file lists; --listed adds them to the others. Every trial is a run folder in
--workdir, beside table.csv, report.html and the best model in best/. Start the command
once per device: workers share the trials, and take over those of workers that died.

  --search="optimizer.learning_rate=1e-5..1e-2:log" --trials=20

searches with Optuna instead, and stops trials that are worse than the median.

--launcher=ray runs the trials as tasks of a Ray cluster; --launcher=print prints one
command for each of them, for a job array of SLURM or any other scheduler.
"""

import pathlib
import shlex
from collections.abc import Sequence

from unetjax import signals
from unetjax.cli.command import ArgumentParser
from unetjax.reporting import console
from unetjax.reporting.report import Table
from unetjax.settings import check_range
from unetjax.sweeps import ray_tasks, search, trials, workers
from unetjax.sweeps.workers import Sweep
from unetjax.training.config import Overrides

from . import launch as launching
from .launch import Invocation, launch

_LEAST = {"seeds": 0, "folds": 0, "side_by_side": 1, "trials": 1}


def make_parser() -> ArgumentParser:
    """Returns the parser of the command line."""
    parser = launching.make_parser("sweep", __doc__)
    parser.add_argument(
        "--workdir", required=True, type=pathlib.Path, help="folder of the sweep"
    )
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="OPTION=VALUE,VALUE",
        help="values of an option; several options make every combination",
    )
    parser.add_argument("--seeds", type=int, default=0, help="number of seeds")
    parser.add_argument(
        "--folds", type=int, default=0, help="number of folds of a cross-validation"
    )
    parser.add_argument(
        "--listed", action="store_true", help="also vary as sweep() of the file does"
    )
    parser.add_argument(
        "--side_by_side",
        type=int,
        default=1,
        metavar="N",
        help="train up to N trials that differ in seed or learning rate in one "
        "compiled program, for small networks on a GPU; on a CPU, one by one is faster",
    )
    parser.add_argument(
        "--search",
        action="append",
        default=[],
        metavar="OPTION=LOW..HIGH[:log]",
        help="range to search, with :log on a logarithmic scale, or OPTION=A,B",
    )
    parser.add_argument(
        "--trials", type=int, default=20, help="trials of --search in all (default 20)"
    )
    parser.add_argument(
        "--launcher",
        choices=("local", "print", "ray"),
        default="local",
        help="where trials run: in this process (local), nowhere, their commands being "
        "printed (print), or on a Ray cluster (ray)",
    )
    parser.add_argument(
        "--trial",
        type=int,
        metavar="N",
        help="run only this one of the trials, counted from 0 as --launcher=print does",
    )
    parser.add_argument(
        "--cpus", type=float, default=1.0, help="cores of each trial on Ray (default 1)"
    )
    parser.add_argument(
        "--gpus", type=float, default=0.0, help="GPUs of each trial on Ray (default 0)"
    )
    return parser


def run(invocation: Invocation) -> None:
    """Runs all trials and prints their table."""
    options, train = invocation.options, ["python", "-m", f"{__package__}.train"]
    for name, least in _LEAST.items():
        check_range(f"--{name}", getattr(options, name), at_least=least)
    sweep = Sweep(
        folder=options.workdir,
        base=invocation.config,
        command=[*train, f"--config={invocation.file}", *invocation.overrides],
        origin=["python", "-m", f"{__package__}.sweep", *invocation.argv],
    )
    if options.launcher != "local" and options.side_by_side > 1:
        raise ValueError(
            "--side_by_side trains several trials in one process; leave it out with "
            f"--launcher={options.launcher}."
        )
    varied = bool(options.grid or options.seeds or options.folds)
    if options.search:
        if varied or options.listed:
            raise ValueError(
                "--search chooses the trials itself; leave out --grid, --seeds, "
                "--folds and --listed."
            )
        if options.launcher != "local" or options.trial is not None:
            raise ValueError(
                "--search chooses trials by the results of others, so it has no list "
                "of them; start the command once per device instead."
            )
        space = search.parse_space(options.search)
        source = search.Search(sweep, space, num_trials=options.trials)
    else:
        expanded = trials.expand(
            invocation.config,
            listed=[] if varied and not options.listed else _listed(invocation.file),
            grid=[trials.parse_grid(text) for text in options.grid],
            seeds=options.seeds,
            folds=options.folds,
        )
        if options.trial is not None:
            if not 0 <= options.trial < len(expanded):
                raise ValueError(
                    f"--trial must be from 0 to {len(expanded) - 1}, got "
                    f"{options.trial}."
                )
            expanded = [expanded[options.trial]]
        elif options.launcher == "print":
            for number in range(len(expanded)):
                print(_command_of(invocation.argv, number))
            return
        if options.launcher == "ray":
            table = ray_tasks.run(sweep, expanded, cpus=options.cpus, gpus=options.gpus)
            _show(sweep, table)
            return
        source = workers.Listed(sweep, expanded, at_once=options.side_by_side)
    _show(sweep, workers.run(sweep, source))


def _show(sweep: Sweep, table: Table) -> None:
    print(console.table(table.rows, table.columns))
    print(f"report: {sweep.folder}/report.html  best model: {sweep.folder}/best")


def _command_of(argv: Sequence[str], number: int) -> str:
    """Returns the command that runs one trial of a sweep with these arguments."""
    args = [arg for arg in argv if arg != "--launcher=print"]
    if "--launcher" in args:
        at = args.index("--launcher")
        del args[at : at + 2]
    words = ["python", "-m", f"{__package__}.sweep", *args, f"--trial={number}"]
    return shlex.join(words)


def _listed(file: str) -> list[Overrides]:
    """Returns what `sweep()` of the config file yields."""
    path = file.partition(":")[0]
    namespace = launching.run_file(path)
    if "sweep" not in namespace:
        raise ValueError(
            f"{path} has no function sweep; say what to vary with --grid, --seeds, "
            "--folds or --search."
        )
    return list(namespace["sweep"]())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the launcher and returns its exit status, see `launch`."""
    return launch(run, make_parser(), argv)


if __name__ == "__main__":
    signals.exit_program(main())
