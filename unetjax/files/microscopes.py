"""Reading of microscopes' own formats, CZI, ND2 and LIF, by bioio and its readers."""

import importlib.util
import logging
import math
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from unetjax.files import limits
from unetjax.files.pages import Metadata, Pages

if TYPE_CHECKING:
    from bioio import BioImage

T = TypeVar("T")

SUFFIXES = (".czi", ".nd2", ".lif")


def is_installed() -> bool:
    """Returns whether bioio is installed, which reads these formats."""
    return importlib.util.find_spec("bioio") is not None


def read(path: pathlib.Path) -> Pages:
    """Returns all sections of a file: of every scene, time and depth, in this order.

    Raises:
      ValueError: If the file is damaged, too large, has axes beyond these, or its
        scenes differ in size.
    """
    image = _open(path)
    dtype = np.dtype(image.dtype)
    if dtype.kind not in "buif":
        raise ValueError(
            f"{path} has values of type {dtype}; accepted are integers and real "
            "numbers."
        )
    _check_axes(image, path)
    num_bytes = math.prod(image.shape) * dtype.itemsize
    limits.check_size(path, num_bytes * len(image.scenes))
    channels = "S" if "S" in image.dims.order else "C"
    scenes = list[np.ndarray]()
    for scene in image.scenes:
        image.set_scene(scene)
        values = _attempt(path, lambda: image.get_image_data(f"TZYX{channels}"))
        scenes.append(values.reshape(-1, *values.shape[2:]))
        if scenes[0].shape[1:] != scenes[-1].shape[1:]:
            raise ValueError(
                f"{path} has scenes of different sizes; save each as a file of its own."
            )
    return Pages(np.ascontiguousarray(np.concatenate(scenes)))


def read_metadata(path: pathlib.Path) -> Metadata:
    """Returns axes, pixel size and names of channels.

    Several scenes are one axis of times.

    Raises:
      ValueError: If the file is damaged.
    """
    image = _open(path)
    sequence = {axis: int(getattr(image.dims, axis)) for axis in "TZ"}
    if len(image.scenes) > 1:
        count = 0
        for scene in image.scenes:
            image.set_scene(scene)
            count += int(image.dims.T) * int(image.dims.Z)
        sequence = {"T": count}
    sequence = {axis: size for axis, size in sequence.items() if size > 1}
    size = image.physical_pixel_sizes
    is_known = bool(size.Y and size.X)  # 0 or None are unknown
    has_names = "S" not in image.dims.order and image.channel_names is not None
    return Metadata(
        "".join(sequence),
        tuple(sequence.values()),
        (float(size.Y), float(size.X)) if is_known else None,
        "um" if is_known else "",
        tuple(map(str, image.channel_names)) if has_names else (),
    )


def _open(path: pathlib.Path) -> "BioImage":
    """Returns the image of a file, of which the header is read."""
    from bioio import BioImage

    logging.getLogger("bioio").setLevel(logging.CRITICAL)  # it logs and raises

    def opened() -> BioImage:
        image = BioImage(path)
        image.shape  # noqa: B018 (reads the header)
        return image

    return _attempt(path, opened)


def _check_axes(image: "BioImage", path: pathlib.Path) -> None:
    """Refuses what would be left out without a word."""
    sizes = dict(zip(image.dims.order, image.shape, strict=True))
    further = {axis: n for axis, n in sizes.items() if axis not in "TZCYXS" and n > 1}
    if "S" in sizes and sizes.get("C", 1) > 1:
        further["C"] = sizes["C"]
    if further:
        listed = ", ".join(f"{axis} ({n})" for axis, n in further.items())
        raise ValueError(
            f"{path} has further axes, {listed}; export the image as TIFF."
        )


def _attempt(path: pathlib.Path, function: Callable[[], T]) -> T:
    """Returns what a function of bioio returns; its errors end in one sentence."""
    try:
        return function()
    except MemoryError:
        raise
    except Exception as error:  # each of its readers has errors of its own
        cause = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} cannot be read by bioio ({cause}); if it opens elsewhere, export "
            "it as TIFF."
        ) from error
