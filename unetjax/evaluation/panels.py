"""What there is to look at while a run goes on: pictures, and words of warning."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from unetjax.data.examples import Example
from unetjax.inference.segment import Segmentation
from unetjax.reporting import pictures
from unetjax.weight_maps.device import separation_weight_map
from unetjax.weight_maps.settings import WeightMapSettings

Panels = list[tuple[str, UInt8[np.ndarray, "_ _ 3"]]]

_SIDE = 224  # pixels of a panel's longer side in a strip


def panels(
    example: Example, found: Segmentation, settings: WeightMapSettings
) -> Panels:
    """Returns pictures with their captions of one image and what was made of it.

    Args:
      example: The image with its truth.
      found: What the network made of it.
      settings: Of the weight map, Eq. (2).
    """
    image = pictures.grey(example.image)
    annotated = example.label >= 0
    weight = np.asarray(separation_weight_map(example.instances, settings=settings))
    return [
        ("image", image),
        ("truth", pictures.color_labels(example.instances)),
        ("prediction", pictures.color_labels(found.instances)),
        (
            "probability",
            pictures.heat(1 - found.probs[..., 0], limits=(0.0, 1.0)),
        ),
        (
            "extra orange, missed blue",
            pictures.errors(image, (found.label > 0) & annotated, example.label > 0),
        ),
        ("weight map", pictures.heat(weight)),
    ]


def strip(
    examples: Sequence[Example],
    found: Sequence[Segmentation],
    settings: WeightMapSettings,
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Returns one picture: a row of panels for each image, of one size."""
    rows = []
    for example, segmentation in zip(examples, found, strict=True):
        titles, shown = zip(*panels(example, segmentation, settings), strict=True)
        fitted = [pictures.fit(picture, side=_SIDE) for picture in shown]
        rows.append(pictures.side_by_side(fitted, (example.name, *titles[1:])))
    return pictures.stack(rows)


def comparison(
    examples: Sequence[Example], found: Sequence[tuple[str, Sequence[Segmentation]]]
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Returns one picture: a row for each image, its truth, and what models found.

    Args:
      examples: The images with their truth.
      found: Of every model a name, and what it made of each image.
    """
    rows = []
    for i, example in enumerate(examples):
        panels = [
            (example.name, pictures.grey(example.image)),
            ("truth", pictures.color_labels(example.instances)),
            *((name, pictures.color_labels(f[i].instances)) for name, f in found),
        ]
        titles, shown = zip(*panels, strict=True)
        fitted = [pictures.fit(picture, side=_SIDE) for picture in shown]
        rows.append(pictures.side_by_side(fitted, titles))
    return pictures.stack(rows)
