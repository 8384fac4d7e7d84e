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
from unetjax.evaluation import score_sets
from unetjax.files import images
from unetjax.inference.segment import Segmentation
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
        choices=list(score_sets.SCORE_SETS),
        default="cells",
        help="cells: IoU, Dice, AP (default); em: V_rand, V_info, warping, Rand and "
        "pixel error of membranes, as in the ISBI 2012 challenge; tracking: SEG, DET, "
        "OP_CSB, as in the Cell Tracking Challenge",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints a line an image, and the scores of all."""
    score_set = score_sets.SCORE_SETS[options.scores]
    membranes = options.scores == "em"
    naming = folder.FileNaming(endings=_PROBABILITIES) if membranes else folder.USUAL
    pairs = folder.pair(options.truth, options.predicted, naming=naming)
    truth, meaning = _examples([pair.image for pair in pairs], str(options.truth))
    paths = [pair.mask for pair in pairs]
    if membranes:
        _refuse_cells(meaning, str(options.truth))
        predicted = [found for path in paths for found in _probabilities(path)]
    else:
        examples, _ = _examples(paths, str(options.predicted))
        predicted = [(e.name, _segmentation(e)) for e in examples]
    for true, (name, found) in zip(truth, predicted, strict=True):
        _refuse_another_size(true, name, found)
    counts = [
        score_set.score(true, found)
        for true, (_, found) in zip(truth, predicted, strict=True)
    ]
    rows = []
    for true, count in zip(truth, counts, strict=True):
        values = score_set.summary(count)
        columns = {name: values[score] for name, score in score_set.columns.items()}
        rows.append({"image": true.name, **columns})
    print(console.table(rows, ["image", *score_set.columns]))
    print()
    scores = {"all": score_sets.total(score_set, counts)}
    if membranes:  # what these scores are worth shows beside those of no segmentation
        floor = [score_set.score(true, score_sets.everywhere(true)) for true in truth]
        scores["cell everywhere"] = score_sets.total(score_set, floor)
    table = score_sets.beside(score_set, scores)
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


def _segmentation(example: Example) -> Segmentation:
    """A mask or label image as what a network would have found."""
    classes = np.eye(max(2, 1 + int(example.label.max())), dtype=np.float32)
    return Segmentation(
        classes[np.maximum(example.label, 0)], example.label, example.instances
    )


def _probabilities(path: pathlib.Path) -> list[tuple[str, Segmentation]]:
    """The predictions in one file: of probabilities, or masks as such of 0 and 1."""
    found = []
    for i, values in enumerate(stack := images.read_stack(path)):
        probability = _probability(values, path)
        probs = np.stack([1 - probability, probability], axis=-1)
        mask = (probability > 0.5).astype(np.int32)
        found.append((_name(path, i, stack), Segmentation(probs, mask, mask)))
    return found


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


def _refuse_another_size(true: Example, name: str, found: Segmentation) -> None:
    if true.label.shape != found.label.shape:
        raise ValueError(
            f"{name} has {in_pixels(found.label.shape)} pixels, and its truth "
            f"{true.name} has {in_pixels(true.label.shape)}; a prediction is as large "
            "as its image."
        )


def _name(path: pathlib.Path, page: int, stack: np.ndarray) -> str:
    return path.name if len(stack) == 1 else f"{path.name} page {page}"
