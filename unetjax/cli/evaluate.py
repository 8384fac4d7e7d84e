"""unetjax evaluate: score predicted masks or label images against the truth."""

import argparse
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from unetjax.cli.command import ArgumentParser
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
_DESCRIPTION = """\
Score predicted masks or label images against the truth. The prediction for a.tif of the
truth is a.tif, a_mask.png or a_labels.tif; with --scores em it is a_probs.tif, written
by unetjax predict --probabilities, or a mask of 0 and 255.
"""
_EXAMPLES = """\
examples:
  unetjax evaluate out/ masks/
  unetjax evaluate out/ membranes/ --scores em
"""


def add_parser(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "evaluate",
        help="score predictions against the truth",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "predicted", type=pathlib.Path, help="folder of predictions, or one file"
    )
    parser.add_argument(
        "truth", type=pathlib.Path, help="folder of true masks, or one file"
    )
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
    """Prints the scores of each image and of all images together."""
    score_set = SCORE_SETS[options.scores]
    membranes = options.scores == "em"
    naming = folder.FileNaming(endings=_PROBABILITIES) if membranes else folder.USUAL
    pairs = folder.pair(options.truth, options.predicted, naming=naming)
    truth, mask_format = _examples([pair.image for pair in pairs], str(options.truth))
    paths = [pair.mask for pair in pairs]
    if membranes:
        _check_is_membranes(mask_format, str(options.truth))
        named = [prediction for path in paths for prediction in _probabilities(path)]
    else:
        examples, _ = _examples(paths, str(options.predicted))
        num_classes = max(2, 1 + max(int(e.label.max()) for e in [*examples, *truth]))
        named = [(e.name, _segmentation(e, num_classes)) for e in examples]
    for true, (name, prediction) in zip(truth, named, strict=True):
        _check_size(true, name, prediction)
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
    """Reads label images, all in the same format, and returns that as well."""
    stacks = [images.read_label_stack(path) for path in paths]
    mask_format = mask_formats.infer_mask_format(
        [m for s in stacks for m in s], where=where
    )
    examples = [
        mask_formats.to_example(
            mask[..., None], mask, _name(path, i, stack), mask_format
        )
        for path, stack in zip(paths, stacks, strict=True)
        for i, mask in enumerate(stack)
    ]
    return examples, mask_format


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
    """Returns the probability of cells: the only channel, or all but the first."""
    present = np.unique(values) if values.dtype.kind in "iu" else np.zeros(0)
    if values.dtype.kind in "iu" and not (
        set(present) <= {0, 1} or set(present) <= {0, 255}
    ):
        raise ValueError(
            f"{path} has {len(present)} integers up to {present.max()}, neither "
            "probabilities from 0 to 1 nor a mask of 0 and 255; write probabilities "
            "with  unetjax predict --probabilities, or divide 8-bit ones by 255."
        )
    cells = values if values.shape[-1] == 1 else values[..., 1:]
    return cells.sum(axis=-1, dtype=np.float64) / max(1, present.max(initial=1))


def _check_is_membranes(mask_format: MaskFormat, where: str) -> None:
    if mask_format.mask_type == "instances":
        raise ValueError(
            f"{where} has numbered cells, but --scores em compares membranes, which "
            "are 0 in masks of 0 and 255; use --scores cells or tracking."
        )


def _check_size(true: Example, name: str, prediction: Segmentation) -> None:
    if true.label.shape != prediction.label.shape:
        raise ValueError(
            f"{name} has {in_pixels(prediction.label.shape)} pixels, and its truth "
            f"{true.name} has {in_pixels(true.label.shape)}; a prediction must be as "
            "large as its image."
        )


def _name(path: pathlib.Path, page: int, stack: np.ndarray) -> str:
    return path.name if len(stack) == 1 else f"{path.name} page {page}"
