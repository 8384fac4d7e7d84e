"""What there is to look at while a run goes on: pictures, and words of warning."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from unetjax.data.source import Example
from unetjax.reporting import pictures
from unetjax.training.evaluation import Segmentation
from unetjax.weight_maps.device import separation_weight_map
from unetjax.weight_maps.settings import WeightMap

Panels = list[tuple[str, UInt8[np.ndarray, "_ _ 3"]]]

_SIDE = 224  # pixels of a panel's longer side in a strip
_COLLAPSED = 0.01  # of the pixels that are truly of other classes
_DEAD = 1e-3  # difference of probabilities over an image


def panels(example: Example, found: Segmentation, settings: WeightMap) -> Panels:
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
    settings: WeightMap,
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


def collapse_warning(
    confusion: Int[np.ndarray, "K K"],
    probs: Sequence[Float[np.ndarray, "H W K"]],
    *,
    step: int,
    learning_rate: float,
) -> str:
    """Returns likely causes where one class is predicted nearly everywhere, else "".

    That is so where all other classes together get less than a hundredth of the pixels
    that are truly theirs.

    Args:
      confusion: Pixels of every true class (row) and predicted class (column).
      probs: Of some of the images.
      step: Updates done so far.
      learning_rate: That of the last update.

    Example:
      >>> told_apart = np.array([[80, 10], [5, 5]])
      >>> collapse_warning(told_apart, [], step=500, learning_rate=0.01)
      ''
    """
    true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    only = int(predicted.argmax())
    others = np.arange(len(confusion)) != only
    theirs = true[others].sum()
    if not theirs or predicted[others].sum() >= _COLLAPSED * theirs:
        return ""
    what = (
        f"step {step}: nearly every held-out pixel is predicted as class {only}, which "
        f"{true[only] / true.sum():.1%} are."
    )
    # A living network follows the image even where one class wins everywhere.
    spread = max((float(np.ptp(p, axis=(0, 1)).max()) for p in probs), default=1.0)
    if spread < _DEAD:
        return (
            f"{what} Its output is the same everywhere, the activations are dead: "
            f"lower optimizer.learning_rate ({learning_rate:.3g} now) or set "
            "optimizer.clip_norm, and start again."
        )
    return (
        f"{what} It may be early, as the output follows the image; if it stays so, a "
        "class weighs too little (weight_map.class_balance), masks are misread (see "
        "pictures/), or optimizer.learning_rate is unfit "
        f"({learning_rate:.3g} now)."
    )
