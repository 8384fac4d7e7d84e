"""Warping error (Jain et al. 2010): topological disagreement with the truth.

The truth is deformed towards the prediction by flipping simple pixels, which change no
connection. Pixels that still differ are errors of topology. White is cell, 4-connected;
black is membrane, 8-connected. Results equal those of the ISBI 2012 scorer,
`fiji/Trainable_Segmentation`.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Real, Shaped
from scipy import ndimage

from unetjax.metrics import metric

_RADIUS = 20  # pixels around a white one in which the scorer looks for a split

# The ring of a pixel: place k has weight 2^k in its code, and 7 - k lies opposite.
_RING = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


class Mismatches(NamedTuple):
    """Numbers of pixels that could not be flipped, by kind of error."""

    object_deletions: int
    object_additions: int
    hole_deletions: int
    hole_additions: int
    splits: int
    merges: int


def mismatches(
    truth: Bool[np.ndarray, "H W"],
    probability: Real[np.ndarray, "h w"],
    *,
    threshold: float,
) -> Mismatches:
    """Warps the truth towards a prediction and classifies the remaining mismatches.

    Args:
      truth: True inside of cells.
      probability: Probability of being inside of a cell; white above `threshold`.
      threshold: In [0, 1].

    Returns:
      Counts of pixels. The warping error is the smallest sum of splits and merges
      over the thresholds, divided by the number of pixels.

    Raises:
      ValueError: If the sizes differ.

    Example:
      >>> cells = np.pad(np.array([[1, 0, 1]] * 2), 1) > 0
      >>> leak = np.pad(np.array([[1, 1, 1], [1, 0, 1]]), 1)
      >>> mismatches(cells, leak, threshold=0.5).merges
      1
    """
    warped = warp(truth, probability, threshold=threshold)
    wrong = warped != (probability.astype(np.float64) > threshold)
    return _classify(warped, wrong)


def warp(
    truth: Bool[np.ndarray, "H W"],
    probability: Real[np.ndarray, "h w"],
    *,
    threshold: float,
) -> Bool[np.ndarray, "H W"]:
    """Returns the truth after all flips towards the prediction that keep its topology.

    Pixels that differ are visited in order of decreasing distance of their probability
    from the threshold; ties by column, then row. Those that are simple at that moment
    are flipped, and the rest is visited again until a round flips none. See
    `mismatches` for the arguments.
    """
    metric.check_same_size(truth=truth, probability=probability)
    padded = np.pad(truth, 1)
    width = padded.shape[1]
    codes = np.zeros(padded.shape, np.uint8)
    for k, (dy, dx) in enumerate(_RING):
        codes[1:-1, 1:-1] |= _shifted(padded, dy, dx).astype(np.uint8) << k
    margin = np.abs(probability.astype(np.float64) - threshold).astype(np.float32)
    columns, rows = np.nonzero(
        (truth != (probability.astype(np.float64) > threshold)).T
    )
    order = np.argsort(-margin[rows, columns], kind="stable")
    pixels = ((rows + 1) * width + columns + 1)[order]
    flipped = _flip(bytearray(codes.tobytes()), pixels.tolist(), width)
    white = padded.ravel()
    white[flipped] ^= True
    return white.reshape(padded.shape)[1:-1, 1:-1]


def is_simple(ring: int) -> bool:
    """Returns whether a pixel can be flipped without changing a connection.

    That is so if exactly one 4-connected piece of the cells in its ring touches it by
    an edge, and exactly one 8-connected piece of background lies in its ring.

    Args:
      ring: The 8 neighbours row by row, the first of them in the lowest bit; 1 is cell.
    """
    patch = np.zeros((3, 3), bool)
    for k, (dy, dx) in enumerate(_RING):
        patch[1 + dy, 1 + dx] = ring >> k & 1
    cells, _ = ndimage.label(patch)
    touching = {int(x) for x in cells.ravel()[1::2]} - {0}
    patch[1, 1] = True  # the centre is no background
    _, num_background = ndimage.label(~patch, np.ones((3, 3)))
    return len(touching) == 1 and num_background == 1


def _shifted(
    padded: Shaped[np.ndarray, "H W"], dy: int, dx: int
) -> Shaped[np.ndarray, "H-2 W-2"]:
    """Returns the neighbour in one direction of every pixel but those of the rim."""
    height, width = padded.shape
    return padded[1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx]


@functools.cache
def _simple_rings() -> bytes:
    return bytes(is_simple(ring) for ring in range(256))


def _flip(codes: bytearray, pixels: list[int], width: int) -> list[int]:
    """Flips simple pixels, round after round, and returns those that were flipped.

    Each flip changes which pixels are simple, so they are visited one by one; the codes
    of the rings are kept up to date, so that a visit is one table look-up.
    """
    simple, flipped = _simple_rings(), []
    while True:
        left = []
        for p in pixels:
            if not simple[codes[p]]:
                left.append(p)
                continue
            flipped.append(p)
            # This pixel's bit in the codes of its neighbours: place 7 - k for step k.
            codes[p - width - 1] ^= 128
            codes[p - width] ^= 64
            codes[p - width + 1] ^= 32
            codes[p - 1] ^= 16
            codes[p + 1] ^= 8
            codes[p + width - 1] ^= 4
            codes[p + width] ^= 2
            codes[p + width + 1] ^= 1
        if len(left) == len(pixels):
            return flipped
        pixels = left


def _classify(
    warped: Bool[np.ndarray, "H W"], wrong: Bool[np.ndarray, "H W"]
) -> Mismatches:
    """Classifies mismatches by the cells in their rings.

    Outside of the image is background. The scorer ignores it, with the same result: a
    pixel at the rim with only cells around it is simple, hence never a mismatch.
    """
    cells, _ = ndimage.label(warped)
    padded = np.pad(cells, 1)
    seen = np.sort([_shifted(padded, dy, dx)[wrong] for dy, dx in _RING], axis=0)
    count = 1 + np.count_nonzero(np.diff(seen, axis=0), axis=0)
    white, alone, inside = warped[wrong], seen[-1] == 0, seen[0] > 0
    enclosed, mixed, several = (count == 1) & inside, count == 2, count > 2

    rows, columns = (x[white & mixed] for x in np.nonzero(wrong))
    torn = _count_torn(warped, rows, columns)
    counts = {
        "object_deletions": (alone & white).sum(),
        "object_additions": (alone & ~white).sum(),
        "hole_deletions": (enclosed & ~white).sum() + len(rows) - torn,
        "hole_additions": np.where(white, enclosed, mixed).sum(),
        "splits": (several & white).sum() + torn,
        "merges": (several & ~white).sum(),
    }
    return Mismatches(**{name: int(count) for name, count in counts.items()})


def _count_torn(
    warped: Bool[np.ndarray, "H W"],
    rows: Int[np.ndarray, " M"],
    columns: Int[np.ndarray, " M"],
) -> int:
    """Counts the white pixels without which a cell would split.

    Within 20 pixels around each, as in the scorer; where a side of the image is shorter
    than that, within the whole image.
    """
    radius = _RADIUS if min(warped.shape) >= _RADIUS else max(warped.shape)
    side = 2 * radius + 1
    padded = np.pad(warped, radius)
    edges = ndimage.generate_binary_structure(2, 1)
    cells = np.empty((side, side), np.int32)
    ring = cells[radius - 1 : radius + 2, radius - 1 : radius + 2]
    torn = 0
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        window = padded[row : row + side, column : column + side]
        window[radius, radius] = False
        ndimage.label(window, edges, output=cells)
        window[radius, radius] = True
        torn += len(set(ring.ravel().tolist())) > 2
    return torn
