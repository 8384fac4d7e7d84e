"""The table of `unetjax check`: what each image and its mask contain."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from unetjax.data.examples import IGNORED, Example
from unetjax.data.folder import FolderReport, Pair
from unetjax.files import images
from unetjax.files.names import escape
from unetjax.files.pages import Metadata
from unetjax.metrics import matching
from unetjax.reporting import console

Row = Mapping[str, int | float | str | None]

COLUMNS = (
    *("image", "mask", "axes", "pages", "height", "width", "channels", "type"),
    *("least", "largest", "pixel_height_um", "pixel_width_um"),
    *("masks", "decided", "objects"),
    *("least_diameter", "median_diameter", "largest_diameter"),
    *("touching_pairs", "foreground_share"),
)

_WIDTH = 80  # of a line on the console
_LEAST_NAME = 12  # characters of a name that are shown, however wide the rest is


def measure(report: FolderReport, *, most: int | None = None) -> list[Row]:
    """Returns a row of facts for each pair of files, under the names of `COLUMNS`.

    Diameters are in pixels, of the disc of equal area; sizes and shares are of all
    pages of a stack together. What is unknown is None.

    Args:
      report: Images and masks that were read.
      most: The number of rows, if it is bounded.
    """
    if report.summary is None:
        return []
    masks = report.summary.masks
    known = {"masks": masks.mask_type, "decided": masks.reason}
    pages = zip(report.pairs, report.examples, strict=True)
    groups = itertools.groupby(pages, key=lambda page: page[0])
    return [
        {**_measure_pair(pair, [example for _, example in group]), **known}
        for pair, group in itertools.islice(groups, most)
    ]


def show(rows: Sequence[Row]) -> str:
    """Returns the rows as text of at most 80 columns, as far as names allow."""
    shown = [_shown(row) for row in rows]
    columns = [x for x in shown[0] if x != "pixel" or any(row[x] for row in shown)]
    rest = console.table([{**row, "image": ""} for row in shown], columns)
    used = max(map(len, rest.splitlines())) - len("image")
    room = max(_WIDTH - used, _LEAST_NAME)
    named = [{**row, "image": _shorten(str(row["image"]), room)} for row in shown]
    return console.table(named, columns)


def _measure_pair(pair: Pair, pages: Sequence[Example]) -> Row:
    metadata = images.read_metadata(pair.image)
    height, width, channels = pages[0].image.shape
    pixel_height, pixel_width = metadata.micrometres or (None, None)
    areas = np.concatenate(
        [np.unique_counts(x.instances[x.instances > 0]).counts for x in pages]
    )
    diameters = 2 * np.sqrt(areas / np.pi)
    annotated = sum(np.count_nonzero(x.label != IGNORED) for x in pages)
    foreground = sum(np.count_nonzero(x.label > 0) for x in pages)
    return {
        "image": str(pair.image),
        "mask": str(pair.mask),
        "axes": _axes(metadata, len(pages), channels),
        "pages": len(pages),
        "height": height,
        "width": width,
        "channels": channels,
        "type": pages[0].image.dtype.name,
        "least": min(x.image.min() for x in pages).item(),
        "largest": max(x.image.max() for x in pages).item(),
        "pixel_height_um": pixel_height,
        "pixel_width_um": pixel_width,
        "objects": areas.size,
        "least_diameter": float(diameters.min()) if areas.size else None,
        "median_diameter": float(np.median(diameters)) if areas.size else None,
        "largest_diameter": float(diameters.max()) if areas.size else None,
        "touching_pairs": sum(
            len(matching.neighbours(x.instances, matching.TOUCHING)) for x in pages
        ),
        "foreground_share": foreground / annotated if annotated else None,
    }


def _axes(metadata: Metadata, pages: int, channels: int) -> str:
    """Returns the axes of a file, such as TYX; N is an unknown one."""
    stack = (metadata.axes or "N") if pages > 1 else ""
    return f"{stack}YX{'C' if channels > 1 else ''}"


def _shown(row: Row) -> dict[str, int | float | str]:
    """Returns a row of the console: fewer columns, short texts."""
    sides = [row["pages"]] if row["pages"] != 1 else []
    share, diameter = row["foreground_share"], row["median_diameter"]
    return {
        "image": escape(str(row["image"]).rpartition("/")[2]),
        "size": "x".join(str(side) for side in (*sides, row["height"], row["width"])),
        "type": str(row["type"])
        + (f" x{row['channels']}" if row["channels"] != 1 else ""),
        "grey": f"{_three(row['least'])}-{_three(row['largest'])}",
        "pixel": _pixel(row),
        "objects": int(row["objects"] or 0),
        "width": float(diameter) if diameter is not None else "",
        "touch": int(row["touching_pairs"] or 0),
        "fg": f"{100 * float(share):.0f}%" if share is not None else "",
    }


def _pixel(row: Row) -> str:
    """Returns the size of a pixel, such as "0.65 um"; "" if it is unknown."""
    if row["pixel_height_um"] is None:
        return ""
    sizes = [_three(row[f"pixel_{side}_um"]) for side in ("height", "width")]
    return f"{'x'.join(dict.fromkeys(sizes))} um"


def _three(value: object) -> str:
    """Returns an integer in full, and a float with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _shorten(name: str, room: int) -> str:
    """Returns a name without its middle, if it has more characters than there is room.

    Example:
      >>> _shorten("a_long_name_of_an_image.tif", 12)
      'a_lo...e.tif'
    """
    if len(name) <= room:
        return name
    end = (room - 3) // 2 + 1
    return f"{name[: room - 3 - end]}...{name[-end:]}"
