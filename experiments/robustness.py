"""Scores a model on its test images as another microscope might have taken them.

python -m experiments.robustness --config=ml_collections_configs/smoke.py --workdir=runs

The images are blurred, made noisy, darkened, enlarged and so on, one change at a time,
see evaluation/shifts.py; every score stands beside that of the unchanged images.
Without test images the validation images are used, as with --split=validation. --tta
and --with are those of experiments.predict; --scale=auto resizes images until their
cells have the size of those of training.
"""

import functools
from collections.abc import Sequence

from unetjax import signals
from unetjax.cli.command import ArgumentParser
from unetjax.evaluation import comparison as comparisons
from unetjax.evaluation import score_sets, shifts
from unetjax.reporting import console
from unetjax.training import experiment

from . import launch as launching
from . import model_flags
from .launch import Invocation, launch


def make_parser() -> ArgumentParser:
    """Returns the parser of the command line."""
    parser = launching.make_parser("robustness", __doc__)
    model_flags.add_arguments(parser)
    model_flags.add_scores(parser)
    parser.add_argument(
        "--scale",
        choices=("1", "auto"),
        default="1",
        help="magnification of the images, see unetjax predict --help (default 1)",
    )
    return parser


def run(invocation: Invocation) -> None:
    """Prints a row of scores for every shift."""
    options = invocation.options
    score_set = score_sets.SCORE_SETS[options.scores]
    trained, segment = model_flags.load(options.workdir, options)
    split = experiment.open_split(invocation.config)
    part, examples = comparisons.select(split, options.split)
    scale = "auto" if options.scale == "auto" else 1.0
    scores = shifts.score(examples, functools.partial(segment, scale=scale), score_set)
    table = shifts.table(scores, score_set)
    print(console.table(table.rows, table.columns))
    print(table.caption)
    print(comparisons.remark(part, split, trained))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the launcher and returns its exit status, see `launch`."""
    return launch(run, make_parser(), argv)


if __name__ == "__main__":
    signals.exit_program(main())
