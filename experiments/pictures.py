"""Draws augmented training tiles of a config, or predictions of several runs.

python -m experiments.pictures --config=ml_collections_configs/smoke.py --out=pictures

fields.png shows both kinds of elastic deformation of the first training image,
tiles.png augmented tiles with outlined labels and their weight maps. With
--runs=runs/a --runs=runs/b, runs.png shows validation images instead, with their truth
and the prediction of the best model of each run; --config.num_pictures sets how many.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from experiments.launch import launch
from unetjax.data.examples import Example
from unetjax.evaluation import augmentation_pictures, panels
from unetjax.inference.segment import Segmentation, segment
from unetjax.model_io import model_folder
from unetjax.reporting import pictures
from unetjax.training import config as configs
from unetjax.training import experiment
from unetjax.training.config import ExperimentConfig

OUT = flags.DEFINE_string("out", None, "Folder for the pictures.", required=True)
TILES = flags.DEFINE_integer("tiles", 3, "Number of tiles.", lower_bound=1)
RUNS = flags.DEFINE_multi_string(
    "runs", [], "Run or model folder to compare; repeat for each."
)


def main(config: ExperimentConfig) -> None:
    """Writes the pictures and prints their paths."""
    split = experiment.open_split(config)
    folder = pathlib.Path(OUT.value)
    if RUNS.value:
        shown = split.validation[: config.num_pictures]
        picture = panels.comparison(shown, _predictions(shown))
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "runs.png"]
        pictures.write_png(paths[0], picture)
    else:
        paths = augmentation_pictures.write_all(
            configs.data_pipeline(config),
            split.train[0],
            folder,
            num_tiles=TILES.value,
            seed=config.seed,
        )
    print(*paths, sep="\n")


def _predictions(examples: Sequence[Example]) -> dict[str, list[Segmentation]]:
    """Returns the predictions of the best model of each run, by the run's name."""
    predictions = {}
    for folder in map(pathlib.Path, RUNS.value):
        trained = model_folder.load_model(folder)
        predictions[folder.name] = [segment(trained, e.image) for e in examples]
    return predictions


if __name__ == "__main__":
    launch(main)
