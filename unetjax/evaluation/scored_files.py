"""Files that are scored: predictions and their truth, paired, read and compared."""

import pathlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int32

from unetjax.annotations import reading
from unetjax.data import checks, folder, mask_formats
from unetjax.data.checks import in_pixels
from unetjax.data.examples import IGNORED, Example
from unetjax.data.mask_formats import MaskFormat, MaskType
from unetjax.evaluation.prediction_record import RECORD
from unetjax.files import images, names
from unetjax.inference.segmentation import Segmentation

# `labels`: classes or numbered cells. `membranes` and `foreground`: probabilities, or
# masks, of membranes as 0 and of a foreground class as any other number.
ReadAs = Literal["labels", "membranes", "foreground"]
_Paths = tuple[pathlib.Path, pathlib.Path]  # of a truth and its prediction


class Scored(NamedTuple):
    """A prediction and its truth.

    Attributes:
      truth: The annotated image; its pixels are its mask, its name that of its file.
      prediction: The prediction, of the same size.
      name: Name of the file of the prediction.
    """

    truth: Example
    prediction: Segmentation
    name: str


class ScoredFiles(NamedTuple):
    """All predictions that have a truth.

    Attributes:
      scored: Each with its truth; every page of a stack is one.
      meaning: How the numbers of both were read, in one line.
      warnings: Files that were left out, and doubts about the meaning.
    """

    scored: list[Scored]
    meaning: str
    warnings: list[str]


def read(
    predicted: pathlib.Path,
    truth: pathlib.Path,
    *,
    mask_type: MaskType = "auto",
    ignore: int | None = None,
    read_as: ReadAs = "labels",
    within: pathlib.Path | None = None,
    partial: bool = False,
) -> ScoredFiles:
    """Returns all predictions of a folder, each with its truth.

    Files belong together if their names are equal up to the endings of masks, such as
    a_mask.png and a_labels.tif, or as t000_labels.tif and man_seg000.tif.

    Args:
      predicted: Folder of masks or label images, or one file.
      truth: Folder of true masks, or one file.
      mask_type: What the numbers mean, in both.
      ignore: The number of unannotated pixels in the truth, which are not scored.
      read_as: What predictions are; `membranes` and `foreground` prefer probabilities.
      within: Folder of masks of the field of view, or one file; truth is not annotated
        where they are 0.
      partial: Whether true masks without a prediction are left out.

    Raises:
      FileNotFoundError: If a folder or file does not exist.
      ValueError: If files cannot be paired or read, or differ in pages or size.
    """
    labels = read_as == "labels"
    pairs, warnings = pair_files(predicted, truth, labels=labels, partial=partial)
    true = [read_truth(*paths) for paths in pairs]
    outlined = any(reading.is_annotation(path) for path, _ in pairs)
    true_type: MaskType = "instances" if outlined else mask_type
    if outlined and mask_type == "classes":
        raise ValueError(
            f"{truth} has polygons, each of which is a cell, and --mask-type=classes "
            "was given; leave it out."
        )
    pages = [page for stack in true for page in stack]
    if not labels:
        known = mask_formats.infer_mask_format(
            pages, true_type, ignore=ignore, where=str(truth)
        )
        if read_as == "membranes":
            _check_is_membranes(known, str(truth))
        found = [_probabilities(path, read_as) for _, path in pairs]
        meaning = f"truth: {known.description}"
    else:
        masks = [list(images.read_label_stack(path)) for _, path in pairs]
        known, own = infer_formats(
            pages,
            [page for stack in masks for page in stack],
            mask_type,
            true_type,
            ignore=ignore,
            truth=str(truth),
            predicted=str(predicted),
        )
        num_classes = max(known.num_classes, own.num_classes)
        found = [
            [to_segmentation(mask, own, num_classes) for mask in stack]
            for stack in masks
        ]
        meaning = f"truth: {known.description}; predictions: {own.description}"
    fields = folder.fields_of_view([path for path, _ in pairs], within)
    scored = list[Scored]()
    for paths, stack, predictions in zip(pairs, true, found, strict=True):
        if len(stack) != len(predictions):
            raise ValueError(
                f"{paths[0]} holds {len(stack)} label images, but {paths[1]} "
                f"{len(predictions)}; both need the same number of pages."
            )
        for i, (mask, prediction) in enumerate(zip(stack, predictions, strict=True)):
            page = f" page {i}" if len(stack) > 1 else ""
            example = mask_formats.to_example(
                mask[..., None], mask, paths[0].name + page, known
            )
            scored.append(Scored(example, prediction, paths[1].name + page))
            _check_size(scored[-1])
        if fields:
            views = folder.read_field_of_view(fields[paths[0]], len(stack))
            scored[-len(stack) :] = [
                each._replace(truth=mask_formats.restrict(each.truth, view))
                for each, view in zip(scored[-len(stack) :], views, strict=True)
            ]
    return ScoredFiles(scored, meaning, [*warnings, *known.doubts])


def pair_files(
    predicted: pathlib.Path, truth: pathlib.Path, *, labels: bool, partial: bool
) -> tuple[list[_Paths], list[str]]:
    """Returns the files of truths and predictions, and warnings about the others.

    Args:
      predicted: See `read`, as for `truth` and `partial`.
      truth: Folder of true masks, or one file.
      labels: Whether predictions are masks or label images, not probabilities.
      partial: Whether true masks without a prediction are left out.

    Raises:
      FileNotFoundError: If a folder or file does not exist.
      ValueError: If a truth has no prediction, or several.
    """
    if truth.is_file() and predicted.is_file():
        return [(truth, predicted)], []
    pictures = (names.OVERLAY, names.UNCERTAINTY)
    left_out = (*pictures, names.PROBS) if labels else pictures
    by_name: dict[str, list[pathlib.Path]] = {}
    for path in folder.list_images(predicted):
        stem = names.stem(path)
        if not stem.endswith(left_out):
            stem = stem.removesuffix(names.PROBS)
            by_name.setdefault(names.common(stem), []).append(path)
    pairs, missing, problems = list[_Paths](), list[str](), list[str]()
    for path in _truths(truth):
        stem = _stem(path)
        whole, shared = stem.casefold(), names.common(stem)
        found = by_name.pop(whole, None) or by_name.pop(shared, [])
        probs = [each for each in found if names.stem(each).endswith(names.PROBS)]
        found = probs or found
        if not found:
            missing.append(str(path))
        elif len(found) > 1:
            several = checks.listed([str(each) for each in found])
            problems.append(f"{path} has several predictions, {several}; keep one.")
        else:
            pairs.append((path, found[0]))
    warnings = list[str]()
    if missing:
        text = f"{len(missing)} true masks have no prediction: {checks.listed(missing)}"
        if partial and pairs:
            warnings.append(f"{text}; they are not scored.")
        else:
            found = folder.list_unread(predicted)
            unread = [each for each in found if each != RECORD]
            others = f" Not read are {checks.listed(unread)}." if unread else ""
            problems.append(
                f"{text}; the prediction of a.tif is a.tif, a_mask.png or a_labels.tif "
                f"(--partial scores the others).{others}"
            )
    if problems:
        raise ValueError("\n".join(problems))
    unused = [str(path) for paths in by_name.values() for path in paths]
    if unused:
        warnings.append(
            f"{len(unused)} predictions have no truth and are not scored: "
            f"{checks.listed(unused)}."
        )
    return pairs, warnings


def _stem(path: pathlib.Path) -> str:
    """Returns the name of a true mask without its ending."""
    is_outlined = reading.is_annotation(path)
    return folder.outlined_stem(path) if is_outlined else names.stem(path)


def read_truth(
    path: pathlib.Path, predicted: pathlib.Path
) -> list[Int32[np.ndarray, "H W"]]:
    """Returns the pages of a true mask; polygons have the size of the prediction.

    Raises:
      ValueError: If a file cannot be read.
    """
    if not reading.is_annotation(path):
        return list(images.read_label_stack(path))
    count, height, width, _ = images.read_stack(predicted).shape
    return list(reading.read(path, path, (count, height, width)))


def _truths(truth: pathlib.Path) -> list[pathlib.Path]:
    """Returns the masks of a folder; images beside them are no truth."""
    paths = folder.list_masks(truth)
    by_name: dict[str, list[pathlib.Path]] = {}
    for path in paths:
        by_name.setdefault(names.common(_stem(path)), []).append(path)
    for same in by_name.values():
        masks = [path for path in same if names.is_mask(names.stem(path))]
        if len(same) > 1 and len(masks) != 1:
            listed = checks.listed([str(path) for path in same])
            raise ValueError(
                f"{truth} has several masks of one image, {listed}; keep one."
            )
        if len(same) > 1:
            paths = [path for path in paths if path in masks or path not in same]
    return paths


def infer_formats(
    true: Sequence[Int[np.ndarray, "_ _"]],
    masks: Sequence[Int[np.ndarray, "_ _"]],
    mask_type: MaskType,
    true_type: MaskType,
    *,
    ignore: int | None,
    truth: str,
    predicted: str,
) -> tuple[MaskFormat, MaskFormat]:
    """Returns how the numbers of the truth and of the predictions are read.

    The truth decides. Predictions of background and foreground fit every truth of
    these two or of cells, and numbered cells fit background and foreground.

    Args:
      true: True masks.
      masks: Predictions.
      mask_type: What the numbers mean, in both.
      true_type: What they mean in the truth: polygons are cells.
      ignore: The number of unannotated pixels in the truth.
      truth: What messages call the true masks.
      predicted: What they call the predictions.

    Raises:
      ValueError: If the numbers contradict the types or each other.
    """
    known = mask_formats.infer_mask_format(true, true_type, ignore=ignore, where=truth)
    is_binary = len(_numbers(masks)) < 3
    if known.mask_type == "instances":
        kind = "classes" if is_binary and mask_type == "auto" else "instances"
        return known, mask_formats.infer_mask_format(masks, kind, where=predicted)
    if known.num_classes == 2:
        own = mask_formats.infer_mask_format(masks, mask_type, where=predicted)
        if own.num_classes == 2:
            return known, own
        both = mask_formats.infer_mask_format(
            [*true, *masks],
            "classes",
            ignore=ignore,
            where=f"{truth} or {predicted}",
        )
        return both, both
    classes = set(range(known.num_classes))
    foreign = sorted(_numbers(masks) - classes - set(known.ignored))
    if foreign:
        raise ValueError(
            f"{predicted} has the values {checks.listed(list(map(str, foreign)))}, but "
            f"the classes of {truth} are 0 to {known.num_classes - 1}; renumber the "
            "predictions, or use --mask-type=instances if both number cells."
        )
    return known, known


def _numbers(masks: Sequence[Int[np.ndarray, "_ _"]]) -> set[int]:
    values: set[int] = set().union(*(np.unique(mask).tolist() for mask in masks))
    return values - {IGNORED}


def to_segmentation(
    mask: Int[np.ndarray, "H W"], mask_format: MaskFormat, num_classes: int
) -> Segmentation:
    """Returns a mask or label image as a prediction of probabilities 0 and 1."""
    example = mask_formats.to_example(mask[..., None], mask, "", mask_format)
    label = np.maximum(example.label, 0)
    probs = np.eye(num_classes, dtype=np.float32)[label]
    return Segmentation(probs, label, example.instances)


def _probabilities(path: pathlib.Path, read_as: ReadAs) -> list[Segmentation]:
    """Returns the predictions in one file: probabilities, or masks as 0 and 1."""
    predictions = []
    for values in images.read_stack(path):
        if read_as == "foreground" and values.dtype.kind in "iub":
            values = (values > 0).astype(np.uint8)
        probability = _probability(values, path)
        probs = np.stack([1 - probability, probability], axis=-1)
        mask = (probability > 0.5).astype(np.int32)
        predictions.append(Segmentation(probs, mask, mask))
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


def _check_size(scored: Scored) -> None:
    true, prediction = scored.truth.label, scored.prediction.label
    if true.shape != prediction.shape:
        raise ValueError(
            f"{scored.name} has {in_pixels(prediction.shape)} pixels, and its truth "
            f"{scored.truth.name} has {in_pixels(true.shape)}; a prediction must be as "
            "large as its image."
        )
