"""Draws what the training of a config sees of its first image, before it is run.

python -m experiments.pictures --config=ml_collections_configs/smoke.py --out=pictures

fields.png shows both kinds of elastic deformation, tiles.png augmented tiles with the
borders of their labels and their weight maps.
"""

import pathlib

from absl import flags

from experiments.launch import launch
from unetjax.data import sources
from unetjax.training import augmentation_pictures
from unetjax.training.config import ExperimentConfig

OUT = flags.DEFINE_string("out", None, "Folder for the pictures.", required=True)
TILES = flags.DEFINE_integer("tiles", 3, "Number of tiles.", lower_bound=1)


def main(config: ExperimentConfig) -> None:
    """Writes the pictures and names them."""
    split = sources.open_split(
        config.data, seed=config.seed, num_classes=config.model.num_classes
    )
    for path in augmentation_pictures.write_all(
        config, split.train[0], pathlib.Path(OUT.value), num_tiles=TILES.value
    ):
        print(path)


if __name__ == "__main__":
    launch(main)
