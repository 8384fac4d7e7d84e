"""Data set checks: all problems of annotated images, each with its remedy."""

import collections
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from unetjax.data.examples import IGNORED, Example, annotation_hash, content_hash
from unetjax.settings import check_finite

# Fraction of pixels equal to their right neighbour: larger in label images, smaller in
# photographs.
_FLAT = 0.85


Severity = Literal["error", "warning"]


class Problem(NamedTuple):
    """A problem of a data set, in one sentence.

    Attributes:
      severity: `error` prevents training, `warning` does not.
      text: The problem, what is accepted, and a remedy.
    """

    severity: Severity
    text: str


def raise_errors(problems: Sequence[Problem]) -> None:
    """Raises one ValueError with all errors, one line each, ignoring warnings."""
    errors = [problem.text for problem in problems if problem.severity == "error"]
    if errors:
        raise ValueError("\n".join(errors))


def sort_problems(problems: Iterable[Problem]) -> list[Problem]:
    """Returns the problems, errors first."""
    return sorted(problems, key=lambda problem: problem.severity != "error")


def check(
    examples: Sequence[Example], *, num_classes: int | None = None
) -> list[Problem]:
    """Returns all problems of a data set, errors first.

    Args:
      examples: The data set; every example is read once.
      num_classes: If given, labels must be below it.

    Example:
      >>> image, blank = np.ones((4, 4, 1), np.uint8), np.zeros((4, 4), np.int32)
      >>> check([Example(image, blank, blank, "a.tif")])[0].text
      'No mask has a cell or a class above 0; there is nothing to learn.'
    """
    examples = list(examples)
    if not examples:
        return [Problem("error", "The data set has no images.")]
    problems = [
        *_differing(
            examples,
            [example.image.shape[-1] for example in examples],
            "Numbers of channels",
            "convert all to grey or all to RGB, or choose --channels",
        ),
        *_differing(
            examples,
            [example.image.dtype.name for example in examples],
            "Types of the grey values",
            "their input scaling must make them alike, or save all in one type",
            severity="warning",
        ),
        *_empty(examples),
        *_without_background(examples),
        *_constant(examples),
        *_duplicates(examples),
        *_shared_masks(examples),
        *_split(examples),
    ]
    for example in examples:
        problems += size(example.name, example.image, example.label)
        problems += _finite(example)
        if num_classes is not None:
            problems += class_range(example.name, example.label, num_classes)
    return sort_problems(problems)


def size(
    name: str, image: Shaped[np.ndarray, "H W C"], mask: Shaped[np.ndarray, "h w"]
) -> list[Problem]:
    """Returns the problem of a mask whose size is not that of its image."""
    if image.shape[:2] == mask.shape:
        return []
    return _error(
        f"{name} is {in_pixels(image.shape)} but its mask {in_pixels(mask.shape)}; "
        "both must have the same size: export the mask without scaling or cropping."
    )


def field_size(
    name: str, shape: Sequence[int], field_of_view: Shaped[np.ndarray, "h w"]
) -> list[Problem]:
    """Returns the problem of a field of view whose size is not that of its image."""
    if field_of_view.shape == tuple(shape[:2]):
        return []
    return _error(
        f"the field of view of {name} has {in_pixels(field_of_view.shape)} pixels, the "
        f"image {in_pixels(shape)}; both must be of one size."
    )


def class_range(
    name: str, label: Int[np.ndarray, "H W"], num_classes: int
) -> list[Problem]:
    """Returns the problem of labels that are neither a class nor `IGNORED`."""
    wrong = label[(label != IGNORED) & ((label < 0) | (label >= num_classes))]
    if not wrong.size:
        return []
    return _error(
        f"{name} has label {wrong.flat[0]} at {wrong.size} pixels; accepted are 0 to "
        f"{num_classes - 1}, and {IGNORED} for ignored pixels: renumber the classes or "
        "raise num_classes."
    )


def are_swapped(
    images: Sequence[Shaped[np.ndarray, "..."]],
    masks: Sequence[Shaped[np.ndarray, "..."]],
) -> bool:
    """Returns whether the images look like labels and the masks like photographs.

    In labels nearly every pixel equals its neighbour; photographs are noisy.

    Args:
      images: Presumed images, [H, W] or [H, W, C] each.
      masks: Presumed masks, likewise.
    """
    if not images or not masks:
        return False
    of_images = np.median([_flatness(image) for image in images])
    of_masks = np.median([_flatness(mask) for mask in masks])
    return bool(of_images > _FLAT > of_masks)


def split_cells(instances: Int[np.ndarray, "H W"]) -> list[int]:
    """Returns the numbers that mark more than one 8-connected piece."""
    from skimage import measure

    pieces = measure.label(instances, background=0, connectivity=2)
    _, first = np.unique(pieces, return_index=True)
    cells = instances.ravel()[first]
    counts = collections.Counter(cells[cells > 0].tolist())
    return sorted(cell for cell, count in counts.items() if count > 1)


def in_pixels(shape: Sequence[int]) -> str:
    """Returns height and width as text, as in 512x512."""
    return f"{shape[0]}x{shape[1]}"


def counted(count: int, noun: str) -> str:
    """Returns a number of things.

    Example:
      >>> counted(1, "image"), counted(2000, "image")
      ('1 image', '2,000 images')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(names: Sequence[str], *, most: int = 5) -> str:
    """Returns the first names, separated by commas, and how many follow.

    Example:
      >>> listed(["a", "b", "c"], most=2)
      'a, b and 1 more'
    """
    shown = ", ".join(names[:most])
    rest = len(names) - most
    return f"{shown} and {rest} more" if rest > 0 else shown


def _error(text: str) -> list[Problem]:
    return [Problem("error", text)]


def _warning(text: str) -> list[Problem]:
    return [Problem("warning", text)]


def _differing(
    examples: Sequence[Example],
    values: Sequence[object],
    noun: str,
    remedy: str,
    *,
    severity: Severity = "error",
) -> list[Problem]:
    """Returns the problem of images whose value is not that of the majority."""
    usual, count = collections.Counter(values).most_common(1)[0]
    odd = [
        f"{example.name} ({value})"
        for example, value in zip(examples, values, strict=True)
        if value != usual
    ]
    if not odd:
        return []
    text = (
        f"{noun} differ: {count} of {len(examples)} images have {usual}, but not "
        f"{listed(odd)}; {remedy}."
    )
    return [Problem(severity, text)]


def _empty(examples: Sequence[Example]) -> list[Problem]:
    empty = [example.name for example in examples if not (example.label > 0).any()]
    if len(empty) == len(examples):
        return _error(
            "No mask has a cell or a class above 0; there is nothing to learn."
        )
    if empty:
        return _warning(
            f"{len(empty)} of {len(examples)} masks are empty: {listed(empty)}; remove "
            "images that are not annotated."
        )
    return []


def _without_background(examples: Sequence[Example]) -> list[Problem]:
    """Returns the problem of masks with one class everywhere that is not background."""
    full = [
        example.name
        for example in examples
        if len(classes := np.unique(example.label[example.label != IGNORED])) == 1
        and classes[0] > 0
    ]
    if not full:
        return []
    return _warning(
        f"{len(full)} of {len(examples)} masks have no background: {listed(full)}; "
        "export the masks again if background is not missing in these images."
    )


def _constant(examples: Sequence[Example]) -> list[Problem]:
    constant = [
        example.name
        for example in examples
        if (example.image == example.image.flat[0]).all()
    ]
    if not constant:
        return []
    return _warning(
        f"{len(constant)} of {len(examples)} images have one grey value everywhere: "
        f"{listed(constant)}; export them again, or remove them and their masks."
    )


def _shared_masks(examples: Sequence[Example]) -> list[Problem]:
    """Returns the problem of different images with one and the same mask."""
    same: dict[str, dict[str, str]] = {}
    for example in examples:
        # Sizes may differ, which is another problem.
        fits = example.label.shape == example.instances.shape
        if fits and (example.label > 0).any():
            group = same.setdefault(annotation_hash(example), {})
            group.setdefault(content_hash(example), example.name)
    return [
        Problem(
            "warning",
            f"{listed(list(group.values()))} are different images with the same mask; "
            "check that each has its own.",
        )
        for group in same.values()
        if len(group) > 1
    ]


def _duplicates(examples: Sequence[Example]) -> list[Problem]:
    same: dict[str, list[str]] = {}
    for example in examples:
        same.setdefault(content_hash(example), []).append(example.name)
    return [
        Problem(
            "warning",
            f"{listed(names)} are the same image; keep one, or validation and test "
            "scores come out too high.",
        )
        for names in same.values()
        if len(names) > 1
    ]


def _finite(example: Example) -> list[Problem]:
    try:
        check_finite(example.name, example.image)
    except ValueError as error:
        return _error(str(error))
    if example.image.dtype.kind != "f" or not example.image.size:
        return []
    highest = float(np.abs(example.image).max())
    if highest > float(np.finfo(np.float32).max):
        return _error(
            f"{example.name} has values up to {highest:.3g}, beyond the range of "
            "float32, in which networks compute (3.4e38); divide the grey values."
        )
    return []


def _split(examples: Sequence[Example]) -> list[Problem]:
    cells = [(example.name, split_cells(example.instances)) for example in examples]
    split = [f"{name} ({listed(list(map(str, ids)))})" for name, ids in cells if ids]
    if not split:
        return []
    return _warning(
        f"{len(split)} of {len(examples)} masks have numbers that mark more than one "
        f"piece: {listed(split)}; give each cell a number of its own."
    )


def _flatness(values: Shaped[np.ndarray, "H W ..."]) -> float:
    """Returns the fraction of pixels that equal their right neighbour."""
    equal = values[:, 1:] == values[:, :-1]
    return float(equal.mean()) if equal.size else 0.0
