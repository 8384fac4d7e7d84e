"""The report of a run, from its records and its best model."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from unetjax.data.examples import Example
from unetjax.data.splits import Split
from unetjax.evaluation import panels, scoring
from unetjax.evaluation.comparison import SHOWN, Comparison, scores_table
from unetjax.inference.segment import Segmentation
from unetjax.metrics.cells import Scores
from unetjax.reporting import charts, environment, records, report
from unetjax.reporting.charts import Chart, Histogram
from unetjax.reporting.report import Case, Matrix, Table
from unetjax.training import config as configs
from unetjax.training.config import ExperimentConfig
from unetjax.weight_maps.settings import WeightMapSettings

_MOST_CASES = 6


def write(
    folder: pathlib.Path,
    comparison: Comparison,
    split: Split,
    *,
    title: str,
    summary: str,
    weight_map: WeightMapSettings,
    class_names: Sequence[str],
    config: dict[str, Any],
    command: str,
) -> pathlib.Path:
    """Writes `report.html` into a run folder, and returns its path.

    Args:
      folder: The run folder, with its records.
      comparison: From `compare`.
      split: The images of the run.
      title: What was run, on what.
      summary: The result in a sentence or two.
      weight_map: Eq. (2), for the pictures.
      class_names: Of the classes, background first.
      config: The resolved configuration.
      command: What to type to get the same run.
    """
    ours = scoring.total(comparison.scores)
    caption = (
        f"Held out: {ours['num_images']:.0f} image(s), {ours['num_cells']:.0f} cells, "
        f"of which {ours['num_touching']:.0f} pairs touch and {ours['num_close']:.0f} "
        "pairs are within 5 pixels."
    )
    path = folder / "report.html"
    report.write_report(
        path,
        title=title,
        summary="\n\n".join([summary, *_warnings(folder / "records.jsonl")]),
        tables=[
            scores_table(comparison, caption),
            _confusion(comparison, class_names),
        ],
        charts=[
            *run_charts(folder / "records.jsonl"),
            _cell_sizes(comparison, split.validation),
        ],
        cases=_cases(comparison, split.validation, weight_map),
        configuration=config,
        environment=_origin(folder),
        command=command,
        replace=True,
    )
    return path


def write_unfinished(
    folder: pathlib.Path,
    config: ExperimentConfig,
    *,
    title: str,
    reason: str,
    command: str,
) -> pathlib.Path:
    """Writes `report.html` of a run that ended early, from its records alone.

    Args:
      folder: The run folder, with its records.
      config: The experiment.
      title: What was run, on what.
      reason: Why it ended.
      command: What to type to go on.

    Returns:
      The path of the report.
    """
    metric, lines = config.best_metric, records.read(folder / "records.jsonl")
    scored = [record for record in lines if record.kind == "validation"]
    scored = [r for r in scored if np.isfinite(float(r.values[metric]))]
    summary, tables = f"Not finished: {reason}", []
    if scored:
        best = max(scored, key=lambda record: float(record.values[metric]))
        summary += (
            f"\n\nThe best model so far, by {metric}, is that of step "
            f"{best.step}; it is in the folder model."
        )
        rows: list[dict[str, int | float | str]] = [
            {"score": words, "U-Net": best.values[name]}
            for name, words in SHOWN.items()
        ]
        tables = [Table(["score", "U-Net"], rows, f"Held out, after step {best.step}.")]
    path = folder / "report.html"
    report.write_report(
        path,
        title=title,
        summary="\n\n".join([summary, *_warnings(folder / "records.jsonl")]),
        tables=tables,
        charts=run_charts(folder / "records.jsonl"),
        configuration=configs.to_dict(config),
        environment=_origin(folder),
        command=command,
        replace=True,
    )
    return path


def run_charts(path: pathlib.Path) -> list[Chart]:
    """Returns the curves of a run's records."""
    lines = records.read(path)
    loss = charts.curve(lines, "train", "loss")
    names = ("mean_iou", "ap50", "separated_close")
    validation = [charts.curve(lines, "validation", name) for name in names]
    accuracy = [
        charts.curve(lines, kind, "accuracy") for kind in ("train", "validation")
    ]
    norm = charts.curve(lines, "train", "grad_norm")
    rate = charts.curve(lines, "train", "learning_rate")
    return [
        Chart("Loss", [loss], log=True),
        Chart("Scores of the held-out images", validation),
        Chart("Pixel accuracy", accuracy),
        Chart("Norm of the gradient", [norm], log=True),
        Chart("Learning rate", [rate]),
    ]


def _origin(folder: pathlib.Path) -> dict[str, Any]:
    """Where the run was computed last, and at which steps it was taken up again."""
    starts = environment.read_starts(folder)
    if not starts:
        return environment.environment()
    resumed = [str(start["step"]) for start in starts if start["step"]]
    return starts[-1] | {"step": ", ".join(["0", *resumed])}


def _warnings(path: pathlib.Path) -> list[str]:
    """The last warning of a run that had any, and how many there were."""
    texts = [
        str(record.values["text"])
        for record in records.read(path)
        if record.kind == "warning"
    ]
    return [f"{len(texts)} warning(s), the last: {texts[-1]}"] if texts else []


def _confusion(comparison: Comparison, class_names: Sequence[str]) -> Matrix:
    counts = np.sum([scores.confusion for scores in comparison.scores], axis=0)
    return Matrix(
        class_names, counts, "Where the pixels of each true class went, held-out images"
    )


def _cell_sizes(comparison: Comparison, examples: Sequence[Example]) -> Histogram:
    """How large the cells are, true and found: too small ones are fragments."""
    return charts.count(
        "Sizes of the cells in the held-out images",
        {
            "truth": [d for e in examples for d in _diameters(e.instances)],
            "prediction": [
                d for f in comparison.found for d in _diameters(f.instances)
            ],
        },
        horizontal="diameter of a disk of the same area, pixels",
    )


def _diameters(instances: Int[np.ndarray, "H W"]) -> list[float]:
    _, areas = np.unique(instances[instances > 0], return_counts=True)
    return (2 * np.sqrt(areas / np.pi)).tolist()


def _cases(
    comparison: Comparison, examples: Sequence[Example], weight_map: WeightMapSettings
) -> list[Case]:
    """The worst and the best images, worst first."""
    ap = [scoring.total([s])["mean_iou"] for s in comparison.scores]
    order = sorted(range(len(ap)), key=lambda i: ap[i])
    places = {i: len(order) - place for place, i in enumerate(order)}
    if len(order) > _MOST_CASES:
        half = _MOST_CASES // 2
        order = order[:half] + order[-half:]
    return [
        _case(
            examples[i],
            comparison.found[i],
            comparison.scores[i],
            weight_map,
            place=f"place {places[i]} of {len(places)}",
        )
        for i in order
    ]


def _case(
    example: Example,
    found: Segmentation,
    scores: Scores,
    weight_map: WeightMapSettings,
    *,
    place: str,
) -> Case:
    values = scoring.total([scores])
    return Case(
        example.name,
        panels.panels(example, found, weight_map),
        ", ".join(
            [
                place,
                *(
                    f"{SHOWN[name]} {values[name]:.3f}"
                    for name in ("mean_iou", "ap50", "separated_close")
                    if np.isfinite(values[name])
                ),
            ]
        ),
    )
