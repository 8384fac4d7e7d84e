"""Mask formats: whether the numbers in masks are instances or classes."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from unetjax.data import checks
from unetjax.data.examples import IGNORED, Example, from_instances, from_labels
from unetjax.settings import check_choice

MaskType = Literal["auto", "instances", "classes"]

_VOID = 255  # what Pascal VOC writes where nothing is annotated
_FEW = 10  # numbers: more of them are cells
_SLIVER = 4  # pixels of a piece that interpolation between two numbers has made
_STRAY = 2  # pixels of a number that a slip of the pen has made


class MaskFormat(NamedTuple):
    """How the masks of a data set are read.

    Attributes:
      mask_type: Whether their numbers are instances or classes.
      num_classes: Number of classes, background included; 2 for instances.
      foreground: The number of class 1, such as 255 in masks of 0 and 255.
      description: A phrase for messages.
      background: The number of class 0.
      ignored: Numbers that mark pixels which are not annotated.
      doubts: What speaks against this format, one sentence each.
      reason: Why the masks are read so, as the end of a sentence.
    """

    mask_type: Literal["instances", "classes"]
    num_classes: int
    foreground: int
    description: str
    background: int = 0
    ignored: tuple[int, ...] = (IGNORED,)
    doubts: tuple[str, ...] = ()
    reason: str = ""


def infer_mask_format(
    masks: Sequence[Int[np.ndarray, "_ _"]],
    mask_type: MaskType = "auto",
    *,
    ignore: int | None = None,
    where: str = "the data set",
) -> MaskFormat:
    """Returns the format of the masks of a data set, from all of them together.

    Pixels of -1 are not annotated, nor are those of `ignore`; if that is not given,
    nor are those of 255 beside numbers 0, 1, ... K without a gap, as in Pascal VOC.
    Without these:

    1. Two numbers are background and foreground, the larger one being foreground.
    2. Numbers that mark one connected piece each are instances, if 0 occurs, except
       1 and 2 in each of several masks.
    3. All others are classes.

    Args:
      masks: One array for each image.
      mask_type: The type, if it is known.
        `instances`: numbered cells, with 0 for background.
        `classes`: background and foreground, or classes 0, 1, ... without a gap over
        the data set. Connected components are cells.
        `auto`: inferred by the rules above.
      ignore: The number of pixels that are not annotated, beside -1.
      where: What messages call the masks, such as the path of their folder.

    Raises:
      ValueError: If the type is unknown or the values contradict it.

    Example:
      >>> infer_mask_format([np.array([[0, 0, 255]])]).description
      '0/255 read as background and foreground'
    """
    check_choice("mask_type", mask_type, MaskType)
    values: set[int] = set().union(*(np.unique(mask).tolist() for mask in masks))
    if ignore is None:
        has_void = _has_void(values)
        if has_void:
            _check_void(masks, values, where)
        ignored = {IGNORED} | ({_VOID} if has_void else set())
    else:
        ignored = {IGNORED, ignore}
    present = sorted(values - ignored)
    doubts = _large_void(masks) if ignore is None and _VOID in ignored else []
    masks = [np.where(np.isin(mask, [*ignored]), 0, mask) for mask in masks]
    inferred: MaskType = mask_type
    if mask_type == "auto":
        _check_sharp(masks, present, where)
        numbers = [set(np.unique(mask[mask > 0]).tolist()) for mask in masks]
        is_numbered = len(present) > 2 and _are_numbered(masks, present, numbers)
        if (
            is_numbered and ignore is None and _VOID in ignored
        ):  # the masks of VOC begin at 1 in each file
            is_numbered = all(each == set(range(1, len(each) + 1)) for each in numbers)
        inferred = "instances" if is_numbered else "classes"
    if inferred == "instances":
        if 0 in ignored:
            raise ValueError(
                f"{where} has numbered cells, in which 0 is background and cannot be "
                "ignored; give background and unannotated pixels two numbers."
            )
        found = _instance_format(masks, present, where)
    else:
        found = _class_format(present, where)
    doubts += [
        *_strays(masks),
        *_wrapped(present, found),
        *_slivers(masks, len(present)),
    ]
    if ignore not in (None, IGNORED, *values):  # -1 says that 255 is annotated
        doubts.append(f"No mask has a pixel of {ignore}, which --ignore names.")
    if mask_type == "auto" and len(present) > 2:
        doubts += _doubts(masks, found)
    return found._replace(
        description=found.description
        + _describe_ignored(ignored & values, is_rule=ignore is None),
        ignored=tuple(sorted(ignored)),
        doubts=tuple(doubts),
        reason=_reason(found, mask_type, num_numbers=len(present)),
    )


def to_example(
    image: Shaped[np.ndarray, "H W C"],
    mask: Int[np.ndarray, "H W"],
    name: str,
    mask_format: MaskFormat,
) -> Example:
    """Returns the example of an image and its mask."""
    mask = np.where(np.isin(mask, mask_format.ignored), IGNORED, mask)
    if mask_format.mask_type == "instances":
        return from_instances(image, mask, name)
    label = mask
    if mask_format.num_classes == 2:
        label = np.where(mask == mask_format.background, 0, mask)
        label = np.where(mask == mask_format.foreground, 1, label)
    return from_labels(image, label, name)


def restrict(example: Example, field_of_view: Shaped[np.ndarray, "h w"]) -> Example:
    """Returns the example without annotation where the field of view is 0.

    Instances stay, so that a cell at the edge of the field keeps its size.

    Raises:
      ValueError: If the sizes differ.
    """
    shape = example.label.shape
    checks.raise_errors(checks.field_size(example.name, shape, field_of_view))
    label = np.where(field_of_view > 0, example.label, IGNORED).astype(np.int32)
    return example._replace(label=label)


def _reason(found: MaskFormat, mask_type: MaskType, *, num_numbers: int) -> str:
    """Returns which rule of `infer_mask_format` has decided."""
    if mask_type != "auto":
        return f"--mask-type={mask_type} says so"
    if num_numbers <= 2:
        return "there are no more than two numbers"
    if found.mask_type == "instances":
        return "most numbers mark one connected piece in an image"
    return "numbers mark several pieces in an image, or are 1 and 2 in every image"


def _has_void(values: set[int]) -> bool:
    """Returns whether 255 stands above numbers 0, 1, ... K and a gap."""
    below = values - {IGNORED, _VOID}
    is_above = _VOID in values and _VOID - 1 not in values
    return is_above and len(below) > 1 and below == set(range(len(below)))


def _check_void(
    masks: Sequence[Int[np.ndarray, "_ _"]], values: set[int], where: str
) -> None:
    """Refuses masks of 0 and 255 in which slips of the pen look like classes."""
    others = values - {IGNORED, 0, _VOID}
    largest = max(np.count_nonzero(mask == each) for each in others for mask in masks)
    if largest <= _STRAY and any(np.any(mask == _VOID) for mask in masks):
        listed = checks.listed([str(value) for value in sorted(others)])
        raise ValueError(
            f"{where} has masks of 0 and {_VOID}, and {listed} in {_STRAY} pixels or "
            f"fewer of a mask; set these to 0 or {_VOID}, or use --ignore={IGNORED} or "
            f"--ignore={_VOID} to say whether {_VOID} is annotated."
        )


def _check_sharp(
    masks: Sequence[Int[np.ndarray, "_ _"]], present: Sequence[int], where: str
) -> None:
    """Refuses masks whose other values lie on the rim of the foreground.

    Smoothing and scaling of a mask of 0 and 255 make them. Where these are not near the
    foreground, as of strong smoothing, they grow towards it from pixel to pixel.
    """
    is_gapless = present == list(range(len(present)))
    if len(present) < 3 or present[0] < 0 or (is_gapless and len(present) <= _FEW):
        return
    from skimage import morphology

    top, between, on_rim, rising = present[-1], 0, 0, 0
    for mask in masks:
        is_between = (mask > present[0]) & (mask < top)
        between += np.count_nonzero(is_between)
        near = morphology.dilation(mask == top, np.ones((5, 5), bool))
        on_rim += np.count_nonzero(is_between & near)
        higher = morphology.dilation(mask, np.ones((3, 3), bool)) > mask
        rising += np.count_nonzero(is_between & higher)
    if max(0 if is_gapless else on_rim, rising) > 0.9 * between:
        ignore = f"; use --ignore={present[1]} if that marks unannotated pixels"
        raise ValueError(
            f"{where} has masks with values such as {present[1]} on the rim between "
            f"{present[0]} and {top}: they were smoothed or scaled; export them "
            f"without interpolation, or set each pixel to {present[0]} or {top}"
            f"{ignore if len(present) == 3 else ''}."
        )


def _are_numbered(
    masks: Sequence[Int[np.ndarray, "_ _"]],
    present: Sequence[int],
    numbers: Sequence[set[int]],
) -> bool:
    """Returns whether numbers mark one connected piece each, as those of cells do."""
    if present[0] != 0 or (len(masks) > 1 and all(x == {1, 2} for x in numbers)):
        return False
    num_split = sum(len(checks.split_cells(mask)) for mask in masks)
    return num_split < sum(map(len, numbers)) / 2


def _instance_format(
    masks: Sequence[Int[np.ndarray, "_ _"]], present: Sequence[int], where: str
) -> MaskFormat:
    if present and present[0] < 0:
        raise ValueError(
            f"{where} has masks with the value {present[0]}; cells are numbered from "
            f"1, 0 is background, and {IGNORED} is not annotated; use "
            f"--ignore={present[0]} if that marks unannotated pixels."
        )
    counts = [len(np.unique(mask[mask > 0])) for mask in masks]
    description = f"numbered cells, {min(counts)} to {max(counts)} per image"
    return MaskFormat("instances", 2, 1, description)


def _class_format(present: Sequence[int], where: str) -> MaskFormat:
    if len(present) < 3 and min(present, default=0) >= 0:
        foreground = max(present, default=0) or 1
        background = present[0] if len(present) == 2 else 0
        description = f"{background}/{foreground} read as background and foreground"
        return MaskFormat("classes", 2, foreground, description, background)
    if present != list(range(len(present))):
        listed = checks.listed([str(value) for value in present], most=8)
        lossy = "export them without smoothing or JPEG, or " if len(present) > 5 else ""
        raise ValueError(
            f"{where} has masks with the values {listed}: neither background and "
            "foreground, which are two, nor classes 0, 1, 2 without a gap (-1 is "
            f"ignored, and so is {_VOID} above them); {lossy}renumber them, or use "
            "--mask-type=instances if they number cells, or --ignore=VALUE if one of "
            "them marks unannotated pixels."
        )
    description = f"0 to {present[-1]} read as {len(present)} classes"
    return MaskFormat("classes", len(present), 1, description)


def _describe_ignored(ignored: set[int], *, is_rule: bool) -> str:
    """Returns which numbers are ignored; how not to, where a rule has decided."""
    if not ignored:
        return ""
    listed = " and ".join(map(str, sorted(ignored)))
    otherwise = f"; --ignore={IGNORED} keeps {_VOID}"
    has_void = is_rule and _VOID in ignored
    return f", {listed} ignored as not annotated{otherwise if has_void else ''}"


def _strays(masks: Sequence[Int[np.ndarray, "_ _"]]) -> list[str]:
    """Returns a sentence if numbers mark a pixel or two where others mark many."""
    strays = []
    for mask in masks:
        found = np.unique_counts(mask[mask > 0])
        if found.counts.size > 1 and np.median(found.counts) > 10 * _STRAY:
            strays += found.values[found.counts <= _STRAY].tolist()
    if not strays:
        return []
    listed = checks.listed([str(value) for value in strays])
    return [
        f"{len(strays)} numbers in the masks mark {_STRAY} pixels or fewer ({listed}); "
        "erase them if they are slips of the pen."
    ]


def _large_void(masks: Sequence[Int[np.ndarray, "_ _"]]) -> list[str]:
    """Returns a sentence if 255, taken as not annotated, outweighs the foreground."""
    void = sum(np.count_nonzero(mask == _VOID) for mask in masks)
    others = sum(np.count_nonzero((mask > 0) & (mask != _VOID)) for mask in masks)
    if void <= others:
        return []
    return [
        f"Not annotated are {void:,} pixels of {_VOID}, more than the {others:,} of "
        f"all numbers above 0; if {_VOID} is foreground, set the others to 0 or {_VOID}"
        ", or renumber them."
    ]


def _slivers(masks: Sequence[Int[np.ndarray, "_ _"]], num_numbers: int) -> list[str]:
    """Returns a sentence if most pieces of equal numbers are tiny beside the others."""
    if num_numbers < 3:
        return []
    from skimage import measure

    pieces = [measure.label(mask, background=0, connectivity=2) for mask in masks]
    sizes = np.concatenate([np.bincount(each[each > 0])[1:] for each in pieces])
    tiny = np.count_nonzero(sizes <= _SLIVER)
    if tiny <= sizes.size / 2 or sizes.max() < 10 * _SLIVER:
        return []
    return [
        f"{tiny:,} of {sizes.size:,} pieces of equal numbers have {_SLIVER} pixels or "
        "fewer, as in masks that were scaled with interpolation; scale masks by "
        "nearest neighbours."
    ]


def _wrapped(present: Sequence[int], found: MaskFormat) -> list[str]:
    """Returns a sentence if a cell has the number that -1 becomes without a sign."""
    if found.mask_type == "classes" or len(present) < 3:
        return []
    top, below = present[-1], present[-2]
    if top not in (_VOID, 2**16 - 1) or below > top // 2:
        return []
    return [
        f"The largest number in the masks is {top}, the next one {below}; use "
        f"--ignore={top} if {top} marks unannotated pixels."
    ]


def _doubts(masks: Sequence[Int[np.ndarray, "_ _"]], found: MaskFormat) -> list[str]:
    """Returns what speaks against an inferred format of more than two numbers."""
    numbers = [set(np.unique(mask[mask > 0]).tolist()) for mask in masks]
    top = max(max(each, default=0) for each in numbers)
    if found.mask_type == "instances":
        same = all(each == numbers[0] for each in numbers)
        gaps = any(each and each != set(range(1, len(each) + 1)) for each in numbers)
        if len(masks) > 1 and top <= _FEW and (same or gaps):
            return [
                f"The masks have the numbers 1 to {top}, "
                + ("all of them in each" if same else "not from 1 in each")
                + ", as classes would; use --mask-type=classes if these are classes."
            ]
        return []
    pieces = [_median_piece(masks, number) for number in range(1, top + 1)]
    alike = max(size for size, _ in pieces) <= 2 * min(size for size, _ in pieces)
    if all(each == {1, 2} for each in numbers) and all(n <= 1 for _, n in pieces):
        reason = "Every mask has one piece of 1 and one of 2, as two cells would"
    elif alike and all(n > 1 for _, n in pieces):
        reason = "Every class has several pieces per mask, all of one size, as cells do"
    else:
        return []
    return [f"{reason}; use --mask-type=instances if the numbers mark cells."]


def _median_piece(
    masks: Sequence[Int[np.ndarray, "_ _"]], number: int
) -> tuple[float, float]:
    """Returns the median size of the pieces of a number, and how many a mask has."""
    from skimage import measure

    sizes = list[int]()
    holders = 0
    for mask in masks:
        pieces = measure.label(mask == number, connectivity=2)
        sizes += np.bincount(pieces[pieces > 0])[1:].tolist()
        holders += bool(pieces.any())
    return float(np.median(sizes)), len(sizes) / holders
