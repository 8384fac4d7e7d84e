"""Segmentations as files: an overlay to look at, a mask or label image to use."""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from unetjax.files import images
from unetjax.inference.segment import Segmentation
from unetjax.reporting import console, pictures

Image = Shaped[np.ndarray, "H W C"]


class _Files(NamedTuple):
    overlay: pathlib.Path
    result: pathlib.Path
    probs: pathlib.Path | None


def write_all(
    segment: Callable[[Image], Segmentation],
    inputs: Sequence[tuple[str, Image | Callable[[], Image]]],
    folder: pathlib.Path,
    *,
    labels: bool,
    probabilities: bool,
) -> None:
    """Segments images and writes the results; nothing is written over.

    An image named a turns into a_overlay.png and a_mask.png (0 and 255; classes, where
    there are more than two) or a_labels.tif (numbered cells), and a_probs.tif.

    Args:
      segment: From an image to its segmentation, see `evaluation.segment`.
      inputs: Name and image, or name and a function that reads it.
      folder: Where to write; made if it is absent.
      labels: Whether to number the cells instead of writing a mask.
      probabilities: Whether to write them as well, float32, one channel a class.

    Raises:
      FileExistsError: If a file that would be written exists; before anything starts.
      ValueError: If two images have one name, or as `segment` does.
    """
    names = [name for name, _ in inputs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"several images are called {', '.join(twice)}; segment them into folders "
            "of their own."
        )
    outputs = [
        _Files(
            folder / f"{name}_overlay.png",
            folder / (f"{name}_labels.tif" if labels else f"{name}_mask.png"),
            folder / f"{name}_probs.tif" if probabilities else None,
        )
        for name in names
    ]
    for path in (path for files in outputs for path in files if path is not None):
        if path.exists():
            raise FileExistsError(
                f"{path} exists and is not written over; name another --out folder."
            )
    folder.mkdir(parents=True, exist_ok=True)
    with console.progress("segmenting", total=len(inputs), unit="image") as bar:
        for (name, image), files in zip(inputs, outputs, strict=True):
            pixels = image() if callable(image) else image
            try:
                found = segment(pixels)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            _write(pixels, found, files, labels=labels)
            bar.advance(cells=int(found.instances.max(initial=0)))


def _write(image: Image, found: Segmentation, files: _Files, *, labels: bool) -> None:
    picture = pictures.outlines(pictures.grey(image), found.instances)
    pictures.write_png(files.overlay, picture)
    if labels:
        images.write_labels(files.result, found.instances)
    else:
        scale = 255 if found.probs.shape[-1] == 2 else 1
        images.write_image(files.result, (scale * found.label[..., None]).astype("u1"))
    if files.probs is not None:
        images.write_image(files.probs, found.probs)
