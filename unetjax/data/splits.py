"""Splits into training, validation and test images, without images in common.

Images are drawn by a hash of their pixels, so that neither file names nor their order
matter. A single image is cut in two, with a guard band between the parts.
"""

import hashlib
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from unetjax.data.examples import Example, content_hash
from unetjax.settings import check_range


class Split(NamedTuple):
    """The images of an experiment, none of them in two parts.

    Attributes:
      train: Images to learn from.
      validation: Images that choose the step, the stop and the instance settings.
      test: Images that choose nothing, whose scores are reported; None without any.
    """

    train: list[Example]
    validation: list[Example]
    test: list[Example] | None = None


def random_split(
    examples: Sequence[Example], *, fraction: float, seed: int = 0
) -> Split:
    """Draws a fraction of the images for validation, by their content.

    Images with equal pixels stay in one part together; a shifted, rotated or
    recompressed copy is not recognised.

    Args:
      examples: At least two different images.
      fraction: Fraction of the different images to draw, between 0 and 1; at least one
        is drawn and at least one is left.
      seed: Which of the many such splits, at least 0.

    Returns:
      Both parts, in the order of `examples`.

    Raises:
      ValueError: If there are too few images, or `fraction` is not between 0 and 1.
    """
    check_range("fraction", fraction, above=0, below=1)
    contents = list(map(content_hash, examples))
    ranked = _shuffled(contents, seed)
    if len(ranked) < 2:
        raise ValueError(
            f"{len(examples)} images are copies of one, and at least 2 different ones "
            "are needed; annotate another image, or give that one alone: parts of it "
            "are then set aside."
            if examples
            else "there are no images to split; at least 2 are needed."
        )
    count = min(max(round(fraction * len(ranked)), 1), len(ranked) - 1)
    return _split(examples, contents, set(ranked[:count]))


def folds(examples: Sequence[Example], count: int, *, seed: int = 0) -> list[Split]:
    """Returns the splits of a cross-validation: every image validates exactly once.

    Images are drawn as in `random_split`. The folds have equal numbers of different
    images, up to one.

    Args:
      examples: At least `count` different images.
      count: Number of folds, at least 2.
      seed: Which of the many such partitions, at least 0.

    Raises:
      ValueError: If there are fewer different images than folds, or folds than 2.
    """
    contents = list(map(content_hash, examples))
    ranked = _shuffled(contents, seed)
    if not 2 <= count <= len(ranked):
        raise ValueError(
            f"the number of folds must be between 2 and that of different images, "
            f"{len(ranked)}, got {count}."
        )
    return [_split(examples, contents, set(ranked[i::count])) for i in range(count)]


def without(examples: list[Example], others: list[Example]) -> list[Example]:
    """Returns the examples whose pixels are in none of the others."""
    hashes = {content_hash(other) for other in others}
    return [e for e in examples if content_hash(e) not in hashes]


def check_disjoint(split: Split) -> None:
    """Refuses a split of which two parts have an image in common, under any names.

    Raises:
      ValueError: Naming every such image.
    """
    parts = [
        (name, {content_hash(example): example.name for example in part or ()})
        for name, part in zip(split._fields, split, strict=True)
    ]
    common = [
        f"{a[content]} ({name_a}) is {b[content]} ({name_b})"
        for (name_a, a), (name_b, b) in itertools.combinations(parts, 2)
        for content in b
        if content in a
    ]
    if common:
        raise ValueError(
            "training, validation and test images must differ, but by content "
            f"{', '.join(common)}; remove each from one part."
        )


def split_image(example: Example, *, fraction: float, guard: int) -> Split:
    """Cuts one image along its longer axis: training part, guard band, validation part.

    The validation part is the far end: the bottom, or the right of a wide image. A cell
    that is cut counts in both parts, every 4-connected piece as a cell of its own; the
    cells of each part are numbered from 1.

    Args:
      example: The only annotated image.
      fraction: Fraction of the axis for validation, between 0 and 1, of what the guard
        leaves.
      guard: Pixels that belong to neither part: what the network sees beyond a pixel,
        half of the receptive field, keeps the parts independent.

    Returns:
      One example in each part.

    Raises:
      ValueError: If nothing is left of a part, or `fraction` is not between 0 and 1.
    """
    check_range("fraction", fraction, above=0, below=1)
    height, width = example.label.shape
    axis, length = (0, height) if height >= width else (1, width)
    validation = max(round(fraction * (length - guard)), 1)
    if guard < 0 or validation >= length - guard:
        raise ValueError(
            f"guard must leave pixels on both sides of {example.name}, "
            f"{height} x {width} pixels, got {guard}; try {length // 4}."
        )
    near, far = slice(length - guard - validation), slice(length - validation, None)
    return Split(
        [_part(example, axis, near, "train")],
        [_part(example, axis, far, "validation")],
    )


def _shuffled(contents: Sequence[str], seed: int) -> list[str]:
    """The different hashes, in an order that depends on them and the seed alone."""

    def rank(content: str) -> bytes:
        return hashlib.sha256(f"{seed} {content}".encode()).digest()

    return sorted(set(contents), key=rank)


def _split(
    examples: Sequence[Example], contents: Sequence[str], validation: set[str]
) -> Split:
    pairs = list(zip(examples, contents, strict=True))
    return Split(
        [example for example, content in pairs if content not in validation],
        [example for example, content in pairs if content in validation],
    )


def _part(example: Example, axis: int, part: slice, suffix: str) -> Example:
    box = (part, slice(None)) if axis == 0 else (slice(None), part)
    outside = np.ones(example.instances.shape, bool)
    outside[box] = False
    cut = np.intersect1d(example.instances[box], example.instances[outside])
    return Example(
        example.image[box],
        example.label[box],
        _renumber(example.instances[box], cut[cut > 0]),
        f"{example.name}-{suffix}",
        example.pixel_size,
    )


def _renumber(
    instances: Int[np.ndarray, "H W"], cut: Int[np.ndarray, " n"]
) -> Int[np.ndarray, "H W"]:
    """Numbers cells from 1, and each piece of the cells in `cut` on its own."""
    from skimage import measure, segmentation

    is_cut = np.isin(instances, cut)
    pieces = measure.label(instances, background=0, connectivity=1)
    numbers = np.where(is_cut, instances.max(initial=0) + pieces, instances)
    return segmentation.relabel_sequential(numbers)[0].astype(np.int32)
