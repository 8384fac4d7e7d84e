"""Segments the images that a config holds out with the best model of a run.

python -m experiments.predict --config=ml_collections_configs/smoke.py --workdir=runs/a
--out=runs/a-predictions
"""

import pathlib

from absl import flags

from experiments.launch import launch
from unetjax.data import sources
from unetjax.exchange import model_folder
from unetjax.training import predictions
from unetjax.training.config import ExperimentConfig

WORKDIR = flags.DEFINE_string(
    "workdir", None, "Run folder or model folder.", required=True
)
OUT = flags.DEFINE_string(
    "out", None, "Folder for overlays, label images and more.", required=True
)


def main(config: ExperimentConfig) -> None:
    """Writes an overlay, a label image and the probabilities of every image."""
    split = sources.open_split(
        config.data, seed=config.seed, num_classes=config.model.num_classes
    )
    trained = model_folder.load(WORKDIR.value)
    held_out = [(pathlib.Path(e.name).stem, e.image) for e in split.held_out]
    folder = pathlib.Path(OUT.value)
    predictions.write_all(trained, held_out, folder, labels=True, probabilities=True)
    print(f"{len(held_out)} images segmented into {folder}")


if __name__ == "__main__":
    launch(main)
