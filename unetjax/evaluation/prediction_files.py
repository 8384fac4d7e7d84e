"""Files of predictions: overlay, mask or label image, and probabilities."""

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
    instances: bool,
    probabilities: bool,
) -> None:
    """Segments images and writes the results, without overwriting any file.

    The image a becomes a_overlay.png, a_mask.png (0 and 255; the classes, if there are
    more than two) or a_labels.tif (numbered cells), and a_probs.tif.

    Args:
      segment: From an image to its segmentation, such as `unetjax.segment` of a model.
      inputs: Name and image, or name and a function that reads the image.
      folder: Where to write; created if absent.
      instances: Whether to write numbered cells instead of a mask.
      probabilities: Whether to write them as well: float32, one channel per class.

    Raises:
      FileExistsError: If an output file exists; nothing is segmented then.
      ValueError: If two images have the same name, or if `segment` raises it.
    """
    names = [name for name, _ in inputs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"several images are called {', '.join(twice)}; segment them into separate "
            "folders."
        )
    outputs = [
        _Files(
            folder / f"{name}_overlay.png",
            folder / (f"{name}_labels.tif" if instances else f"{name}_mask.png"),
            folder / f"{name}_probs.tif" if probabilities else None,
        )
        for name in names
    ]
    for path in (path for files in outputs for path in files if path is not None):
        if path.exists():
            raise FileExistsError(
                f"{path} exists and is not overwritten; name another --out folder."
            )
    folder.mkdir(parents=True, exist_ok=True)
    with console.progress("segmenting", total=len(inputs), unit="image") as bar:
        for (name, image), files in zip(inputs, outputs, strict=True):
            pixels = image() if callable(image) else image
            try:
                prediction = segment(pixels)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            _write(pixels, prediction, files, instances=instances)
            bar.advance(cells=int(prediction.instances.max(initial=0)))


def _write(
    image: Image, prediction: Segmentation, files: _Files, *, instances: bool
) -> None:
    picture = pictures.outlines(pictures.grey(image), prediction.instances)
    pictures.write_png(files.overlay, picture)
    if instances:
        images.write_labels(files.result, prediction.instances)
    else:
        scale = 255 if prediction.probs.shape[-1] == 2 else 1
        mask = (scale * prediction.label[..., np.newaxis]).astype(np.uint8)
        images.write_image(files.result, mask)
    if files.probs is not None:
        images.write_image(files.probs, prediction.probs)
