"""Draws augmented training tiles of a config, or predictions of several runs.

python -m experiments.pictures --config=ml_collections_configs/smoke.py --out=pictures

fields.png shows both kinds of elastic deformation of the first training image,
tiles.png augmented tiles with outlined labels and their weight maps. With
--runs=runs/a --runs=runs/b, runs.png shows test images instead (validation images if
there are none), with their truth and the prediction of the best model of each run;
--config.num_pictures sets how many.
"""

import pathlib
from collections.abc import Sequence

from unetjax import signals
from unetjax.cli.command import ArgumentParser
from unetjax.data.examples import Example
from unetjax.evaluation import augmentation_pictures, comparison, panels
from unetjax.inference.segment import Segmentation, segment
from unetjax.model_io import model_folder
from unetjax.reporting import pictures
from unetjax.training import config as configs
from unetjax.training import experiment

from . import launch as launching
from .launch import Invocation, launch


def make_parser() -> ArgumentParser:
    """Returns the parser of the command line."""
    parser = launching.make_parser("pictures", __doc__)
    parser.add_argument(
        "--out", required=True, type=pathlib.Path, help="folder for the pictures"
    )
    parser.add_argument(
        "--tiles", type=int, default=3, help="number of tiles (default 3)"
    )
    parser.add_argument(
        "--runs",
        action="append",
        default=[],
        metavar="FOLDER",
        help="run or model folder to compare; repeat for each",
    )
    return parser


def run(invocation: Invocation) -> None:
    """Writes the pictures and prints their paths."""
    config, options = invocation.config, invocation.options
    split = experiment.open_split(config)
    if options.runs:
        _, examples = comparison.select(split)
        shown = examples[: config.num_pictures]
        picture = panels.comparison(shown, _predictions(shown, options.runs))
        options.out.mkdir(parents=True, exist_ok=True)
        paths = [options.out / "runs.png"]
        pictures.write_png(paths[0], picture)
    else:
        paths = augmentation_pictures.write_all(
            configs.data_pipeline(config),
            split.train[0],
            options.out,
            num_tiles=options.tiles,
            seed=config.seed,
        )
    print(*paths, sep="\n")


def _predictions(
    examples: Sequence[Example], runs: Sequence[str]
) -> dict[str, list[Segmentation]]:
    """Returns the predictions of the best model of each run, by the run's name."""
    predictions = {}
    for folder in map(pathlib.Path, runs):
        trained = model_folder.load_model(folder)
        predictions[folder.name] = [segment(trained, e.image) for e in examples]
    return predictions


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the launcher and returns its exit status, see `launch`."""
    return launch(run, make_parser(), argv)


if __name__ == "__main__":
    signals.exit_program(main())
