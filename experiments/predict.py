"""Segments the images that a config holds out with the best model of a run.

python -m experiments.predict --config=ml_collections_configs/smoke.py --workdir=runs/a
--out=runs/a-predictions

With --average=d4 each image is turned and mirrored, with --with=runs/b the network of
another run joins; the probabilities of all are averaged.
"""

import pathlib

from absl import flags

from experiments import model_flags
from experiments.launch import launch
from unetjax.evaluation import prediction_files
from unetjax.training import experiment
from unetjax.training.config import ExperimentConfig

OUT = flags.DEFINE_string(
    "out", None, "Folder for overlays, label images and more.", required=True
)


def main(config: ExperimentConfig) -> None:
    """Writes an overlay, a label image and the probabilities of every image."""
    split = experiment.open_split(config)
    _, segment = model_flags.load(model_flags.WORKDIR.value)
    validation = [(pathlib.Path(e.name).stem, e.image) for e in split.validation]
    folder = pathlib.Path(OUT.value)
    prediction_files.write_all(
        segment, validation, folder, labels=True, probabilities=True
    )
    print(f"{len(validation)} images segmented into {folder}")


if __name__ == "__main__":
    launch(main)
