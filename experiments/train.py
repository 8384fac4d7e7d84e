"""Trains an experiment; the same command again goes on where it was interrupted.

  python -m experiments.train --config=ml_collections_configs/smoke.py --workdir=runs/a
      --config.optimizer.learning_rate=1e-4

--config=FILE.py names the experiment, --config.SECTION.OPTION=VALUE overrides any of
its options.
"""

import pathlib
import shlex
import sys

from absl import flags

from experiments.launch import launch
from unetjax.data import sources
from unetjax.training import experiment
from unetjax.training.config import ExperimentConfig

WORKDIR = flags.DEFINE_string(
    "workdir", None, "Run folder, new or to go on with.", required=True
)


def main(config: ExperimentConfig) -> None:
    """Trains, scores the best model, and writes the report."""
    split = sources.open_split(
        config.data, seed=config.seed, num_classes=config.model.num_classes
    )
    print(f"{len(split.train)} images to learn from, {len(split.held_out)} held out")
    outcome = experiment.run(
        config,
        split,
        WORKDIR.value,
        title=f"{pathlib.Path(WORKDIR.value).name}: {len(split.train)} images, "
        f"{config.num_steps} steps",
        command=shlex.join(["python", "-m", "experiments.train", *sys.argv[1:]]),
    )
    print(outcome.text)
    print(f"model: {WORKDIR.value}/model  report: {outcome.report}")


if __name__ == "__main__":
    launch(main)
