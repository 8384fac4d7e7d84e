"""Scores the best model of a run on the images that its config holds out.

python -m experiments.evaluate --config=ml_collections_configs/smoke.py --workdir=runs/a

With --scores=em those of the ISBI 2012 challenge (V_rand, V_info, warping error), with
--scores=tracking SEG, DET and OP_CSB of the Cell Tracking Challenge. --average and
--with as in experiments.predict.
"""

from absl import flags

from experiments import networks
from experiments.launch import launch
from unetjax.data import sources
from unetjax.reporting import console
from unetjax.training import score_sets
from unetjax.training.config import ExperimentConfig

SCORES = flags.DEFINE_enum(
    "scores", "cells", list(score_sets.SCORE_SETS), "Which family of scores."
)


def main(config: ExperimentConfig) -> None:
    """Prints the scores beside those of no model."""
    split = sources.open_split(
        config.data, seed=config.seed, num_classes=config.model.num_classes
    )
    trained, segment = networks.load()
    score_set = score_sets.SCORE_SETS[SCORES.value]
    table = score_sets.compare(score_set, trained, split, segment=segment)
    print(console.table(table.rows, table.columns))


if __name__ == "__main__":
    launch(main)
