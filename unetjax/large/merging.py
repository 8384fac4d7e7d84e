"""Connected components of an image that is labelled block by block.

Components are numbered in each block on its own. Numbers that meet at the border of two
blocks are then joined, so the result does not depend on the blocks or their order.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Bool, Integer, UInt64
from scipy import ndimage

from unetjax.instances.fragments import Joined, join
from unetjax.large.arrays import StoredArray
from unetjax.large.grid import Block, Grid


def label(
    grid: Grid,
    classes: Callable[[Block], Integer[np.ndarray, "h w"]],
    numbers: StoredArray,
    *,
    num_classes: int,
    connectivity: int = 1,
) -> Joined:
    """Numbers the components of equal class of an image.

    Args:
      grid: The image and its blocks.
      classes: Returns the class of every pixel of a block, 0 being background.
      numbers: Receives the numbers, uint64 [H, W], 0 being background. Modulo
        `num_classes` they are the class.
      num_classes: Number of classes, background included.
      connectivity: 1 joins pixels that share an edge, 2 also those that share a corner.

    Returns:
      Which numbers belong together.
    """
    structure = ndimage.generate_binary_structure(2, connectivity)
    for block in grid.blocks():
        found = classes(block)
        result = np.zeros(found.shape, np.uint64)
        before = block.number * grid.size**2
        for k in range(1, num_classes):
            labelled, count = ndimage.label(found == k, structure)
            inside = labelled > 0
            local = labelled[inside].astype(np.uint64) + np.uint64(before)
            result[inside] = local * np.uint64(num_classes) + np.uint64(k)
            before += count
        numbers.write(result, block.rows, block.columns)
    pairs = [np.zeros((0, 2), np.uint64)]
    for first, second in _lines(grid, numbers):
        shifts = (-1, 0, 1) if connectivity == 2 else (0,)
        pairs += [_touching(first, second, shift, num_classes) for shift in shifts]
    return join(np.unique(np.concatenate(pairs), axis=0))


def border_components(
    grid: Grid, numbers: StoredArray, joined: Joined
) -> UInt64[np.ndarray, " n"]:
    """Returns the numbers of the components that reach the border of the image."""
    lines = (
        numbers.read(0, slice(None)),
        numbers.read(grid.height - 1, slice(None)),
        numbers.read(slice(None), 0),
        numbers.read(slice(None), grid.width - 1),
    )
    return np.unique(joined.resolve(np.concatenate(lines)))


def contains(
    found: UInt64[np.ndarray, " n"], numbers: UInt64[np.ndarray, "*s"]
) -> Bool[np.ndarray, "*s"]:
    """Returns which numbers are among some in increasing order."""
    if not found.size:
        return np.zeros(numbers.shape, bool)
    index = np.searchsorted(found, numbers).clip(max=found.size - 1)
    return found[index] == numbers


def _lines(
    grid: Grid, numbers: StoredArray
) -> Iterator[tuple[UInt64[np.ndarray, " n"], UInt64[np.ndarray, " n"]]]:
    """Yields the lines of pixels on both sides of every border between blocks."""
    for top in range(grid.size, grid.height, grid.size):
        above, below = numbers.read(slice(top - 1, top + 1), slice(None))
        yield above, below
    for left in range(grid.size, grid.width, grid.size):
        before, after = numbers.read(slice(None), slice(left - 1, left + 1)).T
        yield before, after


def _touching(
    first: UInt64[np.ndarray, " n"],
    second: UInt64[np.ndarray, " n"],
    shift: int,
    num_classes: int,
) -> UInt64[np.ndarray, "m 2"]:
    """Returns the pairs of numbers of equal class that meet, shifted along the line."""
    if shift:
        first, second = (
            (first[1:], second[:-1]) if shift < 0 else (first[:-1], second[1:])
        )
    modulus = np.uint64(num_classes)
    meet = (first > 0) & (second > 0) & (first % modulus == second % modulus)
    return np.unique(np.stack([first[meet], second[meet]], axis=1), axis=0)
