"""Splits without leaks: of many images by content, of one image by a guard band."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from unetjax.data.examples import Example, Source


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


def content_hash(example: Example) -> str:
    """Returns a hash of the pixels, their type and shape, whatever the name."""
    image = np.ascontiguousarray(example.image)
    header = f"{image.dtype.str} {image.shape}".encode()
    return hashlib.sha256(header + image.tobytes()).hexdigest()


def holdout(examples: Source, *, fraction: float, seed: int = 0) -> Split:
    """Holds a fraction of the images out, chosen by their content.

    Neither the names nor the order of the files matter, and images with equal pixels
    stay on one side together; a shifted, turned or recompressed copy is not recognised.

    Args:
      examples: At least two different images.
      fraction: Part of the different images to hold out, between 0 and 1; at least one
        is held out and at least one is kept.
      seed: Which of the many such splits, at least 0.

    Returns:
      Both parts, in the order of `examples`.

    Raises:
      ValueError: If there are too few images, or `fraction` is not between 0 and 1.
    """
    _check_fraction(fraction)
    contents = _by_content(examples)
    ranked = _shuffled(contents, seed)
    if len(ranked) < 2:
        raise ValueError(
            f"examples must hold at least 2 different images, got {len(ranked)}; "
            "annotate another image, or split one by split_image."
        )
    count = min(max(round(fraction * len(ranked)), 1), len(ranked) - 1)
    return _hold_out(contents, set(ranked[:count]))


def folds(examples: Source, count: int, *, seed: int = 0) -> list[Split]:
    """Returns the splits of a cross-validation: every image is held out exactly once.

    As in `holdout`, content decides, not names or order, and images with equal pixels
    are held out together. The folds have equal numbers of different images, up to one.

    Args:
      examples: At least `count` different images.
      count: Number of folds, at least 2.
      seed: Which of the many such partitions, at least 0.

    Raises:
      ValueError: If there are fewer different images than folds, or folds than 2.
    """
    contents = _by_content(examples)
    ranked = _shuffled(contents, seed)
    if not 2 <= count <= len(ranked):
        raise ValueError(
            f"the number of folds must be between 2 and that of different images, "
            f"{len(ranked)}, got {count}."
        )
    return [_hold_out(contents, set(ranked[i::count])) for i in range(count)]


def without(examples: list[Example], others: list[Example]) -> list[Example]:
    """Returns the examples whose pixels are in none of the others."""
    hashes = {content_hash(other) for other in others}
    return [e for e in examples if content_hash(e) not in hashes]


def check_disjoint(train: Source, validation: Source) -> None:
    """Refuses two sets with an image in common, under whatever names.

    Raises:
      ValueError: FileNaming every such image.
    """
    names = {content_hash(example): example.name for example in _items(train)}
    pairs = ((e.name, names.get(content_hash(e))) for e in _items(validation))
    common = [f"{name} is {same}" for name, same in pairs if same is not None]
    if common:
        raise ValueError(
            f"held-out images must not be trained on, but {', '.join(common)} by "
            "content; remove them from one side."
        )


def split_image(example: Example, *, fraction: float, guard: int) -> Split:
    """Cuts one image along its longer axis: training part, guard band, held-out part.

    The held-out part is the far end: the bottom, or the right of a wide image. A cell
    that is cut counts in both parts, every 4-connected piece as a cell of its own; the
    cells of each part are numbered from 1.

    Args:
      example: The only annotated image.
      fraction: Part of the axis to hold out, between 0 and 1, of what the guard leaves.
      guard: Pixels that belong to neither part: what the network sees beyond a pixel,
        half of the receptive field, keeps the parts independent.

    Returns:
      One example on each side.

    Raises:
      ValueError: If nothing is left on a side, or `fraction` is not between 0 and 1.
    """
    _check_fraction(fraction)
    height, width = example.label.shape
    axis, length = (0, height) if height >= width else (1, width)
    validation = max(round(fraction * (length - guard)), 1)
    if guard < 0 or validation >= length - guard:
        raise ValueError(
            f"guard must leave pixels on both sides of {example.name}, "
            f"{height} x {width} pixels, got {guard}; try {length // 4}."
        )
    train = _part(example, axis, slice(length - guard - validation), "train")
    return Split(
        [train], [_part(example, axis, slice(length - validation, None), "held-out")]
    )


def _items(examples: Source) -> Iterator[Example]:
    return (examples[i] for i in range(len(examples)))


def _by_content(examples: Source) -> list[tuple[Example, str]]:
    return [(example, content_hash(example)) for example in _items(examples)]


def _shuffled(contents: list[tuple[Example, str]], seed: int) -> list[str]:
    """The different hashes, in an order that depends on them and the seed alone."""
    hashes = {content for _, content in contents}
    return sorted(hashes, key=lambda h: hashlib.sha256(f"{seed} {h}".encode()).digest())


def _hold_out(contents: list[tuple[Example, str]], validation: set[str]) -> Split:
    return Split(
        [example for example, content in contents if content not in validation],
        [example for example, content in contents if content in validation],
    )


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise ValueError(
            f"fraction must be between 0 and 1, both excluded, got {fraction}; "
            "0.2 holds a fifth out."
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
    )


def _renumber(
    instances: Int[np.ndarray, "H W"], cut: Int[np.ndarray, " n"]
) -> Int[np.ndarray, "H W"]:
    """Numbers cells from 1, and the pieces of those in `cut` each by itself."""
    from skimage import measure

    is_cut = np.isin(instances, cut)
    pieces = measure.label(instances, background=0, connectivity=1)
    numbers = np.where(is_cut, instances.max(initial=0) + pieces, instances)
    present = np.unique(numbers[numbers > 0])
    return np.where(numbers > 0, np.searchsorted(present, numbers) + 1, 0).astype(
        np.int32
    )
