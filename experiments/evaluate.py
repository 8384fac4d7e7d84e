"""Scores the best model of a run on the images that its config holds out.

python -m experiments.evaluate --config=ml_collections_configs/smoke.py --workdir=runs/a

With --scores=em those of the ISBI 2012 challenge (V_rand, V_info, warping error), with
--scores=tracking SEG, DET and OP_CSB of the Cell Tracking Challenge. --average and
--with as in experiments.predict. Where --workdir is the folder of a sweep, every
finished trial is scored, with mean and standard deviation over seeds.
"""

import pathlib

from absl import flags

from experiments import networks
from experiments.launch import launch
from unetjax.data import sources
from unetjax.data.splits import Split
from unetjax.reporting import console
from unetjax.reporting.report import Table
from unetjax.sweeps import results
from unetjax.training import score_sets
from unetjax.training.config import ExperimentConfig
from unetjax.training.score_sets import ScoreSet

SCORES = flags.DEFINE_enum(
    "scores", "cells", list(score_sets.SCORE_SETS), "Which family of scores."
)


def main(config: ExperimentConfig) -> None:
    """Prints the scores beside those of no model."""
    split = sources.open_split(
        config.data, seed=config.seed, num_classes=config.model.num_classes
    )
    score_set = score_sets.SCORE_SETS[SCORES.value]
    folder = pathlib.Path(networks.WORKDIR.value)
    if (folder / results.SWEEP).exists():
        tables = _of_trials(folder, split, score_set)
    else:
        trained, segment = networks.load(folder)
        tables = [score_sets.compare(score_set, trained, split, segment=segment)]
    print("\n\n".join(console.table(t.rows, t.columns) for t in tables))


def _of_trials(folder: pathlib.Path, split: Split, score_set: ScoreSet) -> list[Table]:
    """One row a finished trial; means with their spread, if a seed is repeated."""
    outcomes = [o for o in results.read_outcomes(folder) if o.state == "finished"]
    if not outcomes:
        raise ValueError(f"{folder} has no finished trial yet; let the sweep go on.")
    if "data.fold" in results.varied_options(outcomes):
        raise ValueError(
            f"the folds in {folder} hold out different images; table.csv there has "
            "the scores of each on its own."
        )
    held_out = [split.held_out[i] for i in range(len(split.held_out))]
    scored = []
    for outcome in outcomes:
        _, segment = networks.load(folder / outcome.name)
        counts = [score_set.score(each, segment(each.image)) for each in held_out]
        total = score_sets.total(score_set, counts)
        scored.append(outcome._replace(scores={**total}))
    means = results.mean_table(scored, score_set.shown)
    table = results.trial_table(scored, score_set.shown)
    return [table] if means is None else [table, results.with_spread(means)]


if __name__ == "__main__":
    launch(main)
