"""One experiment from its config to its report."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from unetjax.data import open_data
from unetjax.data.splits import Split
from unetjax.evaluation import comparison as comparisons
from unetjax.evaluation import postprocessing_search
from unetjax.evaluation.comparison import Comparison
from unetjax.inference.trained_model import TrainedModel
from unetjax.reporting import console
from unetjax.training import config as configs
from unetjax.training import loop, run_report, stopping
from unetjax.training.config import ExperimentConfig


class Outcome(NamedTuple):
    """What an experiment leaves.

    Attributes:
      trained: The best model.
      comparison: Its scores on the held-out images, beside the baseline's.
      text: The same as a table for a terminal.
      report: The page to look at.
    """

    trained: TrainedModel
    comparison: Comparison
    text: str
    report: pathlib.Path


def open_split(config: ExperimentConfig) -> Split:
    """Returns the images of an experiment; see `sources.open_split`."""
    return open_data.open_split(config.data, num_classes=config.model.num_classes)


def run(
    config: ExperimentConfig,
    split: Split,
    workdir: str | os.PathLike[str],
    *,
    title: str,
    command: str,
    watch: Callable[[int, Mapping[str, float]], object] | None = None,
) -> Outcome:
    """Trains to the last step, compares the best model with the baseline, reports.

    The same call again goes on where an interrupted one stopped. A run that ends early
    has a report as well, of its curves so far and of why it ended.

    Args:
      config: The experiment.
      split: Images to train on and held-out images.
      workdir: The run folder.
      title: What is run, on what.
      command: What to type to get the same run.
      watch: See `loop.train_and_evaluate`.

    Raises:
      Exception: What `loop.train_and_evaluate` raises.
    """
    try:
        trained = loop.train_and_evaluate(config, split, workdir, watch=watch)
    except stopping.EndedEarlyError as reason:
        run_report.write_unfinished(
            pathlib.Path(workdir),
            config,
            title=title,
            reason=str(reason),
            command=command,
        )
        raise
    comparison = comparisons.compare(trained, split)
    scores = comparisons.scores_table(comparison, "")
    step, chosen = (
        trained.about["step"],
        trained.about.get(postprocessing_search.CHOSEN),
    )
    honest = (
        f" How cells are made of probabilities was chosen {chosen}: expect a little "
        "less of new images."
    )
    report = run_report.write(
        pathlib.Path(workdir),
        comparison,
        split,
        title=title,
        summary=f"The best model by {config.best_metric} is that of step {step} of "
        f"{config.num_steps}. All scores are of held-out images, which chose this "
        f"model and never trained it.{honest if chosen else ''}",
        weight_map=config.weight_map,
        class_names=trained.class_names,
        config=configs.to_dict(config),
        command=command,
    )
    text = console.table(scores.rows, scores.columns)
    return Outcome(trained, comparison, text, report)
