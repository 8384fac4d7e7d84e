"""Measurements of objects: size, position, shape, grey values, confidence."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int, Shaped

Row = dict[str, int | float]

_SHAPE = {  # columns of a table and the properties of scikit-image, in pixels
    "area": "area",
    "centroid_y": "centroid-0",
    "centroid_x": "centroid-1",
    "top": "bbox-0",
    "left": "bbox-1",
    "bottom": "bbox-2",
    "right": "bbox-3",
    "major_axis": "axis_major_length",
    "minor_axis": "axis_minor_length",
}


def measure_objects(
    image: Shaped[np.ndarray, "H W C"],
    instances: Int[np.ndarray, "H W"],
    label: Int[np.ndarray, "H W"],
    probs: Float[np.ndarray, "H W K"],
    *,
    pixel_size: tuple[float, float] | None = None,
    unit: str = "",
) -> list[Row]:
    """Returns a row for each object, in the order of their numbers.

    Args:
      image: Grey values as stored.
      instances: Number of the object of every pixel, 0 outside.
      label: Class of every pixel; that of an object is its most frequent one.
      probs: Probability of every class, background first. The confidence of an object
        is the mean of 1 minus that of background.
      pixel_size: Height and width of a pixel, for areas and centroids in units.
      unit: Unit of these, a part of the names of columns.
    """
    from skimage import measure

    values = image.astype(np.float64)
    confidence = 1.0 - probs[..., :1].astype(np.float64)
    found = measure.regionprops_table(
        instances,
        np.concatenate([values, confidence], axis=-1),
        properties=(
            *("label", "area", "centroid", "bbox"),
            *("axis_major_length", "axis_minor_length"),
            *("intensity_mean", "intensity_min", "intensity_max"),
        ),
    )
    classes = [
        int(np.bincount(np.maximum(label[instances == number], 0)).argmax())
        for number in found["label"]
    ]
    return to_rows(
        {**found, "class": np.array(classes, int)},
        num_channels=image.shape[-1],
        pixel_size=pixel_size,
        unit=unit,
    )


def to_rows(
    found: Mapping[str, Shaped[np.ndarray, " N"]],
    *,
    num_channels: int,
    pixel_size: tuple[float, float] | None = None,
    unit: str = "",
) -> list[Row]:
    """Returns the rows of `measure_objects`.

    Args:
      found: Values of N objects by the names of scikit-image's `regionprops_table`,
        with the confidence as the last channel, and their class.
      num_channels: Number of channels of the image.
      pixel_size: See `measure_objects`.
      unit: See `measure_objects`.
    """
    rows = list[Row]()
    for i, number in enumerate(found["label"]):
        row: Row = {"id": int(number), "class": int(found["class"][i])}
        row |= {name: found[key][i].item() for name, key in _SHAPE.items()}
        if pixel_size is not None:
            height, width = pixel_size
            row[f"area_{unit}2"] = row["area"] * height * width
            row[f"centroid_y_{unit}"] = row["centroid_y"] * height
            row[f"centroid_x_{unit}"] = row["centroid_x"] * width
        for channel in range(num_channels):
            for what in ("mean", "min", "max"):
                key = f"intensity_{what}-{channel}"
                row[f"{what}_{channel}"] = found[key][i].item()
        row["confidence"] = found[f"intensity_mean-{num_channels}"][i].item()
        rows.append(row)
    return rows
