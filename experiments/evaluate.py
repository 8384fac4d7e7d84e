"""Scores the best model of a run on the images that its config holds out.

python -m experiments.evaluate --config=ml_collections_configs/smoke.py --workdir=runs/a

With --scores=em those of the ISBI 2012 challenge (V_rand, V_info, warping error), with
--scores=tracking SEG, DET and OP_CSB of the Cell Tracking Challenge. --average and
--with as in experiments.predict. Where --workdir is the folder of a sweep, every
finished trial is scored on the images that its own config holds out, with mean and
standard deviation over seeds or folds.
"""

import pathlib

from absl import flags

from experiments import model_flags
from experiments.launch import launch
from unetjax.evaluation import score_sets
from unetjax.evaluation.score_sets import ScoreSet
from unetjax.reporting import console
from unetjax.reporting.report import Table
from unetjax.sweeps import results
from unetjax.training import config as configs
from unetjax.training import experiment
from unetjax.training.config import ExperimentConfig

SCORES = flags.DEFINE_enum(
    "scores", "cells", list(score_sets.SCORE_SETS), "Which family of scores."
)


def main(config: ExperimentConfig) -> None:
    """Prints the scores beside those of no model, or those of all trials of a sweep."""
    score_set = score_sets.SCORE_SETS[SCORES.value]
    folder = pathlib.Path(model_flags.WORKDIR.value)
    if (folder / results.SWEEP).exists():
        tables = _of_trials(folder, score_set)
    else:
        trained, segment = model_flags.load(folder)
        split = experiment.open_split(config)
        tables = [score_sets.compare(score_set, trained, split, segment=segment)]
    print("\n\n".join(console.table(t.rows, t.columns) for t in tables))


def _of_trials(folder: pathlib.Path, score_set: ScoreSet) -> list[Table]:
    """One row a finished trial; means with their spread, if a seed is repeated.

    Each is scored on the images that itself held out: those of another seed or fold
    may have trained it.
    """
    scored = []
    for outcome in results.read_outcomes(folder):
        if outcome.state == "finished":
            validation = experiment.open_split(
                configs.from_dict(outcome.config)
            ).validation
            _, segment = model_flags.load(folder / outcome.name)
            counts = [
                score_set.score(example, segment(example.image))
                for example in validation
            ]
            total = score_sets.total(score_set, counts)
            scored.append(outcome._replace(scores={**total}))
    if not scored:
        raise ValueError(f"{folder} has no finished trial yet; let the sweep go on.")
    means = results.mean_table(scored, score_set.shown)
    table = results.trial_table(scored, score_set.shown)
    return [table] if means is None else [table, results.with_spread(means)]


if __name__ == "__main__":
    launch(main)
