"""Trains an experiment; the same command again goes on where it was interrupted.

  python -m experiments.train --config=ml_collections_configs/smoke.py --workdir=runs/a
      --config.optimizer.learning_rate=1e-4

--config=FILE.py names the experiment, --config.SECTION.OPTION=VALUE overrides any of
its options. With --dry_run instead of --workdir it says what the training would take.
"""

import pathlib
import shlex
import sys

from absl import flags

from experiments.launch import launch
from unetjax.data import sources
from unetjax.training import dry_run, experiment
from unetjax.training.config import ExperimentConfig

WORKDIR = flags.DEFINE_string("workdir", None, "Run folder, new or to go on with.")
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Say what a training would take, and do nothing."
)
CHANNELS = flags.DEFINE_integer("channels", 1, "Of the images, for --dry_run.")


def main(config: ExperimentConfig) -> None:
    """Trains, scores the best model, and writes the report."""
    if DRY_RUN.value:
        print(dry_run.describe(config, channels=CHANNELS.value))
        return
    if WORKDIR.value is None:
        raise ValueError("--workdir names no folder; try --workdir=runs/a.")
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
