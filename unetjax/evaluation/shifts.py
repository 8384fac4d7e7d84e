"""Images as another microscope might have taken them: the robustness of a model.

Each shift changes an annotated image, and its annotation with it where pixels move.
Strengths are relative to the span of grey values between the 1st and 99.8th percentile,
so that they are alike for images of any type.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped
from scipy import ndimage

from unetjax.data.examples import Example
from unetjax.evaluation.score_sets import ScoreSet
from unetjax.inference import magnification
from unetjax.inference.segmentation import Segmentation
from unetjax.reporting import console
from unetjax.reporting.report import Table

Shift = Callable[[Example], Example]

_BLUR = 2.0  # pixels: standard deviation of a Gaussian
_NOISE = 0.1  # standard deviation, in spans of grey values
_GAIN = 0.5
_OFFSET = 0.2  # in spans of grey values


def blur(example: Example) -> Example:
    """Returns the image out of focus."""
    return _with_values(
        example, lambda x, _: ndimage.gaussian_filter(x, (_BLUR, _BLUR, 0))
    )


def noise(example: Example) -> Example:
    """Returns the image with Gaussian noise, which depends on its name alone."""
    seed = list(example.name.encode())

    def add(values: Float[np.ndarray, "H W C"], span: float) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return values + _NOISE * span * rng.standard_normal(values.shape)

    return _with_values(example, add)


def gain(example: Example) -> Example:
    """Returns the image with half of the signal on a brighter ground."""
    return _with_values(example, lambda x, span: _GAIN * x + _OFFSET * span)


def inverted(example: Example) -> Example:
    """Returns the image with dark and bright exchanged."""
    return _with_values(example, lambda x, _: x.max() + x.min() - x)


def fewer_bits(example: Example) -> Example:
    """Returns the image as 8-bit values from its least to its largest."""
    values = example.image.astype(np.float64)
    span = max(values.max() - values.min(), 1e-12)
    scaled = 255 * (values - values.min()) / span
    return example._replace(image=np.round(scaled).astype(np.uint8))


def scaled(example: Example, factor: float) -> Example:
    """Returns the image at another magnification; labels take the nearest pixel."""
    shape = magnification.scaled_shape(example.label.shape, factor)
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for new, old in zip(shape, example.label.shape, strict=True)
    )
    resized = magnification.resize(example.image.astype(np.float64), shape)
    return example._replace(
        image=_as_type(resized, example.image.dtype),
        label=example.label[rows][:, columns],
        instances=example.instances[rows][:, columns],
    )


SHIFTS: dict[str, Shift] = {
    "as they are": lambda example: example,
    "blurred": blur,
    "noisy": noise,
    "darker, on a brighter ground": gain,
    "8 bits": fewer_bits,
    "half the size": functools.partial(scaled, factor=0.5),
    "twice the size": functools.partial(scaled, factor=2.0),
    "inverted": inverted,
}


def score(
    examples: Sequence[Example],
    segment: Callable[[Shaped[np.ndarray, "H W C"]], Segmentation],
    score_set: ScoreSet,
) -> dict[str, dict[str, float]]:
    """Returns all scores of the images under each shift, and shows the progress.

    Args:
      examples: At least one annotated image.
      segment: Returns the prediction for an image.
      score_set: Which scores.
    """
    scores = dict[str, dict[str, float]]()
    total = len(SHIFTS) * len(examples)
    with console.progress("shifted images", total=total, unit="image") as bar:
        for title, shift in SHIFTS.items():
            shifted, predictions = list[Example](), list[Segmentation]()
            for example in examples:
                shifted.append(shift(example))
                predictions.append(segment(shifted[-1].image))
                bar.advance()
            scores[title] = score_set.compute(shifted, predictions)
    return scores


def table(scores: Mapping[str, Mapping[str, float]], score_set: ScoreSet) -> Table:
    """Returns a row for each shift, with the fraction of the score that it leaves."""
    unchanged = next(iter(scores.values()))[score_set.ranking]
    rows = [
        {
            "images": title,
            **{name: each[key] for name, key in score_set.columns.items()},
            "of unchanged": each[score_set.ranking] / (unchanged or math.nan),
        }
        for title, each in scores.items()
    ]
    kept = score_set.shown[score_set.ranking]
    return Table(
        ["images", *score_set.columns, "of unchanged"],
        rows,
        f"of unchanged: the fraction of {kept} kept.",
    )


def _with_values(
    example: Example, change: Callable[[Float[np.ndarray, "H W C"], float], np.ndarray]
) -> Example:
    """Returns the example with changed grey values, in the type that it had."""
    values = example.image.astype(np.float64)
    low, high = np.percentile(values, (1, 99.8))
    changed = change(values, float(high - low))
    return example._replace(image=_as_type(changed, example.image.dtype))


def _as_type(
    values: Float[np.ndarray, "H W C"], dtype: np.dtype
) -> Shaped[np.ndarray, "H W C"]:
    if not np.issubdtype(dtype, np.integer):
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.round(values).clip(limits.min, limits.max).astype(dtype)
