"""Files that are scored: predictions and their truth, paired, read and compared."""

import pathlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from unetjax.data import folder, mask_formats
from unetjax.data.checks import in_pixels
from unetjax.data.examples import IGNORED, Example
from unetjax.data.mask_formats import MaskFormat
from unetjax.files import images
from unetjax.inference.segment import Segmentation

_PROBABILITIES = ("_probs", "", "_mask", "_masks")  # endings, in order of preference
_FIELDS_OF_VIEW = ("", "_mask", "_masks", "_fov", "_FOV")
# `labels`: classes or numbered cells. `membranes` and `foreground`: probabilities, or
# masks, of membranes as 0 and of a foreground class as any other number.
ReadAs = Literal["labels", "membranes", "foreground"]


class Scored(NamedTuple):
    """A prediction and its truth.

    Attributes:
      truth: The annotated image; its pixels are its mask.
      prediction: The prediction of the same size.
    """

    truth: Example
    prediction: Segmentation


def read(
    predicted: pathlib.Path,
    truth: pathlib.Path,
    *,
    read_as: ReadAs = "labels",
    within: pathlib.Path | None = None,
) -> list[Scored]:
    """Returns all predictions of a folder, each with its truth.

    Args:
      predicted: Folder of masks or label images, or one file.
      truth: Folder of true masks, or one file.
      read_as: What predictions are; `membranes` and `foreground` prefer probabilities.
      within: Folder of masks of the field of view, or one file; truth is not annotated
        where they are 0.

    Raises:
      FileNotFoundError: If a folder or file does not exist.
      ValueError: If files cannot be paired or read, or differ in size.
    """
    labels = read_as == "labels"
    naming = folder.USUAL if labels else folder.FileNaming(endings=_PROBABILITIES)
    pairs = folder.pair(truth, predicted, naming=naming)
    examples, mask_format = _examples([pair.image for pair in pairs], str(truth))
    paths = [pair.mask for pair in pairs]
    if read_as == "membranes":
        _check_is_membranes(mask_format, str(truth))
    if not labels:
        named = [each for path in paths for each in _probabilities(path, read_as)]
    else:
        found, _ = _examples(paths, str(predicted))
        num_classes = max(2, 1 + max(int(e.label.max()) for e in [*found, *examples]))
        named = [(e.name, _segmentation(e, num_classes)) for e in found]
    for true, (name, prediction) in zip(examples, named, strict=True):
        _check_size(true, name, prediction)
    if within is not None:
        naming = folder.FileNaming(endings=_FIELDS_OF_VIEW)
        fields = folder.pair(truth, within, naming=naming)
        masks = [m for pair in fields for m in images.read_label_stack(pair.mask)]
        examples = [
            _restrict(example, mask)
            for example, mask in zip(examples, masks, strict=True)
        ]
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


def _restrict(example: Example, field_of_view: np.ndarray) -> Example:
    """Returns the example without annotation where the field of view is 0."""
    if field_of_view.shape != example.label.shape:
        raise ValueError(
            f"the field of view of {example.name} has "
            f"{in_pixels(field_of_view.shape)} pixels, the image "
            f"{in_pixels(example.label.shape)}; both must be of one size."
        )
    label = np.where(field_of_view > 0, example.label, IGNORED).astype(np.int32)
    return example._replace(label=label)


def _probabilities(
    path: pathlib.Path, read_as: ReadAs
) -> list[tuple[str, Segmentation]]:
    """Returns the predictions in one file: probabilities, or masks as 0 and 1."""
    predictions = []
    for i, values in enumerate(stack := images.read_stack(path)):
        if read_as == "foreground" and values.dtype.kind in "iub":
            values = (values > 0).astype(np.uint8)
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
