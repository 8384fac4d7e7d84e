"""Examples from arrays: images and masks in memory.

Masks may be boolean, one-hot, or integers in any format of `mask_formats`.
"""

import itertools
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int, Shaped

from unetjax.data import mask_formats
from unetjax.data.examples import Example, from_labels
from unetjax.data.mask_formats import MaskType

Array = Shaped[np.ndarray, "..."]


def from_pairs(
    pairs: Iterable[tuple[Array, Array]],
    *,
    mask_type: MaskType = "classes",
    name: str = "array",
) -> list[Example]:
    """Returns the examples of images and their masks, of any sizes.

    Args:
      pairs: Image [H, W] or [H, W, C], and mask. A mask is [H, W], boolean for
        background and foreground, or integer; or [H, W, K], one-hot over K classes, of
        any type.
      mask_type: Format of integer masks, see `mask_formats.infer_mask_format`.
      name: Name of the examples, followed by their number.

    Raises:
      ValueError: If an array has another shape, a one-hot mask has pixels of no class
        or of several, or the values of integer masks fit no format.

    Example:
      >>> image = np.zeros((2, 3), np.uint8)
      >>> (example,) = from_pairs([(image, image == 0)])
      >>> example.image.shape, example.label.tolist()
      ((2, 3, 1), [[1, 1, 1], [1, 1, 1]])
    """
    named = [
        (image, np.asarray(mask), f"{name}-{i:03d}")
        for i, (image, mask) in enumerate(pairs)
    ]
    raw = [
        (_image(image, each), _label(mask, each), each) for image, mask, each in named
    ]
    # Shape or type alone show that other masks hold classes.
    has_numbers = [mask.ndim == 2 and mask.dtype != np.bool_ for _, mask, _ in named]
    masks = [label for _, label, _ in itertools.compress(raw, has_numbers)]
    if not masks:
        return [from_labels(*each) for each in raw]
    mask_format = mask_formats.infer_mask_format(masks, mask_type, where=name)
    return [
        mask_formats.to_example(*each, mask_format) if numbers else from_labels(*each)
        for each, numbers in zip(raw, has_numbers, strict=True)
    ]


def _image(image: Array, name: str) -> Shaped[np.ndarray, "H W C"]:
    pixels = np.asarray(image)
    if pixels.ndim not in (2, 3):
        raise ValueError(
            f"{name} has an image of shape {list(pixels.shape)}; accepted are [H, W] "
            "and [H, W, C]."
        )
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def _label(mask: Array, name: str) -> Int[np.ndarray, "H W"]:
    if mask.ndim == 3 and mask.shape[-1] > 1:
        chosen = mask != 0
        wrong = int((chosen.sum(axis=-1) != 1).sum())
        if wrong:
            raise ValueError(
                f"{name} has a mask with {wrong} pixels of no class or of several; a "
                "one-hot mask has exactly one class at each."
            )
        return chosen.argmax(axis=-1).astype(np.int32)
    if mask.ndim != 2:
        raise ValueError(
            f"{name} has a mask of shape {list(mask.shape)}; accepted are [H, W], and "
            "[H, W, K] for K classes of at least 2."
        )
    label = mask.astype(np.int32)
    if (label != mask).any():
        raise ValueError(
            f"{name} has a mask with values that are not integers, such as "
            f"{mask[label != mask][0]}; give classes, or mask > 0.5."
        )
    return label
