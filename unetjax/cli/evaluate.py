"""unetjax evaluate: score segmentations against the truth."""

import argparse
import pathlib

import numpy as np

from unetjax.data import folder, mask_types
from unetjax.data.checks import in_pixels
from unetjax.data.source import Example
from unetjax.files import images
from unetjax.metrics import table
from unetjax.metrics.table import Scores
from unetjax.reporting import console
from unetjax.training import evaluation
from unetjax.training.run_report import SHOWN

_COLUMNS = {
    "mean IoU": "mean_iou",
    "mean Dice": "mean_dice",
    "AP50": "ap50",
    "mean AP": "mean_ap_pooled",
    "separated": "separated_close",
}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "evaluate",
        help="score segmentations against the truth",
        description="Score masks or label images against true ones. For a.tif of the "
        "truth, a.tif, a_mask.png or a_labels.tif among the predictions is compared.",
    )
    parser.add_argument("predicted", type=pathlib.Path, help="folder, or one file")
    parser.add_argument("truth", type=pathlib.Path, help="folder, or one file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints a line an image, and the scores of all."""
    pairs = folder.pair(options.truth, options.predicted)
    truth = _examples([pair.image for pair in pairs], str(options.truth))
    predicted = _examples([pair.mask for pair in pairs], str(options.predicted))
    num_classes = 1 + max(1, *(int(e.label.max()) for e in (*truth, *predicted)))
    scores = [
        _score(true, found, num_classes)
        for true, found in zip(truth, predicted, strict=True)
    ]
    rows = [_row(true.name, score) for true, score in zip(truth, scores, strict=True)]
    print(console.table(rows, ["image", *_COLUMNS]))
    print()
    total = evaluation.total(scores)
    rows = [{"score": words, "all": total[name]} for name, words in SHOWN.items()]
    print(console.table(rows, ["score", "all"]))
    return 0


def _examples(paths: list[pathlib.Path], where: str) -> list[Example]:
    """The label images, all of them read with one meaning."""
    stacks = [images.read_label_stack(path) for path in paths]
    meaning = mask_types.understand([m for s in stacks for m in s], where=where)
    return [
        mask_types.to_example(mask[..., None], mask, _name(path, i, stack), meaning)
        for path, stack in zip(paths, stacks, strict=True)
        for i, mask in enumerate(stack)
    ]


def _name(path: pathlib.Path, page: int, stack: np.ndarray) -> str:
    return path.name if len(stack) == 1 else f"{path.name} page {page}"


def _score(true: Example, found: Example, num_classes: int) -> Scores:
    if true.label.shape != found.label.shape:
        raise ValueError(
            f"{found.name} has {in_pixels(found.label.shape)} pixels, and its truth "
            f"{true.name} has {in_pixels(true.label.shape)}; a prediction is as large "
            "as its image."
        )
    return table.score(
        true.label,
        true.instances,
        found.label,
        found.instances,
        num_classes=num_classes,
    )


def _row(name: str, score: Scores) -> dict[str, int | float | str]:
    values = evaluation.total([score])
    row: dict[str, int | float | str] = {"image": name}
    return row | {column: values[score] for column, score in _COLUMNS.items()}
