"""Files that are scored: predictions and their truth, paired, read and compared."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unetjax.data import folder, mask_formats
from unetjax.data.checks import in_pixels
from unetjax.data.examples import Example
from unetjax.data.mask_formats import MaskFormat
from unetjax.files import images
from unetjax.inference.segment import Segmentation

_PROBABILITIES = ("_probs", "", "_mask", "_masks")  # endings, in order of preference


class Scored(NamedTuple):
    """A prediction and its truth.

    Attributes:
      truth: The annotated image; its pixels are its mask.
      prediction: The prediction of the same size.
    """

    truth: Example
    prediction: Segmentation


def read(
    predicted: pathlib.Path, truth: pathlib.Path, *, membranes: bool = False
) -> list[Scored]:
    """Returns all predictions of a folder, each with its truth.

    Args:
      predicted: Folder of masks or label images, or one file.
      truth: Folder of true masks, or one file.
      membranes: Whether predictions are probabilities, or masks of 0 and 255.

    Raises:
      FileNotFoundError: If a folder or file does not exist.
      ValueError: If files cannot be paired or read, or differ in size.
    """
    naming = folder.FileNaming(endings=_PROBABILITIES) if membranes else folder.USUAL
    pairs = folder.pair(truth, predicted, naming=naming)
    examples, mask_format = _examples([pair.image for pair in pairs], str(truth))
    paths = [pair.mask for pair in pairs]
    if membranes:
        _check_is_membranes(mask_format, str(truth))
        named = [prediction for path in paths for prediction in _probabilities(path)]
    else:
        found, _ = _examples(paths, str(predicted))
        num_classes = max(2, 1 + max(int(e.label.max()) for e in [*found, *examples]))
        named = [(e.name, _segmentation(e, num_classes)) for e in found]
    for true, (name, prediction) in zip(examples, named, strict=True):
        _check_size(true, name, prediction)
    return [
        Scored(true, prediction)
        for true, (_, prediction) in zip(examples, named, strict=True)
    ]


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
