"""Regions of objects for other programs: ImageJ ROI sets and QuPath GeoJSON."""

import io
import json
import math
import types
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from unetjax.files.pages import Metadata
from unetjax.instances.measurements import Row
from unetjax.instances.outlines import Polygon

_LARGEST = 60_000  # coordinate that ROIs hold as an integer


class Region(NamedTuple):
    """An object of an image, or of a page of a stack.

    Attributes:
      name: Its name.
      polygons: Its pieces, see `instances.outlines`.
      page: The page, counted from 0.
      classification: The name of its class; "" for none.
      measurements: Numbers about it, by their names.
    """

    name: str
    polygons: Sequence[Polygon]
    page: int = 0
    classification: str = ""
    measurements: Mapping[str, float] = {}


def of_objects(
    rows: Iterable[Row],
    polygons: Mapping[int, Sequence[Polygon]],
    *,
    page: int,
    has_classes: bool,
) -> list[Region]:
    """Returns the regions of measured objects, with their class and their confidence.

    Args:
      rows: Those of `instances.measurements`.
      polygons: The outline of every object by its number.
      page: The page they lie on.
      has_classes: Whether there is more than one class of objects.
    """
    return [
        Region(
            f"{row['id']:04d}",
            polygons[int(row["id"])],
            page,
            f"class {row['class']}" if has_classes else "",
            {"confidence": row["confidence"]},
        )
        for row in rows
    ]


def check_imagej() -> None:
    """Refuses to go on without the package that makes ROI sets.

    Raises:
      ModuleNotFoundError: If it is not installed.
    """
    _roifile()


def imagej_rois(regions: Sequence[Region], metadata: Metadata = Metadata()) -> bytes:
    """Returns a ROI set of ImageJ, a ZIP archive of one .roi file for each region.

    A region of one piece without holes is a traced polygon, others are composite.

    Args:
      regions: The regions; their names must differ within a page.
      metadata: Axes of the stack that the pages are of.

    Raises:
      ModuleNotFoundError: If roifile is not installed.
    """
    roifile = _roifile()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for region in regions:
            roi = _imagej_roi(roifile, region.polygons)
            roi.name = region.name
            if metadata.is_stack:
                roi.name = f"{region.page + 1:04d}-{region.name}"
                roi.position = region.page + 1
                if set(metadata.axes) == {"T", "Z"}:
                    place = _place(region.page, metadata)
                    roi.t_position, roi.z_position = place["t"] + 1, place["z"] + 1
                    roi.position = 0
            # Without the time, equal regions give equal files.
            entry = zipfile.ZipInfo(f"{roi.name}.roi")
            archive.writestr(entry, roi.tobytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def geojson(regions: Sequence[Region], metadata: Metadata = Metadata()) -> str:
    """Returns the objects as GeoJSON that QuPath imports as detections.

    Coordinates are pixels, with the corner of the image at (0, 0). Rings are closed,
    and holes are interior rings. Regions of a stack have the plane they lie in.

    Args:
      regions: The regions.
      metadata: Axes of the stack that the pages are of.
    """
    features = [_feature(region, metadata) for region in regions]
    lines = ",\n".join(json.dumps(each, separators=(",", ":")) for each in features)
    return f'{{"type":"FeatureCollection","features":[\n{lines}\n]}}\n'


def _feature(region: Region, metadata: Metadata) -> dict[str, Any]:
    polygons = [
        [[*ring.tolist(), ring[0].tolist()] for ring in polygon.rings]
        for polygon in region.polygons
    ]
    geometry: dict[str, Any] = (
        {"type": "Polygon", "coordinates": polygons[0]}
        if len(polygons) == 1
        else {"type": "MultiPolygon", "coordinates": polygons}
    )
    if metadata.is_stack:
        geometry["plane"] = {"c": -1, **_place(region.page, metadata)}
    properties: dict[str, Any] = {"objectType": "detection", "name": region.name}
    if region.classification:
        properties["classification"] = {"name": region.classification}
    if region.measurements:
        properties["measurements"] = dict(region.measurements)
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _place(page: int, metadata: Metadata) -> dict[str, int]:
    """Returns the section and the time of a page; those of other axes are times."""
    if math.prod(metadata.shape) <= page or not set(metadata.axes) <= {"T", "Z"}:
        return {"z": 0, "t": page}
    found = dict(
        zip(metadata.axes, np.unravel_index(page, metadata.shape), strict=True)
    )
    return {"z": int(found.get("Z", 0)), "t": int(found.get("T", 0))}


def _imagej_roi(roifile: types.ModuleType, polygons: Sequence[Polygon]) -> Any:  # noqa: ANN401
    """Returns a `roifile.ImagejRoi` without a name."""
    rings = [ring for polygon in polygons for ring in polygon.rings]
    corners = np.concatenate(rings)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    roi = roifile.ImagejRoi()
    roi.left, roi.top, roi.right, roi.bottom = map(int, (left, top, right, bottom))
    if len(rings) == 1 and max(right, bottom) <= _LARGEST:
        roi.roitype = roifile.ROI_TYPE.TRACED
        roi.integer_coordinates = (corners - (left, top)).astype(np.int32)
        roi.n_coordinates = len(corners)
    else:
        roi.roitype = roifile.ROI_TYPE.RECT  # with a path: a composite
        path = np.concatenate([_path(ring) for ring in rings])
        roi.multi_coordinates = path.astype(np.float32)
        roi.shape_roi_size = path.size
    return roi


def _path(ring: np.ndarray) -> np.ndarray:
    """Returns a ring as segments: 0 moves to a point, 1 draws a line, 4 closes."""
    operations = np.ones((len(ring), 1), ring.dtype)
    operations[0] = 0
    return np.append(np.concatenate([operations, ring], axis=1).ravel(), 4)


def _roifile() -> types.ModuleType:
    try:
        import roifile
    except ImportError as error:
        raise ModuleNotFoundError(
            "ROI sets of ImageJ need roifile: pip install 'unetjax[rois]'."
        ) from error
    return roifile
