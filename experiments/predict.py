"""Segments the images that a config holds out with the best model of a run.

python -m experiments.predict --config=ml_collections_configs/smoke.py --workdir=runs/a
--out=runs/a-predictions

With --average=d4 each image is turned and mirrored, with --with=runs/b the network of
another run joins; the probabilities of all are averaged.
"""

import pathlib

from absl import flags

from experiments import networks
from experiments.launch import launch
from unetjax.training import experiment, predictions
from unetjax.training.config import ExperimentConfig

OUT = flags.DEFINE_string(
    "out", None, "Folder for overlays, label images and more.", required=True
)


def main(config: ExperimentConfig) -> None:
    """Writes an overlay, a label image and the probabilities of every image."""
    split = experiment.open_split(config)
    _, segment = networks.load(networks.WORKDIR.value)
    held_out = [(pathlib.Path(e.name).stem, e.image) for e in split.held_out]
    folder = pathlib.Path(OUT.value)
    predictions.write_all(segment, held_out, folder, labels=True, probabilities=True)
    print(f"{len(held_out)} images segmented into {folder}")


if __name__ == "__main__":
    launch(main)
