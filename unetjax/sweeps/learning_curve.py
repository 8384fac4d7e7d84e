"""Learning curve: the score as a function of the number of training images."""

import logging
import pathlib
import re
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from unetjax.data.splits import Split
from unetjax.evaluation import score_sets
from unetjax.evaluation.comparison import MODEL
from unetjax.files import folders
from unetjax.reporting import records, report
from unetjax.reporting.charts import Chart, Curve
from unetjax.reporting.console import number
from unetjax.reporting.report import Table
from unetjax.training import experiment, run_folder
from unetjax.training.config import ExperimentConfig

_log = logging.getLogger(__name__)
DRAWS = 2  # subsets of each size, each trained with a seed of its own
_MOST_SIZES = 4
_TABLE, _REPORT = "learning_curve.csv", "report.html"
_RUN = re.compile(r"\d+ images?, draw \d+")


class Point(NamedTuple):
    """The score of some numbers of training images.

    Attributes:
      num_images: Number of training images.
      scores: One for each draw.
    """

    num_images: int
    scores: tuple[float, ...]


class LearningCurve(NamedTuple):
    """A learning curve and what it says.

    Attributes:
      score: Title of the score.
      points: By number of images, in ascending order.
      conclusion: Whether more annotated images would help, in a sentence.
    """

    score: str
    points: list[Point]
    conclusion: str


def sizes(num_images: int) -> list[int]:
    """Returns up to four numbers of images, each about half of the next.

    Example:
      >>> sizes(43)
      [5, 10, 21, 43]
      >>> sizes(3)
      [1, 3]
    """
    halves = {num_images // 2**i for i in range(_MOST_SIZES)}
    return sorted(halves - {0})


def measure(
    split: Split,
    config: ExperimentConfig,
    folder: pathlib.Path,
    *,
    command: str,
) -> LearningCurve:
    """Trains on ever more images, and scores all models on the same other images.

    Every training is a run folder, which the same call resumes. The folder receives
    `learning_curve.csv` and `report.html` as well.

    Args:
      split: Training images, of which subsets are drawn. The validation images choose
        the step of every run; scores are those of the test images, if there are any.
      config: The experiment, the same for all sizes but for its seed.
      folder: The folder of the curve, new or of an earlier call.
      command: Command line that repeats the training.

    Raises:
      FileExistsError: If the folder holds other files.
      ValueError: If there are fewer than two training images.
    """
    check_images(split)
    _claim(folder)
    score_set = score_sets.suiting(
        config.best_metric, num_classes=config.model.num_classes
    )
    title, points = score_set.shown[score_set.ranking], list[Point]()
    for size in sizes(len(split.train)):
        scores = []
        for draw in range(DRAWS):
            rng = np.random.default_rng([config.seed, size, draw])
            chosen = sorted(rng.choice(len(split.train), size, replace=False))
            train = [split.train[i] for i in chosen]
            name = f"{size} {'image' if size == 1 else 'images'}, draw {draw + 1}"
            _log.info("%s of %d", name, DRAWS)
            outcome = experiment.run(
                replace(config, seed=(config.seed + draw) % 2**32),
                split._replace(train=train),
                folder / name,
                title=name,
                command=command,
            )
            found = outcome.comparison.scores(score_set)[MODEL]
            scores.append(found[score_set.ranking])
        points.append(Point(size, tuple(scores)))
    curve = LearningCurve(title, points, conclude(points, title))
    part = "validation" if split.test is None else "test"
    _write(folder, curve, part=part, command=command)
    return curve


def check_images(split: Split) -> None:
    """Refuses a split of which no learning curve can be drawn.

    Raises:
      ValueError: If there are fewer than two training images.
    """
    if len(split.train) < 2:
        raise ValueError(
            "a learning curve needs at least two training images, got "
            f"{len(split.train)}; annotate more."
        )


def planned_steps(folder: pathlib.Path) -> int | None:
    """Returns for how many steps the runs of a curve were begun; None of a new one."""
    runs = sorted(folder.iterdir()) if folder.is_dir() else []
    steps = (run_folder.planned_steps(x) for x in runs if _RUN.fullmatch(x.name))
    return next((n for n in steps if n is not None), None)


def table(curve: LearningCurve) -> Table:
    """Returns a row for every number of images: mean, and the scores of all draws."""
    draws = [f"draw {i + 1}" for i in range(DRAWS)]
    rows = [
        {
            "training images": point.num_images,
            "mean": statistics.fmean(point.scores),
            **dict(zip(draws, point.scores, strict=True)),
        }
        for point in curve.points
    ]
    return Table(["training images", "mean", *draws], rows, curve.score)


def conclude(points: Sequence[Point], title: str) -> str:
    """Returns whether more images would help, by the gain of the last step.

    Args:
      points: By number of images, in ascending order, at least two.
      title: Title of the score.

    Example:
      >>> conclude([Point(5, (0.5, 0.6)), Point(10, (0.7, 0.8))], "Dice")[:50]
      'From 5 to 10 images, Dice rose from 0.550 to 0.750'
    """
    before, last = points[-2:]
    low, high = (statistics.fmean(point.scores) for point in (before, last))
    spread = max(max(p.scores) - min(p.scores) for p in (before, last))
    verb = "rose" if high > low else "went"
    advice = (
        "more annotated images would help"
        if high - low > spread
        else "more images of the same kind would help little; other kinds of images, "
        "longer training or corrected masks may help more"
    )
    return (
        f"From {before.num_images} to {last.num_images} images, {title} {verb} from "
        f"{number(low)} to {number(high)}; draws of a size differ by up to "
        f"{number(spread)}. So "
        f"{advice}."
    )


def _claim(folder: pathlib.Path) -> None:
    """Refuses a folder with other files; removes what a killed process left there."""
    runs = list(folder.iterdir()) if folder.is_dir() else []
    if any(_RUN.fullmatch(path.name) for path in runs):
        folders.remove_temporaries(folder)
    elif not folders.is_unused(folder):
        raise FileExistsError(f"{folder} holds other files; choose a new folder.")


def _write(
    folder: pathlib.Path, curve: LearningCurve, *, part: str, command: str
) -> None:
    found = table(curve)
    with folders.write_atomically(folder / _TABLE, replace=True) as temporary:
        temporary.write_text(records.csv_text(found.rows, found.columns))
    sizes_ = [point.num_images for point in curve.points]
    curves = [
        Curve(f"draw {i + 1}", sizes_, [point.scores[i] for point in curve.points])
        for i in range(DRAWS)
    ]
    report.write_report(
        folder / _REPORT,
        title=f"{folder.name}: learning curve",
        summary=curve.conclusion,
        tables=[found._replace(caption=f"{curve.score}, {part} images")],
        charts=[
            Chart(f"{curve.score}, {part} images", curves, horizontal="training images")
        ],
        command=command,
        replace=True,
    )
