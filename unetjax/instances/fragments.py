"""Cells that a watershed cut into pieces, merged where their union is convex.

Texture within a large cell looks to a network like a faint border between two. A cut
through such a cell is as long as the cell is wide and leaves no notch in the outline,
whereas two cells that touch have a waist, or a clear border, between them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy import sparse, spatial

# Of a border, relative to the square root of the area of the smaller cell: that of two
# halves of a disc has 1.6, of two quarters 1.13, the common side of two squares 1.
_MIN_LENGTH = 1.05
# By which the mean height of a border lies below the lower of both peaks, relative to
# that peak. In tissue, where convex cells fill the image, this alone keeps them apart.
_MAX_DEPTH = 0.6


class Borders(NamedTuple):
    """Borders between cells that touch.

    Attributes:
      pairs: Numbers of both cells, in increasing order.
      steps: Number of pairs of pixels on both sides of it, of those one above the
        other and of those one beside the other.
      heights: Sum of the heights of these pairs, each the mean of both pixels.
    """

    pairs: Integer[np.ndarray, "P 2"]
    steps: Int[np.ndarray, "P 2"]
    heights: Float[np.ndarray, " P"]


class Cells(NamedTuple):
    """Properties of cells.

    Attributes:
      numbers: Their numbers, in increasing order.
      areas: Numbers of pixels.
      peaks: Largest heights.
    """

    numbers: Integer[np.ndarray, " n"]
    areas: Int[np.ndarray, " n"]
    peaks: Float[np.ndarray, " n"]

    def places(self, numbers: Integer[np.ndarray, "*s"]) -> Int[np.ndarray, "*s"]:
        """Returns where the cells of some numbers are in these arrays."""
        return np.searchsorted(self.numbers, numbers)


class Joined(NamedTuple):
    """Numbers that belong to the same cell, or component, as others.

    Attributes:
      numbers: These numbers, in increasing order.
      first: The least number of the cell of each.
    """

    numbers: Integer[np.ndarray, " n"]
    first: Integer[np.ndarray, " n"]

    def resolve(self, numbers: Integer[np.ndarray, "*s"]) -> Integer[np.ndarray, "*s"]:
        """Returns one number for each cell, instead of one for each of its parts."""
        if not self.numbers.size:
            return numbers
        index = np.searchsorted(self.numbers, numbers).clip(max=self.numbers.size - 1)
        return np.where(self.numbers[index] == numbers, self.first[index], numbers)


def join(pairs: Integer[np.ndarray, "P 2"]) -> Joined:
    """Returns which numbers belong together, if those of every pair do.

    Example:
      >>> join(np.array([[3, 5], [5, 9]])).resolve(np.array([1, 3, 5, 9]))
      array([1, 3, 3, 3])
    """
    numbers, index = np.unique(pairs, return_inverse=True)
    if not numbers.size:
        return Joined(numbers, numbers)
    first, second = index.reshape(pairs.shape).T
    edges = sparse.coo_array(
        (np.ones(len(pairs), bool), (first, second)), (numbers.size, numbers.size)
    )
    _, component = sparse.csgraph.connected_components(edges, directed=False)
    # `numbers` increase, so the first of a component is its least.
    _, place = np.unique(component, return_index=True)
    return Joined(numbers, numbers[place][component])


def merge(
    cells: Integer[np.ndarray, "H W"],
    height: Float[np.ndarray, "H W"],
    *,
    min_solidity: float,
) -> Integer[np.ndarray, "H W"]:
    """Returns the cells, those that are pieces of a convex one under one number.

    Two cells are merged if

    - their border is at least 1.05 times as long as the square root of the area of the
      smaller one,
    - its mean height is at least 0.4 times the lower one of their largest heights, and
    - together they cover `min_solidity` of their convex hull.

    All pairs are judged by the cells as they are given, so their order does not matter;
    pairs that share a cell make one cell, whose own form is not judged. The rule is
    ours.

    Args:
      cells: Number of the cell of every pixel, 0 in the background.
      height: How far inside of its cell each pixel is, in any unit, as it was flooded
        by a watershed.
      min_solidity: Least ratio of an area to that of its convex hull, of all pixels
        with their corners, in (0, 1].

    Example:
      >>> cells = np.array([[1, 1, 2], [1, 1, 2], [0, 3, 0]])
      >>> merge(cells, np.ones((3, 3)), min_solidity=0.9)
      array([[1, 1, 1],
             [1, 1, 1],
             [0, 3, 0]])
    """
    found = find_cells(cells, height)
    borders = add_borders([find_borders(cells, height, axis=axis) for axis in (0, 1)])
    pairs = with_weak_border(borders, found)
    corners = find_corners(cells, np.unique(pairs))
    return join_convex(pairs, found, corners, min_solidity).resolve(cells)


def find_cells(
    cells: Integer[np.ndarray, "H W"], height: Float[np.ndarray, "H W"]
) -> Cells:
    """Returns the cells of an image, or of a part of it; the background is one.

    If no number exceeds the count of pixels, all up to the largest are returned, also
    those that no cell has: that needs no sorting.
    """
    if cells.max(initial=0) < cells.size:
        index = cells.ravel().astype(np.int64)
        areas = np.bincount(index)
        numbers = np.arange(areas.size)
    else:
        numbers, index, areas = np.unique(
            cells.ravel(), return_inverse=True, return_counts=True
        )
    return Cells(numbers, areas, _largest(index, height.ravel(), numbers.size))


def add_cells(parts: Sequence[Cells]) -> Cells:
    """Returns the cells of an image, of those of its parts."""
    numbers, areas, peaks = (np.concatenate(each) for each in zip(*parts, strict=True))
    numbers, index = np.unique(numbers, return_inverse=True)
    total = np.zeros(numbers.size, np.int64)
    np.add.at(total, index, areas)
    return Cells(numbers, total, _largest(index, peaks, numbers.size))


def _largest(
    index: Int[np.ndarray, " m"], values: Float[np.ndarray, " m"], count: int
) -> Float[np.ndarray, " n"]:
    largest = np.full(count, -np.inf, values.dtype)
    np.maximum.at(largest, index, values)
    return largest


def find_borders(
    cells: Integer[np.ndarray, "H W"], height: Float[np.ndarray, "H W"], *, axis: int
) -> Borders:
    """Returns the borders between pixels that are neighbours along an axis.

    Args:
      cells: Number of the cell of every pixel of an image, or of a part of it.
      height: See `merge`.
      axis: 0 for pixels one above the other, 1 for those one beside the other.
    """
    along = np.moveaxis(cells, axis, 0)
    meet = (along[:-1] != along[1:]) & (along[:-1] > 0) & (along[1:] > 0)

    def both_sides(values: np.ndarray) -> np.ndarray:
        values = np.moveaxis(values, axis, 0)
        return np.stack([values[:-1][meet], values[1:][meet]], axis=1)

    pairs = np.sort(both_sides(cells), axis=1)
    steps = np.zeros(pairs.shape, np.int64)
    steps[:, axis] = 1
    heights = both_sides(height).mean(axis=1, dtype=np.float64)
    return add_borders([Borders(pairs, steps, heights)])


def add_borders(parts: Sequence[Borders]) -> Borders:
    """Returns the borders of both axes, or of an image, of those of its parts."""
    pairs, steps, heights = (np.concatenate(each) for each in zip(*parts, strict=True))
    pairs, index = np.unique(pairs, axis=0, return_inverse=True)
    sums = np.zeros((len(pairs), 3))
    np.add.at(sums, index.ravel(), np.column_stack([steps, heights]))
    return Borders(pairs, sums[:, :2].astype(np.int64), sums[:, 2])


def with_weak_border(borders: Borders, cells: Cells) -> Integer[np.ndarray, "p 2"]:
    """Returns the pairs whose border is long and high enough for pieces of one cell."""
    index = cells.places(borders.pairs)
    smaller = cells.areas[index].min(axis=1, initial=np.iinfo(np.int64).max)
    lower = cells.peaks[index].min(axis=1, initial=np.inf)
    # A straight border at any angle: the steps are its length along both axes.
    is_long = np.hypot(*borders.steps.T) >= _MIN_LENGTH * np.sqrt(smaller)
    height = borders.heights / borders.steps.sum(axis=1)
    return borders.pairs[is_long & (height >= (1 - _MAX_DEPTH) * lower)]


def find_corners(
    cells: Integer[np.ndarray, "H W"],
    numbers: Integer[np.ndarray, " m"],
    *,
    origin: tuple[int, int] = (0, 0),
) -> dict[int, Int[np.ndarray, "c 2"]]:
    """Returns corners of pixels of some cells, among them those of the convex hull.

    Args:
      cells: Number of the cell of every pixel.
      numbers: Numbers of the cells, in increasing order; those that are not in `cells`
        are left out.
      origin: Row and column of the first pixel.

    Returns:
      Rows and columns of the corners, by number of the cell.
    """
    # The hull of a cell is that of the ends of its rows.
    is_end = np.ones((cells.shape[0], cells.shape[1] + 1), bool)
    is_end[:, 1:-1] = cells[:, 1:] != cells[:, :-1]
    corners, owners = [], []
    for shift, ends in enumerate((is_end[:, :-1], is_end[:, 1:])):
        rows, columns = np.nonzero(ends)
        owner = cells[rows, columns]
        is_wanted = np.isin(owner, numbers)
        rows, columns, owner = rows[is_wanted], columns[is_wanted], owner[is_wanted]
        for below in (0, 1):
            corners.append(np.stack([rows + below, columns + shift], axis=1) + origin)
            owners.append(owner)
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    found, start = np.unique(owner[order], return_index=True)
    parts = np.split(np.concatenate(corners)[order], start[1:])
    return dict(zip(found.tolist(), parts, strict=False))


def join_convex(
    pairs: Integer[np.ndarray, "p 2"],
    cells: Cells,
    corners: Mapping[int, Int[np.ndarray, "c 2"]],
    min_solidity: float,
) -> Joined:
    """Returns which cells are pieces of one, of pairs with a weak border.

    Args:
      pairs: Numbers of the cells of each pair.
      cells: All cells.
      corners: From `find_corners`, of the cells of the pairs.
      min_solidity: See `merge`.
    """
    areas = cells.areas[cells.places(pairs)].sum(axis=1)
    hulls = [
        _hull_area(np.concatenate([corners[first], corners[second]]))
        for first, second in pairs.tolist()
    ]
    return join(pairs[areas >= min_solidity * np.array(hulls)])


def _hull_area(points: Int[np.ndarray, "n 2"]) -> float:
    """The area of a convex hull; exact, since twice the area is an integer."""
    rows, columns = points[spatial.ConvexHull(points).vertices].T
    twice = rows * np.roll(columns, -1) - columns * np.roll(rows, -1)
    return abs(int(twice.sum())) / 2
