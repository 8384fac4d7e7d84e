"""Segments the test images of a config with the best model of a run.

python -m experiments.predict --config=ml_collections_configs/smoke.py --workdir=runs/a
--out=runs/a-predictions

Without test images the validation images are segmented, as with --split=validation.
--tta=d4 averages the probabilities over the 8 rotations and reflections of each
image, --with=runs/b over the models of several runs.
"""

import pathlib
from typing import cast

from absl import flags

from experiments import model_flags
from experiments.launch import launch
from unetjax.evaluation import comparison, prediction_files
from unetjax.evaluation.comparison import Part
from unetjax.training import experiment
from unetjax.training.config import ExperimentConfig

OUT = flags.DEFINE_string(
    "out", None, "Folder for overlays, label images and more.", required=True
)


def main(config: ExperimentConfig) -> None:
    """Writes an overlay, a label image and the probabilities of every image."""
    split = experiment.open_split(config)
    _, segment = model_flags.load(model_flags.WORKDIR.value)
    part = cast(Part | None, model_flags.SPLIT.value)
    part, examples = comparison.select(split, part)
    images = [(pathlib.Path(e.name).stem, e.image) for e in examples]
    folder = pathlib.Path(OUT.value)
    prediction_files.write_all(segment, images, folder, labels=True, probabilities=True)
    print(f"predictions of {len(images)} {part} images: {folder}")


if __name__ == "__main__":
    launch(main)
