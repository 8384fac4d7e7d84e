"""The report of a run, from its records and its best model."""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from unetjax.data.source import Example
from unetjax.data.splits import Split
from unetjax.exchange.model_folder import ModelFolder
from unetjax.instances.baseline import otsu_components
from unetjax.metrics.table import Scores
from unetjax.reporting import charts, records, report
from unetjax.reporting.charts import Chart, Histogram
from unetjax.reporting.report import Case, Matrix, Table
from unetjax.training import config as configs
from unetjax.training import environment, evaluation, watching
from unetjax.training.config import ExperimentConfig
from unetjax.training.evaluation import Segmentation
from unetjax.weight_maps.settings import WeightMap

SHOWN = {  # scores worth a line, with their names for people
    "accuracy": "pixel accuracy",
    "mean_iou": "IoU, mean of classes",
    "mean_dice": "Dice, mean of classes",
    "ap50": "AP at IoU 0.5",
    "mean_ap_pooled": "AP, mean of IoU 0.5 to 0.95",
    "separated_touching": "touching pairs separated",
    "separated_close": "pairs within 5 pixels separated",
}
_MOST_CASES = 6


class Comparison(NamedTuple):
    """What the best model and the baseline make of the held-out images.

    Attributes:
      scores: Of every image.
      baseline: Of every image, by Otsu's threshold and connected components; empty
        where there are more classes than two.
      found: What the model found, image by image.
    """

    scores: list[Scores]
    baseline: list[Scores]
    found: list[Segmentation]


def compare(trained: ModelFolder, split: Split) -> Comparison:
    """Returns scores of a model and of a simple baseline on the held-out images."""
    num_classes = trained.model.num_classes
    found = [evaluation.segment(trained, e.image) for e in split.held_out]
    rate = functools.partial(evaluation.score_example, num_classes=num_classes)
    simple = baseline(split, trained.instances) if num_classes == 2 else []
    return Comparison(
        [rate(e, f) for e, f in zip(split.held_out, found, strict=True)],
        [rate(e, f) for e, f in zip(split.held_out, simple, strict=False)],
        found,
    )


def baseline(split: Split, options: Mapping[str, Any]) -> list[Segmentation]:
    """Returns what Otsu's threshold and connected components make of held-out images.

    Args:
      split: The training images say whether cells are brighter than background.
      options: Those of the model's instances; size limit and filled holes are shared.
    """
    sign = 1 if _cells_are_bright(split.train) else -1
    return [_otsu(example, sign, options) for example in split.held_out]


def scores_table(comparison: Comparison, caption: str) -> Table:
    """Returns the scores of the model, beside the baseline's where there is one."""
    ours = evaluation.total(comparison.scores)
    columns = ["score", "U-Net"]
    rows: list[dict[str, int | float | str]] = [
        {"score": words, "U-Net": ours[name]} for name, words in SHOWN.items()
    ]
    if comparison.baseline:
        theirs = evaluation.total(comparison.baseline)
        columns.append("Otsu + components")
        for row, name in zip(rows, SHOWN, strict=True):
            row["Otsu + components"] = theirs[name]
    return Table(columns, rows, caption)


def write(
    folder: pathlib.Path,
    comparison: Comparison,
    split: Split,
    *,
    title: str,
    summary: str,
    weight_map: WeightMap,
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
    ours = evaluation.total(comparison.scores)
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
            _cell_sizes(comparison, split.held_out),
        ],
        cases=_cases(comparison, split.held_out, weight_map),
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
    held_out = [charts.curve(lines, "validation", name) for name in names]
    accuracy = [
        charts.curve(lines, kind, "accuracy") for kind in ("train", "validation")
    ]
    norm = charts.curve(lines, "train", "grad_norm")
    rate = charts.curve(lines, "train", "learning_rate")
    return [
        Chart("Loss", [loss], log=True),
        Chart("Scores of the held-out images", held_out),
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


def _cells_are_bright(examples: Sequence[Example]) -> bool:
    """Whether cells are brighter than background, over the training images."""
    cells = np.concatenate([e.image[e.label == 1].ravel() for e in examples])
    rest = np.concatenate([e.image[e.label == 0].ravel() for e in examples])
    return not cells.size or not rest.size or float(cells.mean()) > float(rest.mean())


def _otsu(example: Example, sign: int, options: Mapping[str, Any]) -> Segmentation:
    shared = {k: v for k, v in options.items() if k in ("min_size", "fill_holes")}
    instances = otsu_components(sign * example.image.mean(axis=-1), **shared)
    label = (instances > 0).astype(np.int32)
    return Segmentation(np.eye(2, dtype=np.float32)[label], label, instances)


def _cases(
    comparison: Comparison, examples: Sequence[Example], weight_map: WeightMap
) -> list[Case]:
    """The worst and the best images, worst first."""
    ap = [evaluation.total([s])["mean_iou"] for s in comparison.scores]
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
    weight_map: WeightMap,
    *,
    place: str,
) -> Case:
    values = evaluation.total([scores])
    return Case(
        example.name,
        watching.panels(example, found, weight_map),
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
