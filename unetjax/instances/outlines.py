"""Outlines of objects: polygons along the edges of their pixels."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

Point = tuple[int, int]  # x and y of a corner of a pixel; (0, 0) is the image's corner


class Polygon(NamedTuple):
    """One piece of an object.

    Attributes:
      exterior: Corners x, y of its outline, clockwise as shown, not closed.
      holes: Those of its holes, anticlockwise.
    """

    exterior: Int[np.ndarray, "N 2"]
    holes: list[Int[np.ndarray, "_ 2"]]

    @property
    def rings(self) -> list[Int[np.ndarray, "_ 2"]]:
        """The exterior and the holes."""
        return [self.exterior, *self.holes]


def trace_objects(instances: Int[np.ndarray, "H W"]) -> dict[int, list[Polygon]]:
    """Returns the outline of every object by its number.

    A polygon for each 4-connected piece; pixels that touch at a corner alone are two
    pieces. A pixel belongs to the object if its centre is inside: filling the polygons
    gives the label image back.

    Args:
      instances: Number of the object of every pixel, 0 outside.

    Example:
      >>> (piece,) = trace_objects(np.array([[0, 5, 5]]))[5]
      >>> piece.exterior.tolist()
      [[1, 0], [3, 0], [3, 1], [1, 1]]
    """
    from skimage import measure

    return {
        int(found.label): _trace(found.image, origin=found.bbox[1::-1])
        for found in measure.regionprops(instances)
    }


def _trace(mask: Bool[np.ndarray, "h w"], *, origin: Point) -> list[Polygon]:
    """Returns the polygons of a mask of which the first corner is the origin."""
    from skimage import measure

    pieces = measure.label(mask, connectivity=1)
    polygons = list[Polygon]()
    for number in range(1, pieces.max() + 1):
        rings = [
            np.array(_without_straight(ring)) + origin
            for ring in _rings(_edges(pieces == number))
        ]
        (exterior,) = (ring for ring in rings if _area(ring) > 0)
        polygons.append(Polygon(exterior, [ring for ring in rings if _area(ring) < 0]))
    return polygons


def _edges(mask: Bool[np.ndarray, "h w"]) -> Iterator[tuple[Point, Point]]:
    """Yields the edges of pixels at the border, with the inside to their right."""
    padded = np.pad(mask, 1).astype(np.int8)
    across, down = np.diff(padded, axis=0), np.diff(padded, axis=1)
    for y, x in np.argwhere(across[:, 1:-1] > 0).tolist():
        yield (x, y), (x + 1, y)
    for y, x in np.argwhere(across[:, 1:-1] < 0).tolist():
        yield (x + 1, y), (x, y)
    for y, x in np.argwhere(down[1:-1] > 0).tolist():
        yield (x, y + 1), (x, y)
    for y, x in np.argwhere(down[1:-1] < 0).tolist():
        yield (x, y), (x, y + 1)


def _rings(edges: Iterable[tuple[Point, Point]]) -> Iterator[list[Point]]:
    """Yields closed paths that meet no corner twice, of all edges together."""
    following: dict[Point, list[Point]] = {}
    for start, end in edges:
        following.setdefault(start, []).append(end)
    while following:
        path, places = list[Point](), dict[Point, int]()
        point = next(iter(following))
        while point in following or point in places:
            if point in places:  # the path since then is closed
                begin = places[point]
                yield path[begin:]
                for each in path[begin:]:
                    del places[each]
                del path[begin:]
                if point not in following:
                    break
            places[point] = len(path)
            path.append(point)
            ends = following[point]
            point_after = ends.pop()
            if not ends:
                del following[point]
            point = point_after


def _without_straight(ring: Sequence[Point]) -> list[Point]:
    """Returns the corners at which a ring turns."""
    return [
        here
        for before, here, after in zip(
            [ring[-1], *ring[:-1]], ring, [*ring[1:], ring[0]], strict=True
        )
        if (here[0] - before[0], here[1] - before[1])
        != (after[0] - here[0], after[1] - here[1])
    ]


def _area(ring: Int[np.ndarray, "N 2"]) -> float:
    """Returns the signed area, positive of a ring that is clockwise as shown."""
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2
