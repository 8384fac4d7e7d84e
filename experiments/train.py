"""Trains an experiment; the same command again goes on where it was interrupted.

  python -m experiments.train --config=ml_collections_configs/smoke.py --workdir=runs/a
      --config.optimizer.learning_rate=1e-4

--config=FILE.py names the experiment, --config.SECTION.OPTION=VALUE overrides any of
its options. With --dry_run instead of --workdir it says what the training would take.
With --largest=tile tiles are as large as memory allows, with --largest=batch as many.
"""

import pathlib
import shlex
import sys
from typing import cast, get_args

from absl import flags

from experiments.launch import launch
from unetjax.data.splits import Split
from unetjax.training import dry_run, experiment, memory_limits
from unetjax.training.config import ExperimentConfig
from unetjax.training.memory_limits import Largest

WORKDIR = flags.DEFINE_string("workdir", None, "Run folder, new or to go on with.")
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Say what a training would take, and do nothing."
)
CHANNELS = flags.DEFINE_integer("channels", 1, "Of the images, for --dry_run.")
LARGEST = flags.DEFINE_enum(
    "largest",
    None,
    get_args(Largest),
    "Take the largest tile_size, or batch_size, whose step fits into memory.",
)


def main(config: ExperimentConfig) -> None:
    """Trains, scores the best model, and writes the report."""
    if DRY_RUN.value:
        _describe(config)
        return
    if WORKDIR.value is None:
        raise ValueError("--workdir names no folder; try --workdir=runs/a.")
    split = _open(config)
    config = _fitted(config, split)
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


def _describe(config: ExperimentConfig) -> None:
    """Says what the training would take; no data is needed, unless tiles are chosen."""
    channels = CHANNELS.value
    if LARGEST.value is not None:
        split = _open(config)
        config, channels = _fitted(config, split), split.train[0].image.shape[-1]
    print(dry_run.describe(config, channels=channels))


def _open(config: ExperimentConfig) -> Split:
    split = experiment.open_split(config)
    print(experiment.describe(split))
    return split


def _fitted(config: ExperimentConfig, split: Split) -> ExperimentConfig:
    """The experiment with the tiles that --largest asks for."""
    if LARGEST.value is None:
        return config
    what = cast(Largest, LARGEST.value)
    config = memory_limits.largest_that_fits(config, split.train, what=what)
    print(
        f"tile_size {config.tile_size}, batch_size {config.batch_size}: the largest "
        f"{what} whose step fits into memory",
        flush=True,
    )
    return config


if __name__ == "__main__":
    launch(main)
