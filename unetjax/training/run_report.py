"""The HTML report of a run: scores, curves, confusion, cell sizes, pictures."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from unetjax.data import checks
from unetjax.data.examples import Example
from unetjax.evaluation import panels
from unetjax.evaluation.comparison import MODEL, Comparison
from unetjax.evaluation.score_sets import CELLS
from unetjax.evaluation.scoring import measure_cells
from unetjax.inference.segment import Segmentation
from unetjax.metrics.cells import CellMetric
from unetjax.metrics.metric import merge_all
from unetjax.reporting import charts, environment, records, report
from unetjax.reporting.charts import Chart
from unetjax.reporting.console import number
from unetjax.reporting.records import Record
from unetjax.reporting.report import Case, Matrix, Table
from unetjax.training import config as configs
from unetjax.training.config import ExperimentConfig

RECORDS = "records.jsonl"

_MOST_CASES = 6
_SHOWN = {"train": "training", "validation": "validation"}
_NOTED = ("mean_iou", "ap50", "separated_close")  # scores beside each picture


def write(
    folder: pathlib.Path,
    config: ExperimentConfig,
    comparison: Comparison,
    scores: Table,
    *,
    title: str,
    summary: str,
    class_names: Sequence[str],
    command: str,
) -> pathlib.Path:
    """Writes `report.html` into a run folder and returns its path.

    Args:
      folder: The run folder, with its records.
      config: The experiment.
      comparison: Predictions for the images whose scores are reported.
      scores: Scores of the model and of others.
      title: What was run, on which data.
      summary: The result in a few sentences; an empty line starts a paragraph.
      class_names: Names of the classes, background first.
      command: Command line that repeats the run.
    """
    part = comparison.part
    predictions = comparison.predictions[MODEL]
    metrics = list(map(measure_cells, comparison.examples, predictions))
    merged = merge_all(metrics)
    counts = merged.compute()
    caption = (
        f"{part.capitalize()} images: {counts['num_images']:.0f}, with "
        f"{counts['num_cells']:.0f} cells, {counts['num_touching']:.0f} pairs that "
        f"touch and {counts['num_close']:.0f} pairs within 5 pixels."
    )
    confusion = Matrix(
        class_names,
        merged.confusion,
        f"Predicted classes of the pixels of each true class, {part} images",
    )
    return _write(
        folder,
        config,
        title=title,
        summary=summary,
        tables=[scores._replace(caption=caption), confusion],
        histograms=[_cell_sizes(comparison)],
        cases=_cases(comparison.examples, predictions, metrics, config),
        command=command,
    )


def write_unfinished(
    folder: pathlib.Path,
    config: ExperimentConfig,
    *,
    title: str,
    reason: str,
    command: str,
) -> None:
    """Writes `report.html` of a run that ended early, from its records alone.

    Args:
      folder: The run folder, with its records.
      config: The experiment.
      title: What was run, on which data.
      reason: Why it ended.
      command: Command line that resumes the run.
    """
    metric, summary, tables = config.best_metric, f"Not finished: {reason}", []
    scored = [
        record
        for record in records.read(folder / RECORDS)
        if record.kind == "validation" and np.isfinite(float(record.values[metric]))
    ]
    if scored:
        best = max(scored, key=lambda record: float(record.values[metric]))
        summary += (
            f"\n\nThe best model so far, by {metric}, is that of step "
            f"{best.step}; it is in the folder model."
        )
        scores = {name: float(best.values[name]) for name in CELLS.shown}
        caption = f"Validation images, after step {best.step}."
        tables = [CELLS.table({MODEL: scores}, caption)]
    _write(folder, config, title=title, summary=summary, tables=tables, command=command)


def _write(
    folder: pathlib.Path,
    config: ExperimentConfig,
    *,
    title: str,
    summary: str,
    tables: Sequence[Table | Matrix],
    command: str,
    histograms: Sequence[Chart] = (),
    cases: Sequence[Case] = (),
) -> pathlib.Path:
    """Writes what all reports have in common, and the rest."""
    path, lines = folder / "report.html", records.read(folder / RECORDS)
    report.write_report(
        path,
        title=title,
        summary="\n\n".join([summary, *_warnings(lines)]),
        tables=tables,
        charts=[*_curves(lines), *histograms],
        cases=cases,
        configuration=configs.to_dict(config),
        environment=_origin(folder),
        command=command,
        replace=True,
    )
    return path


def _curves(lines: Sequence[Record]) -> list[Chart]:
    def curves(kind: str, *names: str) -> list[charts.Curve]:
        found = [charts.curve(lines, kind, name) for name in names]
        return [each._replace(name=_SHOWN[kind]) for each in found]

    accuracy = curves("train", "accuracy") + curves("validation", "accuracy")
    scores = [
        each._replace(name=CELLS.shown[name])
        for name, each in zip(_NOTED, curves("validation", *_NOTED), strict=True)
    ]
    return [
        Chart("Loss", curves("train", "loss"), log=True),
        Chart("Scores of the validation images", scores),
        Chart("Pixel accuracy", accuracy),
        Chart("Norm of the gradient", curves("train", "grad_norm"), log=True),
        Chart("Learning rate", curves("train", "learning_rate")),
    ]


def _warnings(lines: Sequence[Record]) -> list[str]:
    """Returns the number of warnings and the last of them, if there were any."""
    texts = [record.values["text"] for record in lines if record.kind == "warning"]
    if not texts:
        return []
    return [f"{checks.counted(len(texts), 'warning')}, the last: {texts[-1]}"]


def _origin(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the latest environment, and the steps at which the run was started."""
    starts = environment.read_starts(folder)
    if not starts:
        return environment.environment()
    resumed = [str(start["step"]) for start in starts if start["step"]]
    return starts[-1] | {"step": ", ".join(["0", *resumed])}


def _cell_sizes(comparison: Comparison) -> Chart:
    """Returns the sizes of true and predicted cells; many small ones are fragments."""
    predictions = comparison.predictions[MODEL]
    return charts.histogram(
        f"Sizes of the cells, {comparison.part} images",
        {
            "truth": _diameters(example.instances for example in comparison.examples),
            "prediction": _diameters(each.instances for each in predictions),
        },
        horizontal="diameter of a disk of the same area, pixels",
    )


def _diameters(images: Iterable[Int[np.ndarray, "_ _"]]) -> list[float]:
    """Returns the diameter of each cell of images of instances, in pixels."""
    areas = [np.unique(x[x > 0], return_counts=True)[1] for x in images]
    return (2 * np.sqrt(np.concatenate(areas) / np.pi)).tolist()


def _cases(
    examples: Sequence[Example],
    predictions: Sequence[Segmentation],
    metrics: Sequence[CellMetric],
    config: ExperimentConfig,
) -> list[Case]:
    """Returns the images with the lowest and the highest IoU, the lowest first."""
    scores = [metric.compute() for metric in metrics]
    order = sorted(range(len(scores)), key=lambda i: scores[i]["mean_iou"])
    ranked = [(len(order) - place, i) for place, i in enumerate(order)]
    if len(ranked) > _MOST_CASES:
        half = _MOST_CASES // 2
        ranked = ranked[:half] + ranked[-half:]
    cases = []
    for rank, i in ranked:
        noted = [
            f"{CELLS.shown[name]}: {number(scores[i][name])}"
            for name in _NOTED
            if np.isfinite(scores[i][name])
        ]
        shown = panels.panels(examples[i], predictions[i], config.weight_map)
        note = "; ".join([f"rank {rank} of {len(order)}", *noted])
        cases.append(Case(examples[i].name, shown, note))
    return cases
