"""Reading of polygons: LabelMe and COCO as JSON, ROI sets of ImageJ.

Each outlined object is a cell; the names of classes are not used.
"""

import collections
import functools
import math
import pathlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32

from unetjax.annotations import polygons
from unetjax.annotations.polygons import Outlined, Ring
from unetjax.files import json_files, limits, names

SUFFIXES = (".json", ".zip", ".roi")
ENDING = "_rois"  # what may follow the name of the image in that of its ROI set

_MAX_ROIS = 200_000
_LARGEST_ROI = 1 << 24  # bytes
_LARGEST_SET = 1 << 28  # bytes of all regions together, unpacked
_CIRCLE = 64  # corners that stand for a circle


def is_annotation(path: pathlib.Path) -> bool:
    """Returns whether a name has the ending of a file of polygons."""
    return path.suffix.lower() in SUFFIXES


def covers(path: pathlib.Path, image: pathlib.Path) -> bool:
    """Returns whether a COCO file lists an image.

    Raises:
      ValueError: If it cannot be read or is not a COCO file.
    """
    found = _load(path)
    if not _is_coco(found):
        raise ValueError(
            f"{path} is no COCO file (a section with images and annotations), which "
            "alone can hold the masks of several images; name a folder of masks."
        )
    return _coco_image(found, image, path) is not None


def read(
    path: pathlib.Path, image: pathlib.Path, shape: tuple[int, int, int]
) -> Int32[np.ndarray, "N H W"]:
    """Returns the numbered cells that a file outlines in an image.

    Args:
      path: LabelMe or COCO JSON, a ROI (.roi) or a ROI set (.zip) of ImageJ.
      image: The image, whose name COCO files list.
      shape: Number of its pages, its height and width.

    Raises:
      FileNotFoundError: If there is no such file.
      ModuleNotFoundError: If a ROI set is read and roifile is not installed.
      ValueError: If the file is damaged, too large, of another image, or has objects
        that are no areas.
    """
    if path.suffix.lower() == ".json":
        found = _load(path)
        if _is_coco(found):
            objects = _coco(found, image, shape, path)
        elif isinstance(found, Mapping) and isinstance(found.get("shapes"), list):
            objects = _labelme(found, shape, path)
        else:
            raise ValueError(
                f"{path} is neither LabelMe (a section with shapes) nor COCO (images "
                "and annotations); export one of these, or a label image."
            )
    else:
        objects = _imagej(path)
    polygons.check(objects, str(path))
    return polygons.draw(objects, shape, str(path))


def _load(path: pathlib.Path) -> Any:  # noqa: ANN401
    """Returns the contents of a JSON file; the last one is kept for its next image."""
    limits.check_regular(path)
    found = path.stat()
    return _load_version(path, found.st_mtime_ns, found.st_size)


@functools.lru_cache(1)
def _load_version(path: pathlib.Path, _time: int, _size: int) -> Any:  # noqa: ANN401
    return json_files.read(path)


def _labelme(
    found: Mapping[str, Any], shape: tuple[int, int, int], path: pathlib.Path
) -> list[Outlined]:
    """Returns the objects of LabelMe; shapes of one group are pieces of one object."""
    _check_size(found.get("imageHeight"), found.get("imageWidth"), shape, path)
    groups = collections.defaultdict[Any, list[list[Ring]]](list)
    for i, each in enumerate(found["shapes"]):
        if not isinstance(each, Mapping):
            raise ValueError(f"{path} is damaged: shape {i} is {each!r:.40}.")
        group = each.get("group_id")
        is_named = isinstance(group, int | str)
        kind = each.get("shape_type") or "polygon"
        points = _ring(each.get("points"), path)
        groups[("group", group) if is_named else ("shape", i)].append(
            [_labelme_ring(points, str(kind), path)]
        )
    return [Outlined(pieces) for pieces in groups.values()]


def _labelme_ring(points: Ring, kind: str, path: pathlib.Path) -> Ring:
    if kind == "polygon":
        return points
    if kind in ("rectangle", "circle") and len(points) == 2:
        (left, top), (right, bottom) = points
        if kind == "rectangle":
            return np.array(
                [[left, top], [right, top], [right, bottom], [left, bottom]]
            )
        angle = np.linspace(0, 2 * np.pi, _CIRCLE, endpoint=False)
        radius = math.hypot(right - left, bottom - top)
        return points[0] + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    raise ValueError(
        f"{path} has a shape of type {kind!r:.40} with {len(points)} points; accepted "
        "are polygon, rectangle and circle: delete it, or draw it as a polygon."
    )


def _is_coco(found: object) -> bool:
    return isinstance(found, Mapping) and all(
        isinstance(found.get(key), list) for key in ("images", "annotations")
    )


def _coco_image(
    found: Mapping[str, Any], image: pathlib.Path, path: pathlib.Path
) -> Mapping[str, Any] | None:
    """Returns the entry of an image, which is known by the last part of its name."""
    entries = [each for each in found["images"] if isinstance(each, Mapping)]
    name = names.normalize(image.name)
    named = [each for each in entries if _last(each.get("file_name")) == name]
    if len(named) > 1:
        raise ValueError(f"{path} lists {image.name} {len(named)} times; keep one.")
    return named[0] if named else None


def _last(name: object) -> str:
    """Returns the last part of a path of any system."""
    return names.normalize(str(name).replace("\\", "/").rpartition("/")[2])


def _coco(
    found: Mapping[str, Any],
    image: pathlib.Path,
    shape: tuple[int, int, int],
    path: pathlib.Path,
) -> list[Outlined]:
    entry = _coco_image(found, image, path)
    if entry is None:
        raise ValueError(
            f"{path} does not list {image.name} among its images; use the file that "
            "was exported with it."
        )
    _check_size(entry.get("height"), entry.get("width"), shape, path)
    objects = list[Outlined]()
    for each in found["annotations"]:
        if not isinstance(each, Mapping) or each.get("image_id") != entry.get("id"):
            continue
        outlines = each.get("segmentation")
        if not isinstance(outlines, list) or not outlines:
            raise ValueError(
                f"{path} has an object of {image.name} without polygons (run lengths, "
                "or a box alone); export polygons, or a label image."
            )
        rings = [_ring(_pairs(outline, path), path) for outline in outlines]
        objects.append(Outlined([[ring] for ring in rings]))
    return objects


def _pairs(outline: object, path: pathlib.Path) -> list[Sequence[Any]]:
    """Returns the corners of an outline x, y, x, y, ..."""
    if not isinstance(outline, list) or len(outline) % 2:
        raise ValueError(f"{path} is damaged: an outline is {outline!r:.40}.")
    return list(zip(outline[::2], outline[1::2], strict=True))


def _ring(points: object, path: pathlib.Path) -> Ring:
    """Returns corners as an array; every value must be a number."""
    if isinstance(points, list) and len(points) <= polygons.MAX_VERTICES:
        pairs = [p for p in points if isinstance(p, list | tuple) and len(p) == 2]
        numbers = all(type(x) in (int, float) for pair in pairs for x in pair)
        if len(pairs) == len(points) and numbers:
            try:
                return np.array(pairs, np.float64).reshape(-1, 2)
            except OverflowError:
                pass
    raise ValueError(
        f"{path} is damaged: corners must be pairs of numbers, got {points!r:.40}."
    )


def _check_size(
    height: object, width: object, shape: tuple[int, int, int], path: pathlib.Path
) -> None:
    """Refuses outlines that were drawn in an image of another size."""
    if None not in (height, width) and (height, width) != shape[1:]:
        raise ValueError(
            f"{path} was drawn in an image of {height!r:.20}x{width!r:.20} pixels, its "
            f"image has {shape[1]}x{shape[2]}; use the image in which it was drawn."
        )


def _imagej(path: pathlib.Path) -> list[Outlined]:
    """Returns the regions of a ROI or a ROI set."""
    try:
        import roifile
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{path} holds regions of ImageJ, which need roifile: pip install "
            "'unetjax[rois]'."
        ) from error
    objects = list[Outlined]()
    for name, data in _roi_files(path):
        try:
            roi = roifile.ImagejRoi.frombytes(data)
            rings = [np.asarray(x, np.float64) for x in roi.coordinates(multi=True)]
        except Exception as error:
            raise ValueError(
                f"{path} is damaged: {name} is no region of ImageJ; save it again."
            ) from error
        rings = [ring for ring in rings if ring.size]
        areas = (
            *(roifile.ROI_TYPE.POLYGON, roifile.ROI_TYPE.FREEHAND),
            *(roifile.ROI_TYPE.TRACED, roifile.ROI_TYPE.RECT, roifile.ROI_TYPE.OVAL),
        )
        if roi.roitype not in areas or not rings:
            raise ValueError(
                f"{path} has a region that is no area: {name} is a "
                f"{roi.roitype.name.lower()}; delete it."
            )
        objects.append(Outlined([rings], roi.position - 1 if roi.position else None))
    return objects


def _roi_files(path: pathlib.Path) -> list[tuple[str, bytes]]:
    """Returns names and contents of the regions of a file, within bounds.

    Raises:
      ValueError: If the file is damaged, or too large when it is unpacked.
    """
    size = limits.check_regular(path)
    if path.suffix.lower() == ".roi":
        if size > _LARGEST_ROI:
            raise ValueError(f"{path} is damaged: it has {limits.format_bytes(size)}.")
        return [(path.name, path.read_bytes())]
    try:
        with zipfile.ZipFile(path) as archive:
            files = [x for x in archive.infolist() if not x.is_dir()]
            total = sum(each.file_size for each in files)
            largest = max((each.file_size for each in files), default=0)
            if (
                len(files) > _MAX_ROIS
                or total > _LARGEST_SET
                or largest > _LARGEST_ROI
                or any(not each.filename.lower().endswith(".roi") for each in files)
            ):
                raise ValueError(
                    f"{path} is no ROI set: it has {len(files):,} files of "
                    f"{limits.format_bytes(total)}, expected at most {_MAX_ROIS:,} "
                    f".roi files of {limits.format_bytes(_LARGEST_SET)}."
                )
            return [(each.filename, archive.read(each)) for each in files]
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); save the ROI set again."
        ) from error
