"""unetjax evaluate: score segmentations against the truth."""

import argparse
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from unetjax.data import folder, mask_formats
from unetjax.data.checks import in_pixels
from unetjax.data.examples import Example
from unetjax.data.mask_formats import MaskFormat
from unetjax.evaluation import comparison
from unetjax.evaluation.score_sets import SCORE_SETS
from unetjax.files import images
from unetjax.inference.segment import Segmentation
from unetjax.metrics.metric import merge_all
from unetjax.reporting import console

_PROBABILITIES = ("_probs", "", "_mask", "_masks")  # endings, in order of preference


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "evaluate",
        help="score segmentations against the truth",
        description="Score masks or label images against true ones. For a.tif of the "
        "truth, a.tif, a_mask.png or a_labels.tif among the predictions is compared; "
        "with --scores em a_probs.tif, which unetjax predict --probabilities writes, "
        "or a mask of 0 and 255.",
    )
    parser.add_argument("predicted", type=pathlib.Path, help="folder, or one file")
    parser.add_argument("truth", type=pathlib.Path, help="folder, or one file")
    parser.add_argument(
        "--scores",
        choices=list(SCORE_SETS),
        default="cells",
        help="cells: IoU, Dice, AP (default); em: V_rand, V_info, warping, Rand and "
        "pixel error of membranes, as in the ISBI 2012 challenge; tracking: SEG, DET, "
        "OP_CSB, as in the Cell Tracking Challenge",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints a line an image, and the scores of all."""
    score_set = SCORE_SETS[options.scores]
    membranes = options.scores == "em"
    naming = folder.FileNaming(endings=_PROBABILITIES) if membranes else folder.USUAL
    pairs = folder.pair(options.truth, options.predicted, naming=naming)
    truth, meaning = _examples([pair.image for pair in pairs], str(options.truth))
    paths = [pair.mask for pair in pairs]
    if membranes:
        _refuse_cells(meaning, str(options.truth))
        named = [prediction for path in paths for prediction in _probabilities(path)]
    else:
        examples, _ = _examples(paths, str(options.predicted))
        num_classes = max(2, 1 + max(int(e.label.max()) for e in [*examples, *truth]))
        named = [(e.name, _segmentation(e, num_classes)) for e in examples]
    for true, (name, prediction) in zip(truth, named, strict=True):
        _refuse_another_size(true, name, prediction)
    predictions = [prediction for _, prediction in named]
    metrics = list(map(score_set.measure, truth, predictions))
    rows = []
    for true, metric in zip(truth, metrics, strict=True):
        scores = metric.compute()
        columns = {title: scores[name] for title, name in score_set.columns.items()}
        rows.append({"image": true.name, **columns})
    print(console.table(rows, ["image", *score_set.columns]))
    print()
    total = {"all": merge_all(metrics).compute()}
    if membranes:  # the floor of these scores is well above 0
        everywhere = comparison.cell_everywhere(truth)
        total["cell everywhere"] = score_set.compute(truth, everywhere)
    table = score_set.table(total)
    print(console.table(table.rows, table.columns))
    return 0


def _examples(
    paths: Sequence[pathlib.Path], where: str
) -> tuple[list[Example], MaskFormat]:
    """The label images, all of them read with one meaning."""
    stacks = [images.read_label_stack(path) for path in paths]
    meaning = mask_formats.infer_mask_format(
        [m for s in stacks for m in s], where=where
    )
    examples = [
        mask_formats.to_example(mask[..., None], mask, _name(path, i, stack), meaning)
        for path, stack in zip(paths, stacks, strict=True)
        for i, mask in enumerate(stack)
    ]
    return examples, meaning


def _segmentation(example: Example, num_classes: int) -> Segmentation:
    """Returns a mask or label image as the prediction of a network."""
    classes = np.eye(num_classes, dtype=np.float32)
    return Segmentation(
        classes[np.maximum(example.label, 0)], example.label, example.instances
    )


def _probabilities(path: pathlib.Path) -> list[tuple[str, Segmentation]]:
    """Returns the predictions in one file: probabilities, or masks as 0 and 1."""
    predictions = []
    for i, values in enumerate(stack := images.read_stack(path)):
        probability = _probability(values, path)
        probs = np.stack([1 - probability, probability], axis=-1)
        mask = (probability > 0.5).astype(np.int32)
        predictions.append((_name(path, i, stack), Segmentation(probs, mask, mask)))
    return predictions


def _probability(values: np.ndarray, path: pathlib.Path) -> Float[np.ndarray, "H W"]:
    """The probability of cells, of one channel or as the sum of all but the first."""
    present = np.unique(values) if values.dtype.kind in "iu" else np.zeros(0)
    if values.dtype.kind in "iu" and not (
        set(present) <= {0, 1} or set(present) <= {0, 255}
    ):
        raise ValueError(
            f"{path} has {len(present)} whole numbers up to {present.max()}, neither "
            "probabilities from 0 to 1 nor a mask of 0 and 255; write probabilities "
            "with  unetjax predict --probabilities, or divide 8-bit ones by 255."
        )
    cells = values if values.shape[-1] == 1 else values[..., 1:]
    return cells.sum(axis=-1, dtype=np.float64) / max(1, present.max(initial=1))


def _refuse_cells(meaning: MaskFormat, where: str) -> None:
    if meaning.mask_type == "instances":
        raise ValueError(
            f"{where} has numbered cells; --scores em compares membranes, which are 0 "
            "in masks of 0 and 255. Use --scores cells or tracking."
        )


def _refuse_another_size(true: Example, name: str, prediction: Segmentation) -> None:
    if true.label.shape != prediction.label.shape:
        raise ValueError(
            f"{name} has {in_pixels(prediction.label.shape)} pixels, and its truth "
            f"{true.name} has {in_pixels(true.label.shape)}; a prediction must be as "
            "large as its image."
        )


def _name(path: pathlib.Path, page: int, stack: np.ndarray) -> str:
    return path.name if len(stack) == 1 else f"{path.name} page {page}"
