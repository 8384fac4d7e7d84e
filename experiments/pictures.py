"""Draws what a training sees of its first image, or what runs make of held-out ones.

python -m experiments.pictures --config=ml_collections_configs/smoke.py --out=pictures

fields.png shows both kinds of elastic deformation, tiles.png augmented tiles with the
borders of their labels and their weight maps. With --runs=runs/a --runs=runs/b
runs.png shows held-out images instead, their truth, and what the best model of each run
makes of them; --config.num_pictures says how many.
"""

import pathlib
from collections.abc import Iterator, Sequence

from absl import flags

from experiments.launch import launch
from unetjax.data.examples import Example
from unetjax.evaluation import panels
from unetjax.inference.segment import Segmentation, segment
from unetjax.model_io import model_folder
from unetjax.reporting import pictures
from unetjax.training import augmentation_pictures, experiment
from unetjax.training.config import ExperimentConfig

OUT = flags.DEFINE_string("out", None, "Folder for the pictures.", required=True)
TILES = flags.DEFINE_integer("tiles", 3, "Number of tiles.", lower_bound=1)
RUNS = flags.DEFINE_multi_string(
    "runs", [], "Run or model folder to compare; once for each."
)


def main(config: ExperimentConfig) -> None:
    """Writes the pictures and names them."""
    split = experiment.open_split(config)
    folder = pathlib.Path(OUT.value)
    if RUNS.value:
        shown = split.validation[: config.num_pictures]
        picture = panels.comparison(shown, list(_found(shown)))
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "runs.png"]
        pictures.write_png(paths[0], picture)
    else:
        paths = augmentation_pictures.write_all(
            config, split.train[0], folder, num_tiles=TILES.value
        )
    print(*paths, sep="\n")


def _found(examples: Sequence[Example]) -> Iterator[tuple[str, list[Segmentation]]]:
    """Of every run its name and what its best model makes of the images."""
    for folder in map(pathlib.Path, RUNS.value):
        trained = model_folder.load_model(folder)
        yield folder.name, [segment(trained, e.image) for e in examples]


if __name__ == "__main__":
    launch(main)
