"""What the numbers of the masks mean: cells, or classes."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from unetjax.data import checks
from unetjax.data.examples import IGNORED, Example, from_instances, from_labels
from unetjax.settings import check_choice

MaskType = Literal["auto", "instances", "classes"]


class MaskFormat(NamedTuple):
    """How the masks of a data set are read.

    Attributes:
      mask_type: Whether their numbers are cells or classes.
      num_classes: Number of classes with the background; 2 where cells are numbered.
      foreground: The number that stands for class 1: 255 in masks of 0 and 255, else 1.
      words: The same for a person.
    """

    mask_type: Literal["instances", "classes"]
    num_classes: int
    foreground: int
    words: str


def infer_mask_format(
    masks: Sequence[Int[np.ndarray, "_ _"]],
    mask_type: MaskType = "auto",
    *,
    where: str = "the data set",
) -> MaskFormat:
    """Returns what the masks of one data set mean, looking at all of them together.

    Args:
      masks: One array for each image.
      mask_type: The meaning, if it is known.
        `instances`: numbered cells, 0 outside of them.
        `classes`: classes 0, 1, ... without a gap over the data set, or 0 and 255 for
        background and foreground; -1 is ignored. Connected components are cells.
        `auto`: `classes` if no mask has other values than 0 and 1, or than 0 and 255;
        else `instances` if 0 occurs and most numbers mark one connected piece of their
        mask; else `classes`.
      where: What a message calls the masks, a folder perhaps.

    Raises:
      ValueError: If the type is unknown or the values contradict it.

    Example:
      >>> infer_mask_format([np.array([[0, 0, 255]])]).words
      '0/255 read as background and foreground'
    """
    check_choice("mask_type", mask_type, MaskType)
    found: set[int] = set().union(*(np.unique(mask).tolist() for mask in masks))
    values = found - {IGNORED}
    if mask_type == "auto" and not _is_binary(values) and _are_numbered(masks, found):
        mask_type = "instances"
    if mask_type == "instances":
        return _cells(masks, found, where)
    return _classes(values, where)


def to_example(
    image: Shaped[np.ndarray, "H W C"],
    mask: Int[np.ndarray, "H W"],
    name: str,
    meaning: MaskFormat,
) -> Example:
    """Returns the example of an image and its mask, read as `meaning` says."""
    if meaning.mask_type == "instances":
        return from_instances(image, mask, name)
    label = np.where(mask == meaning.foreground, 1, mask)
    return from_labels(image, label, name)


def _is_binary(values: set[int]) -> bool:
    return values <= {0, 1} or values <= {0, 255}


def _are_numbered(masks: Sequence[Int[np.ndarray, "_ _"]], found: set[int]) -> bool:
    """Whether most numbers mark one connected piece, as those of cells do."""
    if min(found) != 0:
        return False
    num_cells = sum(len(np.unique(mask[mask > 0])) for mask in masks)
    num_split = sum(len(checks.split_cells(mask)) for mask in masks)
    return num_split < num_cells / 2


def _cells(
    masks: Sequence[Int[np.ndarray, "_ _"]], found: set[int], where: str
) -> MaskFormat:
    if min(found) < 0:
        raise ValueError(
            f"{where} has masks with {min(found)}; cells are numbered from 1 "
            "and 0 is outside. Only classes have ignored pixels: --mask-type=classes."
        )
    counts = [len(np.unique(mask[mask > 0])) for mask in masks]
    words = f"numbered cells, {min(counts)} to {max(counts)} in an image"
    return MaskFormat("instances", 2, 1, words)


def _classes(values: set[int], where: str) -> MaskFormat:
    if _is_binary(values):
        foreground = max(values | {1})
        words = f"0/{foreground} read as background and foreground"
        return MaskFormat("classes", 2, foreground, words)
    if values != set(range(len(values))):
        listed = checks.listed([str(value) for value in sorted(values)], most=8)
        raise ValueError(
            f"{where} has masks with the values {listed}: neither background and "
            "foreground (0 and 1, or 0 and 255) nor classes 0, 1, 2 without a gap; "
            "renumber them, or say --mask-type=instances if they number cells."
        )
    words = f"0 to {max(values)} read as {len(values)} classes"
    return MaskFormat("classes", len(values), 1, words)
