"""Segments the test images of a config with the best model of a run.

python -m experiments.predict --config=ml_collections_configs/smoke.py --workdir=runs/a
--out=runs/a-predictions

Without test images the validation images are segmented, as with --split=validation.
--tta=d4 averages the probabilities over the 8 rotations and reflections of each
image, --with=runs/b over the models of several runs.
"""

import pathlib
from collections.abc import Sequence

from unetjax import signals
from unetjax.cli.command import ArgumentParser
from unetjax.evaluation import comparison, prediction_files
from unetjax.model_io import model_folder
from unetjax.training import experiment

from . import launch as launching
from . import model_flags
from .launch import Invocation, launch


def make_parser() -> ArgumentParser:
    """Returns the parser of the command line."""
    parser = launching.make_parser("predict", __doc__)
    model_flags.add_arguments(parser)
    parser.add_argument(
        "--out", required=True, type=pathlib.Path, help="folder of the results, new"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace results that the folder has (default: resume)",
    )
    return parser


def run(invocation: Invocation) -> None:
    """Writes an overlay, a label image and the probabilities of every image."""
    options = invocation.options
    split = experiment.open_split(invocation.config)
    _, segment = model_flags.load(options.workdir, options)
    part, examples = comparison.select(split, options.split)
    images = [
        prediction_files.Input(pathlib.Path(e.name).stem, e.image) for e in examples
    ]
    prediction_files.write_all(
        segment,
        images,
        options.out,
        instances=True,
        probabilities=True,
        origin={
            "models": [
                model_folder.fingerprint(each)
                for each in (options.workdir, *options.others)
            ],
            "tta": options.tta,
        },
        overwrite=options.overwrite,
    )
    print(f"predictions of {len(images)} {part} images: {options.out}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the launcher and returns its exit status, see `launch`."""
    return launch(run, make_parser(), argv)


if __name__ == "__main__":
    signals.exit_program(main())
