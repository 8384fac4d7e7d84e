"""Scores the best model of a run, or of every run of a sweep, on its test images.

python -m experiments.evaluate --config=ml_collections_configs/smoke.py --workdir=runs/a

Without test images the validation images are scored, as with --split=validation.
--scores=em gives the scores of the ISBI 2012 challenge (V_rand, V_info, warping error),
--scores=tracking SEG, DET and OP_CSB of the Cell Tracking Challenge. --tta and
--with are those of experiments.predict. If --workdir is the folder of a sweep, every
finished trial is scored on the images of its own config, with mean and standard
deviation over seeds or folds.
"""

import argparse
import pathlib
from collections.abc import Sequence

from unetjax import signals
from unetjax.cli.command import ArgumentParser
from unetjax.evaluation import comparison as comparisons
from unetjax.evaluation import score_sets
from unetjax.evaluation.comparison import MODEL, Comparison
from unetjax.evaluation.score_sets import ScoreSet
from unetjax.reporting import console
from unetjax.reporting.report import Table
from unetjax.sweeps import results
from unetjax.training import config as configs
from unetjax.training import experiment
from unetjax.training.config import ExperimentConfig

from . import launch as launching
from . import model_flags
from .launch import Invocation, launch


def make_parser() -> ArgumentParser:
    """Returns the parser of the command line."""
    parser = launching.make_parser("evaluate", __doc__)
    model_flags.add_arguments(parser)
    model_flags.add_scores(parser)
    return parser


def run(invocation: Invocation) -> None:
    """Prints the scores of a model and of baselines, or those of all trials."""
    options = invocation.options
    score_set = score_sets.SCORE_SETS[options.scores]
    folder = pathlib.Path(options.workdir)
    if (folder / results.SWEEP).exists():
        tables, remark = _score_trials(folder, score_set, options)
    else:
        comparison, remark = _compare(folder, invocation.config, options)
        scores = comparison.scores(score_set)
        everywhere = comparisons.cell_everywhere(comparison.examples)
        scores["cell everywhere"] = score_set.compute(comparison.examples, everywhere)
        tables = [score_set.table(scores)]
    print("\n\n".join(console.table(t.rows, t.columns) for t in tables))
    print(remark)


def _compare(
    folder: pathlib.Path, config: ExperimentConfig, options: argparse.Namespace
) -> tuple[Comparison, str]:
    """Segments the images of a config; returns also what the scores can say."""
    trained, segment = model_flags.load(folder, options)
    split = experiment.open_split(config)
    comparison = comparisons.compare(
        trained, split, part=options.split, segment=segment
    )
    return comparison, comparisons.remark(comparison.part, split, trained)


def _score_trials(
    folder: pathlib.Path, score_set: ScoreSet, options: argparse.Namespace
) -> tuple[list[Table], str]:
    """Returns a row for each finished trial, and means if seeds or folds differ.

    Every trial is scored on the images of its own config, as those of another seed or
    fold may be among its training images.
    """
    scored, remark = [], ""
    for outcome in results.read_outcomes(folder):
        if outcome.state == "finished":
            config = configs.from_dict(outcome.config)
            comparison, remark = _compare(folder / outcome.name, config, options)
            scores = score_set.compute(
                comparison.examples, comparison.predictions[MODEL]
            )
            scored.append(outcome._replace(scores={**scores}, test_scores=None))
    if not scored:
        raise ValueError(
            f"{folder} has no finished trial yet; resume the sweep and try again."
        )
    means = results.mean_table(scored, score_set.shown)
    table = results.trial_table(scored, score_set.shown)
    tables = [table] if means is None else [table, results.with_spread(means)]
    return tables, remark


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the launcher and returns its exit status, see `launch`."""
    return launch(run, make_parser(), argv)


if __name__ == "__main__":
    signals.exit_program(main())
