"""Runs an experiment in variants; the same command again goes on, or helps another one.

  python -m experiments.sweep --config=ml_collections_configs/isbi2012.py
      --workdir=runs/sweep --grid="optimizer.learning_rate=1e-4,1e-3" --seeds=3

Without --grid, --seeds, --folds and --search it runs what `sweep()` of the config file
lists; --listed adds that to them. Every trial is a run folder in --workdir, beside
table.csv, report.html and the model of the best trial in best/. Start the command as
often as there are devices: workers share the trials, and take over those of dead ones.

  --search="optimizer.learning_rate=1e-5..1e-2:log" --trials=20

searches by Optuna instead, and gives up trials that are worse than the median.
"""

import pathlib
import runpy
import sys

from absl import flags

from experiments import launch
from unetjax.reporting import console
from unetjax.sweeps import search, trials, workers
from unetjax.sweeps.workers import Sweep
from unetjax.training.config import ExperimentConfig

WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the sweep, new or to go on with.", required=True
)
GRID = flags.DEFINE_multi_string(
    "grid", [], "OPTION=VALUE,VALUE; several make every combination."
)
SEEDS = flags.DEFINE_integer("seeds", 0, "Number of seeds.", lower_bound=0)
FOLDS = flags.DEFINE_integer(
    "folds", 0, "Number of folds of a cross-validation.", lower_bound=0
)
LISTED = flags.DEFINE_bool("listed", False, "Also vary as sweep() of the file does.")
AT_ONCE = flags.DEFINE_integer(
    "side_by_side",
    1,
    "How many trials that differ in seed or learning rate to train in one program: for "
    "small networks on a GPU; on a CPU one by one is faster.",
    lower_bound=1,
)
SEARCH = flags.DEFINE_multi_string(
    "search", [], "OPTION=LOW..HIGH, with :log for equal factors, or OPTION=A,B."
)
TRIALS = flags.DEFINE_integer("trials", 20, "Of --search, in all.", lower_bound=1)


def main(config: ExperimentConfig) -> None:
    """Runs all trials and prints their table."""
    file, overrides, _ = launch.split_words(sys.argv)
    sweep = Sweep(
        folder=pathlib.Path(WORKDIR.value),
        base=config,
        command=["python", "-m", "experiments.train", f"--config={file}", *overrides],
        origin=["python", "-m", "experiments.sweep", *sys.argv[1:]],
    )
    varied = bool(GRID.value or SEEDS.value or FOLDS.value)
    if SEARCH.value:
        if varied or LISTED.value:
            raise ValueError(
                "--search chooses the trials itself; leave --grid, --seeds, --folds "
                "and --listed out."
            )
        space = search.parse_space(SEARCH.value)
        source = search.Search(sweep, space, num_trials=TRIALS.value)
    else:
        expanded = trials.expand(
            config,
            listed=[] if varied and not LISTED.value else _listed(file),
            grid=[trials.parse_grid(words) for words in GRID.value],
            seeds=SEEDS.value,
            folds=FOLDS.value,
        )
        source = workers.Listed(sweep, expanded, at_once=AT_ONCE.value)
    table = workers.run(sweep, source)
    print(console.table(table.rows, table.columns))
    print(f"report: {sweep.folder}/report.html  best model: {sweep.folder}/best")


def _listed(file: str) -> list[trials.Overrides]:
    """What `sweep()` of the config file yields."""
    path = file.partition(":")[0]
    namespace = runpy.run_path(path)
    if "sweep" not in namespace:
        raise ValueError(
            f"{path} has no function sweep; say what to vary by --grid, --seeds, "
            "--folds or --search."
        )
    return list(namespace["sweep"]())


if __name__ == "__main__":
    launch.launch(main)
