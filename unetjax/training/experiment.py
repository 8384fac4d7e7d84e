"""One experiment: from a config and its images to a trained model and a report."""

import os
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from unetjax.data import open_data
from unetjax.data.splits import Split
from unetjax.evaluation import comparison as comparisons
from unetjax.evaluation import score_sets, scoring
from unetjax.evaluation.comparison import MODEL, Comparison
from unetjax.evaluation.score_sets import CELLS
from unetjax.inference.segment import segment
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import model_folder
from unetjax.reporting import console
from unetjax.training import loop, run_folder, run_report, stopping
from unetjax.training.config import ExperimentConfig

_VALIDATION = "U-Net, validation images"  # title of a column


class Outcome(NamedTuple):
    """Result of an experiment.

    Attributes:
      trained: The best model.
      comparison: Its predictions and those of a baseline on the test images, or on the
        validation images if there are no test images.
      text: Their scores for a terminal.
      verdict: A sentence if the model is no better than a baseline, else "".
      report: The HTML report.
    """

    trained: TrainedModel
    comparison: Comparison
    text: str
    verdict: str
    report: pathlib.Path


def open_split(config: ExperimentConfig) -> Split:
    """Returns the images of an experiment; see `data.open_data.open_split`."""
    return open_data.open_split(config.data, num_classes=config.model.num_classes)


def describe(split: Split) -> str:
    """Returns the number of images in each part.

    Example:
      >>> describe(Split([], []))
      'images: 0 for training, 0 for validation, none for testing'
    """
    test = "none" if split.test is None else len(split.test)
    return (
        f"images: {len(split.train)} for training, {len(split.validation)} for "
        f"validation, {test} for testing"
    )


def run(
    config: ExperimentConfig,
    split: Split,
    workdir: str | os.PathLike[str],
    *,
    title: str,
    command: str,
    watch: Callable[[int, Mapping[str, float]], object] | None = None,
) -> Outcome:
    """Trains to the last step, scores the best model, and writes a report.

    The same call resumes an interrupted run. A run that ends early gets a report as
    well, with its curves so far and the reason.

    Args:
      config: The experiment.
      split: Training, validation and, optionally, test images.
      workdir: The run folder.
      title: Title of the report: what was run, on which data.
      command: Command line that repeats the run.
      watch: See `loop.train_and_evaluate`.

    Raises:
      Exception: As `loop.train_and_evaluate`.
    """
    folder = pathlib.Path(workdir)
    if config.data.keep_split:
        split = run_folder.keep_split(folder, split)
    try:
        trained = loop.train_and_evaluate(config, split, folder, watch=watch)
    except stopping.EndedEarlyError as reason:
        run_report.write_unfinished(
            folder, config, title=title, reason=str(reason), command=command
        )
        raise
    comparison = comparisons.compare(trained, split)
    suiting = score_sets.suiting(
        config.best_metric, num_classes=config.model.num_classes
    )
    scores = comparison.scores(suiting)
    if comparison.part == "test":
        predictions = [segment(trained, e.image) for e in split.validation]
        scores[_VALIDATION] = suiting.compute(split.validation, predictions)
        # The same scores as those of the validation images, which chose the model.
        test_scores = CELLS.compute(comparison.examples, comparison.predictions[MODEL])
        trained = _store_test_scores(folder / "model", trained, test_scores)
    remark = comparisons.remark(comparison.part, split, trained)
    verdict = comparisons.verdict(scores, suiting)
    table = suiting.table(scores)
    paragraphs = [
        verdict,
        f"The best model by {score_sets.title(config.best_metric)} is that of step "
        f"{trained.provenance.step} of {config.num_steps}. {remark}",
    ]
    if trained.provenance.instances_chosen:
        chosen = trained.provenance.instances_chosen
        paragraphs.append(f"The instance settings were chosen {chosen}.")
    report = run_report.write(
        folder,
        config,
        comparison,
        table,
        title=title,
        summary="\n\n".join(filter(None, paragraphs)),
        class_names=trained.class_names,
        command=command,
    )
    lines = [console.table(table.rows, table.columns), verdict, remark]
    text = "\n".join(filter(None, lines))
    return Outcome(trained, comparison, text, verdict, report)


def _store_test_scores(
    folder: pathlib.Path, trained: TrainedModel, scores: Mapping[str, float]
) -> TrainedModel:
    """Writes the test scores into the provenance of a model, unless they are there."""
    test_scores = scoring.without_nan(scores)
    if test_scores == trained.provenance.test_scores:
        return trained
    provenance = replace(trained.provenance, test_scores=test_scores)
    trained = replace(trained, provenance=provenance)
    model_folder.save_model(folder, trained)
    return trained
