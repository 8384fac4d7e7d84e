"""Warnings of predictions: what speaks against trusting a result, and the remedy."""

import collections
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from unetjax.data.checks import listed
from unetjax.files.pages import Metadata
from unetjax.inference import image_statistics, magnification
from unetjax.inference.segment import Segmentation
from unetjax.inference.trained_model import TrainedModel

_FULL = 0.995  # share of pixels from which everything is foreground
_FEWEST = 5  # objects in an image of which the size is compared
# Ratio of diameters from which objects are of another size. That of a few images may
# differ by less from that of the training images without any change of magnification.
_RATIO = 1.6

Scale = float | Literal["auto"]


class PredictionWarnings:
    """Collects what is odd about images and their predictions, image by image.

    Args:
      trained: The model.
      numbers_cells: Whether the results are numbered cells.
      scale: Factor by which images are enlarged.
    """

    def __init__(
        self, trained: TrainedModel, *, numbers_cells: bool, scale: Scale
    ) -> None:
        self._trained, self._scale = trained, scale
        self._numbers_cells = numbers_cells
        self._found = collections.defaultdict[str, dict[str, str]](dict)
        self._count = 0

    def inspect(
        self,
        name: str,
        pages: Shaped[np.ndarray, "N H W C"],
        predictions: Sequence[Segmentation],
    ) -> None:
        """Notes what is odd about the images of a file and their predictions."""
        self._count += 1
        for kind, detail in self._oddities(pages, predictions):
            self._found[kind].setdefault(name, detail)

    def sentences(self) -> list[str]:
        """Returns a sentence for each kind of oddity, with the images that have it."""
        return [
            f"{_subject(len(found), self._count)} {_KINDS[kind][0]}: "
            f"{listed([_named(*each) for each in found.items()], most=3)}; "
            f"{_KINDS[kind][1]}."
            for kind, found in sorted(self._found.items())
        ]

    def _oddities(
        self,
        pages: Shaped[np.ndarray, "N H W C"],
        predictions: Sequence[Segmentation],
    ) -> list[tuple[str, str]]:
        """Returns kinds and details of what is odd."""
        trained, found = self._trained, list[tuple[str, str]]()
        known = trained.provenance.images
        texts = (
            image_statistics.difference(page, trained.input_scaling, known)
            for page in pages
        )
        if text := next(filter(None, texts), ""):
            found.append(("grey", text))
        share = np.mean([(each.label > 0).mean() for each in predictions])
        if share == 0 or share >= _FULL:
            return [*found, ("nothing" if share == 0 else "everything", "")]
        if self._numbers_cells and self._scale != "auto" and trained.object_diameter:
            count = sum(int(each.instances.max()) for each in predictions)
            size = magnification.object_diameter(*(x.instances for x in predictions))
            # Objects are learned and found at the scale of the network.
            ratio = (size or 0) * self._scale / trained.object_diameter
            if count >= _FEWEST and not 1 / _RATIO <= ratio <= _RATIO:
                detail = f"{size:.3g} pixels wide, {trained.object_diameter:.3g} "
                found.append(("size", detail + "in training"))
        return found


def pixel_sizes(
    files: Sequence[tuple[str, Metadata]], trained: TrainedModel, scale: Scale
) -> str:
    """Returns the warning of images whose pixels are of another size; "" if none are.

    Args:
      files: Names and metadata of the images.
      trained: The model.
      scale: Factor by which images are enlarged; `auto` is one by the objects.
    """
    learned = trained.provenance.images.pixel_size
    if learned is None or scale == "auto":
        return ""
    odd = dict[str, float]()
    for name, metadata in files:
        size = metadata.micrometres
        if size is None:
            continue
        factor = float(np.sqrt(size[0] * size[1])) / learned
        ratio = factor / scale
        if not 1 / magnification.TOLERATED <= ratio <= magnification.TOLERATED:
            odd[name] = factor
    if not odd:
        return ""
    middle = float(np.median(list(odd.values())))
    names = [f"{name} ({factor * learned:.3g} um)" for name, factor in odd.items()]
    return (
        f"{_subject(len(odd), len(files))} other pixels than the training images, "
        f"whose pixels are {learned:.3g} um: {listed(names, most=3)}; use "
        f"--scale {middle:.2g}, which makes objects as large as those of training."
    )


_KINDS = {  # what images are or have, and the remedy
    "grey": (
        "grey values far from those of the training images",
        "look at the overlays; images of another contrast or exposure need a model "
        "that was trained on some of them",
    ),
    "size": (
        "objects of another size than those learned",
        "use --scale auto if the magnification is another",
    ),
    "nothing": (
        "no foreground in the result",
        "nothing was found: compare contrast, magnification and channels with the "
        "training images, which  unetjax info  describes",
    ),
    "everything": (
        "nothing but foreground in the result",
        "compare contrast, magnification and channels with the training images, which "
        " unetjax info  describes",
    ),
}


def _subject(count: int, total: int) -> str:
    return f"{count} of {total} images {'has' if count == 1 else 'have'}"


def _named(name: str, detail: str) -> str:
    return f"{name} ({detail})" if detail else name
