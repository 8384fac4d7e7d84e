"""Warping error: what is left of a difference once all that only bends is undone.

The truth is deformed towards the prediction by flipping simple pixels, those that
change no connection (Jain et al. 2010). What cannot be flipped is an error of topology.
White is cell, 4-connected; black is membrane, 8-connected. Numbers are those of the
ISBI 2012 scorer, `fiji/Trainable_Segmentation`.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Real, Shaped
from scipy import ndimage

_RADIUS = 20  # pixels around a white one in which the scorer looks for a split

# The ring of a pixel: place k has weight 2^k in its code, and 7 - k lies opposite.
_RING = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


class Mismatches(NamedTuple):
    """Pixels that could not be flipped, by what is wrong; those of slices add."""

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
    """Warps the truth towards a prediction and classifies what is left of its errors.

    Args:
      truth: True inside of cells.
      probability: Of being inside of a cell; white above `threshold`.
      threshold: In [0, 1].

    Returns:
      Counts of pixels. Splits and merges make the warping error: their smallest sum
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

    Pixels that differ are visited by how far their probability is from the threshold,
    the farthest first; of equals by column, then row. Those that are simple at that
    moment are flipped, and the rest is visited again until a round flips none. See
    `mismatches` for the arguments.
    """
    if truth.shape != probability.shape:
        raise ValueError(
            f"probability must have the size of truth, {truth.shape}, got "
            f"{probability.shape}; crop or pad one of them."
        )
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
    """Says whether a pixel may be flipped without changing a connection.

    One 4-connected piece of the cells in its ring touches it by an edge, and its ring
    holds one 8-connected piece of background.

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
    """The neighbours in one direction of all pixels but the rim."""
    height, width = padded.shape
    return padded[1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx]


@functools.cache
def _simple_rings() -> bytes:
    return bytes(is_simple(ring) for ring in range(256))


def _flip(codes: bytearray, pixels: list[int], width: int) -> list[int]:
    """Flips what is simple, round after round, and returns what was flipped.

    Each flip changes what may be flipped next, so pixels are visited one by one; the
    codes of rings are kept up to date, so that a visit is one look into a table.
    """
    simple, flipped = _simple_rings(), []
    while True:
        left = []
        for p in pixels:
            if not simple[codes[p]]:
                left.append(p)
                continue
            flipped.append(p)
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
    """Names the errors by the cells that are seen in their rings.

    Outside of the image is background. The scorer leaves it out, which is the same: a
    pixel at the rim that sees cells only is simple, and never left over.
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
    """Counts the white pixels around which a cell would fall apart without them.

    Seen from 20 pixels around each, as by the scorer; where a side of the image is
    shorter than that, from all of the image.
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
