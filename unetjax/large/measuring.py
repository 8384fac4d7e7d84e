"""Measurements and outlines of the cells of a large image, block by block."""

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float, Int, Num, Shaped

from unetjax.inference import predict
from unetjax.instances import measurements, outlines
from unetjax.instances.measurements import Row
from unetjax.instances.outlines import Polygon
from unetjax.large.grid import BLOCK, Grid
from unetjax.large.segmentation import LargeSegmentation
from unetjax.large.sources import Source
from unetjax.network.unet import UNet

_FIRST = slice(0, 1)


def measure_objects(
    source: Source,
    segmented: LargeSegmentation,
    model: UNet,
    *,
    pixel_size: tuple[float, float] | None = None,
    unit: str = "",
    block_size: int = BLOCK,
) -> list[Row]:
    """Returns a row for each cell: those of `measurements.measure_objects`.

    Sums over pixels are added up block by block; coordinates are counted from a pixel
    of the cell, so that no digits are lost far from the corner of the image.

    Args:
      source: The image.
      segmented: Its segmentation, with numbered cells.
      model: The network.
      pixel_size: Height and width of a pixel, for areas and centroids in units.
      unit: Unit of these, a part of the names of columns.
      block_size: Side of a block, in pixels.
    """
    assert segmented.read_instances is not None
    grid = Grid(source.height, source.width, block_size)
    num, num_channels = segmented.num_instances, source.read(_FIRST, _FIRST).shape[-1]
    origin = np.full((num, 2), -1)
    area, classes = np.zeros(num), np.zeros((num, model.num_classes))
    first, second = np.zeros((num, 2)), np.zeros((num, 2, 2))
    start, stop = np.full((num, 2), np.iinfo(int).max), np.zeros((num, 2), int)
    total = np.zeros((num, num_channels + 1))
    least, greatest = np.full_like(total, np.inf), np.full_like(total, -np.inf)
    for block in grid.blocks():
        place = block.rows, block.columns
        cells = segmented.read_instances(*place)
        rows, columns = cells.nonzero()
        if not rows.size:
            continue
        here = rows, columns
        numbers, index = np.unique(cells[here], return_inverse=True)
        i = numbers.astype(int) - 1
        each = i[index]  # the cell of every pixel

        pixels = [rows + block.rows.start, columns + block.columns.start]
        for axis, coordinates in enumerate(pixels):
            np.minimum.at(start[:, axis], each, coordinates)
            np.maximum.at(stop[:, axis], each, coordinates + 1)
        is_new = origin[i, 0] < 0
        origin[i[is_new]] = start[i[is_new]]
        y, x = (pixels[axis] - origin[each, axis] for axis in (0, 1))
        area[i] += np.bincount(index)
        first[i] += _sums([y, x], index)
        second[i] += _sums([y * y, x * y, x * y, x * x], index).reshape(-1, 2, 2)

        label = segmented.read_label(*place)[here]
        classes[i] += _sums([label == k for k in range(model.num_classes)], index)
        probs = predict.split(segmented.outputs.read(*place), model).probs[here]
        confidence = 1.0 - probs[:, 0].astype(float)
        values = [*source.read(*place)[here].T.astype(float), confidence]
        total[i] += _sums(values, index)
        for channel, grey in enumerate(values):
            np.minimum.at(least[:, channel], each, grey)
            np.maximum.at(greatest[:, channel], each, grey)

    mean = first / area[:, np.newaxis]
    covariance = second / area[:, np.newaxis, np.newaxis]
    covariance -= mean[:, :, np.newaxis] * mean[:, np.newaxis]
    axes = 4 * np.sqrt(np.linalg.eigvalsh(covariance).clip(min=0))
    found: dict[str, Shaped[np.ndarray, " N"]] = {
        "label": np.arange(1, num + 1),
        "class": classes.argmax(axis=1),
        "area": area,
        "axis_major_length": axes[:, 1],
        "axis_minor_length": axes[:, 0],
    }
    found |= _columns("centroid", origin + mean)
    found |= _columns("bbox", np.concatenate([start, stop], axis=1))
    found |= _columns("intensity_mean", total / area[:, np.newaxis])
    found |= _columns("intensity_min", least) | _columns("intensity_max", greatest)
    return measurements.to_rows(
        found, num_channels=num_channels, pixel_size=pixel_size, unit=unit
    )


def trace_objects(
    segmented: LargeSegmentation, rows: Sequence[Row], *, block_size: int = BLOCK
) -> dict[int, list[Polygon]]:
    """Returns the outline of every cell: those of `outlines.trace_objects`.

    In memory are the numbers of a block, and of what its largest cells reach beyond it.

    Args:
      segmented: The segmentation of an image, with numbered cells.
      rows: Those of `measure_objects`.
      block_size: Cells that begin in the same block are read together.
    """
    assert segmented.read_instances is not None
    found: dict[int, list[Polygon]] = {}
    for group in _by_block(rows, block_size):
        top, left = (int(min(row[side] for row in group)) for side in ("top", "left"))
        bottom, right = (
            int(max(row[side] for row in group)) for side in ("bottom", "right")
        )
        cells = segmented.read_instances(slice(top, bottom), slice(left, right))
        numbers = np.array([row["id"] for row in group], cells.dtype)
        order = np.searchsorted(numbers, cells).clip(max=numbers.size - 1)
        local = np.where(numbers[order] == cells, order + 1, 0)
        for number, polygons in outlines.trace_objects(local).items():
            found[int(numbers[number - 1])] = [
                _moved(polygon, [left, top]) for polygon in polygons
            ]
    return found


def _by_block(rows: Sequence[Row], size: int) -> Collection[list[Row]]:
    """Returns the cells that begin in the same block, by increasing number."""
    groups: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        block = int(row["top"]) // size, int(row["left"]) // size
        groups.setdefault(block, []).append(row)
    return groups.values()


def _moved(polygon: Polygon, by: Sequence[int]) -> Polygon:
    return Polygon(polygon.exterior + by, [hole + by for hole in polygon.holes])


def _sums(
    values: Sequence[Shaped[np.ndarray, " P"]], index: Int[np.ndarray, " P"]
) -> Float[np.ndarray, "N C"]:
    """Returns the sums of values of each object, of which `index` is the place."""
    return np.stack([np.bincount(index, each) for each in values], axis=1)


def _columns(
    name: str, values: Num[np.ndarray, "N C"]
) -> dict[str, Num[np.ndarray, " N"]]:
    return {f"{name}-{i}": column for i, column in enumerate(values.T)}
