"""Pictures of predictions beside the truth: image, labels, errors, weight map."""

from collections.abc import Mapping, Sequence

import numpy as np

from unetjax.data.examples import Example
from unetjax.inference.segment import Segmentation
from unetjax.reporting import pictures
from unetjax.reporting.pictures import Picture
from unetjax.weight_maps.device import separation_weight_map
from unetjax.weight_maps.settings import WeightMapSettings

Panels = list[tuple[str, Picture]]  # captions and pictures

_SIDE = 224  # pixels of a panel's longer side in a strip


def panels(
    example: Example, prediction: Segmentation, settings: WeightMapSettings
) -> Panels:
    """Returns pictures of one image, its truth and its prediction, with captions.

    Args:
      example: The image with its truth.
      prediction: The prediction of a network.
      settings: Of the weight map, Eq. (2), which is shown if it has any border term.
    """
    image = pictures.grey(example.image)
    annotated = example.label >= 0
    predicted, true = (prediction.label > 0) & annotated, example.label > 0
    result = [
        ("image", image),
        ("truth", pictures.color_labels(example.instances)),
        ("prediction", pictures.color_labels(prediction.instances)),
        (
            "probability",
            pictures.heat(1 - prediction.probs[..., 0], limits=(0.0, 1.0)),
        ),
        ("extra orange, missed blue", pictures.errors(image, predicted, true)),
    ]
    if settings.w0 or settings.near:  # one grey level otherwise
        weight = separation_weight_map(example.instances, settings=settings)
        result.append(("weight map", pictures.heat(np.asarray(weight))))
    return result


def strip(
    examples: Sequence[Example],
    predictions: Sequence[Segmentation],
    settings: WeightMapSettings,
) -> Picture:
    """Returns one picture with a row of panels for each image, all of one size."""
    rows = []
    for example, prediction in zip(examples, predictions, strict=True):
        (_, image), *others = panels(example, prediction, settings)
        rows.append([(example.name, image), *others])
    return _stack(rows)


def comparison(
    examples: Sequence[Example], predictions: Mapping[str, Sequence[Segmentation]]
) -> Picture:
    """Returns one picture with a row for each image: truth, and several predictions.

    Args:
      examples: The images with their truth.
      predictions: Of each model, by its name, the predictions of all images.
    """
    rows = []
    for i, example in enumerate(examples):
        labels = {
            "truth": example.instances,
            **{name: models[i].instances for name, models in predictions.items()},
        }
        colored = [(name, pictures.color_labels(x)) for name, x in labels.items()]
        rows.append([(example.name, pictures.grey(example.image)), *colored])
    return _stack(rows)


def _stack(rows: Sequence[Panels]) -> Picture:
    """Joins rows of captions and pictures."""
    joined = []
    for row in rows:
        titles, shown = zip(*row, strict=True)
        fitted = [pictures.fit(picture, side=_SIDE) for picture in shown]
        joined.append(pictures.side_by_side(fitted, titles))
    return pictures.stack(joined)
