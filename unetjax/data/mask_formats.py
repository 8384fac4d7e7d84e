"""Mask formats: whether the numbers in masks are instances or classes."""

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
      mask_type: Whether their numbers are instances or classes.
      num_classes: Number of classes, background included; 2 for instances.
      foreground: The number of class 1: 255 in masks of 0 and 255, else 1.
      description: A phrase for messages.
    """

    mask_type: Literal["instances", "classes"]
    num_classes: int
    foreground: int
    description: str


def infer_mask_format(
    masks: Sequence[Int[np.ndarray, "_ _"]],
    mask_type: MaskType = "auto",
    *,
    where: str = "the data set",
) -> MaskFormat:
    """Returns the format of the masks of a data set, from all of them together.

    Args:
      masks: One array for each image.
      mask_type: The type, if it is known.
        `instances`: numbered cells, with 0 for background.
        `classes`: classes 0, 1, ... without a gap over the data set, or 0 and 255 for
        background and foreground; -1 is ignored. Connected components are cells.
        `auto`: `classes` if all values are 0 and 1, or 0 and 255; otherwise `instances`
        if 0 occurs and most numbers mark one connected piece of their mask; otherwise
        `classes`.
      where: What messages call the masks, such as the path of their folder.

    Raises:
      ValueError: If the type is unknown or the values contradict it.

    Example:
      >>> infer_mask_format([np.array([[0, 0, 255]])]).description
      '0/255 read as background and foreground'
    """
    check_choice("mask_type", mask_type, MaskType)
    values: set[int] = set().union(*(np.unique(mask).tolist() for mask in masks))
    classes = values - {IGNORED}
    if mask_type == "auto" and not _is_binary(classes) and _are_numbered(masks, values):
        mask_type = "instances"
    if mask_type == "instances":
        return _instance_format(masks, values, where)
    return _class_format(classes, where)


def to_example(
    image: Shaped[np.ndarray, "H W C"],
    mask: Int[np.ndarray, "H W"],
    name: str,
    mask_format: MaskFormat,
) -> Example:
    """Returns the example of an image and its mask."""
    if mask_format.mask_type == "instances":
        return from_instances(image, mask, name)
    label = np.where(mask == mask_format.foreground, 1, mask)
    return from_labels(image, label, name)


def _is_binary(values: set[int]) -> bool:
    return values <= {0, 1} or values <= {0, 255}


def _are_numbered(masks: Sequence[Int[np.ndarray, "_ _"]], values: set[int]) -> bool:
    """Returns whether most numbers mark one connected piece, as those of cells do."""
    if min(values) != 0:
        return False
    num_cells = sum(len(np.unique(mask[mask > 0])) for mask in masks)
    num_split = sum(len(checks.split_cells(mask)) for mask in masks)
    return num_split < num_cells / 2


def _instance_format(
    masks: Sequence[Int[np.ndarray, "_ _"]], values: set[int], where: str
) -> MaskFormat:
    if min(values) < 0:
        raise ValueError(
            f"{where} has masks with the value {min(values)}; cells are numbered from "
            "1, and 0 is background. Ignored pixels need --mask-type=classes."
        )
    counts = [len(np.unique(mask[mask > 0])) for mask in masks]
    description = f"numbered cells, {min(counts)} to {max(counts)} per image"
    return MaskFormat("instances", 2, 1, description)


def _class_format(classes: set[int], where: str) -> MaskFormat:
    if _is_binary(classes):
        foreground = max(classes | {1})
        description = f"0/{foreground} read as background and foreground"
        return MaskFormat("classes", 2, foreground, description)
    if classes != set(range(len(classes))):
        listed = checks.listed([str(value) for value in sorted(classes)], most=8)
        raise ValueError(
            f"{where} has masks with the values {listed}: neither background and "
            "foreground (0 and 1, or 0 and 255) nor classes 0, 1, 2 without a gap; "
            "renumber them, or use --mask-type=instances if they number cells."
        )
    description = f"0 to {max(classes)} read as {len(classes)} classes"
    return MaskFormat("classes", len(classes), 1, description)
