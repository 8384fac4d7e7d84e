"""Test-time augmentation (TTA): rotations and reflections of the image, and averaging.

The paper's result on ISBI 2012 is "averaged over 7 rotated versions of the input data"
(Sec. 4); it names neither the angles nor what was averaged. Here soft-max probabilities
are averaged: each transformed image is predicted in tiles of its own, and the
transformation is then inverted.

Right angles move pixels onto pixels: `rot90` and `d4` do not interpolate, so that they
leave a pixel-wise function unchanged, bit for bit. `rot7` interpolates twice, in the
transformation and in its inverse.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Shaped

from unetjax.augmentation import warp
from unetjax.settings import check_choice

TTA = Literal["none", "rot90", "d4", "rot7"]


class Transform(NamedTuple):
    """A rotation of an image, after an optional reflection.

    Attributes:
      angle: Rotation counter-clockwise, in degrees.
      mirrored: Whether left and right are exchanged before.
    """

    angle: float = 0.0
    mirrored: bool = False


def transforms(tta: TTA) -> tuple[Transform, ...]:
    """Returns the transformations to average over, the identity first.

    The time of prediction is proportional to their number: `none` 1, `rot90` 4, `d4` 8,
    `rot7` 7 and up to twice as long, as a rotated image fills its bounding box.

    Args:
      tta: `none`; `rot90`: the 4 right angles; `d4`: these with and without reflection,
        all symmetries of the square; `rot7`: 7 rotations by multiples of 360/7 degrees,
        closest to the paper's text.

    Raises:
      ValueError: If it is none of these.

    Example:
      >>> [transform.angle for transform in transforms("rot90")]
      [0.0, 90.0, 180.0, 270.0]
    """
    check_choice("tta", tta, TTA)
    if tta == "rot7":
        return tuple(Transform(360.0 * j / 7) for j in range(7))
    angles = (0.0,) if tta == "none" else (0.0, 90.0, 180.0, 270.0)
    reflections = (False, True) if tta == "d4" else (False,)
    return tuple(Transform(angle, m) for m in reflections for angle in angles)


def transformed_shape(transform: Transform, height: int, width: int) -> tuple[int, int]:
    """Returns height and width of the bounding box of a transformed image.

    Example:
      >>> transformed_shape(Transform(90.0), 20, 30)
      (30, 20)
      >>> transformed_shape(Transform(45.0), 11, 11)
      (16, 16)
    """
    if transform.angle % 90 == 0:
        return (width, height) if transform.angle % 180 else (height, width)
    sine, cosine = (abs(x) for x in _sine_and_cosine(transform.angle))
    down, right = height - 1, width - 1
    spans = (cosine * down + sine * right, sine * down + cosine * right)
    # Rounding errors must not add a row or a column.
    new_height, new_width = (math.ceil(span - 1e-3) + 1 for span in spans)
    return new_height, new_width


def apply(
    transform: Transform, image: Shaped[np.ndarray, "H W C"]
) -> Shaped[np.ndarray, "h w C"]:
    """Returns the transformed image; its mirror image fills the bounding box.

    Args:
      transform: Reflection and rotation.
      image: Network input; of any type for right angles.
    """
    upright = image[:, ::-1] if transform.mirrored else image
    if transform.angle % 90 == 0:
        return np.rot90(upright, int(transform.angle) // 90)
    shape = transformed_shape(transform, *image.shape[:2])
    return _rotate(upright, transform.angle, shape)


def invert(
    transform: Transform, probs: Shaped[np.ndarray, "h w K"], height: int, width: int
) -> Shaped[np.ndarray, "H W K"]:
    """Returns a prediction of a transformed image at the pixels of the image.

    Args:
      transform: The transformation that was applied.
      probs: Values at the pixels of `apply(transform, image)`; of any type for right
        angles.
      height: Height of the image.
      width: Width of the image.
    """
    if transform.angle % 90 == 0:
        upright = np.rot90(probs, -(int(transform.angle) // 90))
    else:
        upright = _rotate(probs, -transform.angle, (height, width))
    return upright[:, ::-1] if transform.mirrored else upright


def mean(
    predictions: Iterable[Float32[np.ndarray, "H W K"]],
) -> Float32[np.ndarray, "H W K"]:
    """Returns the mean of at least one prediction, holding one at a time in memory.

    As a running mean it returns equal predictions unchanged, bit for bit.

    Raises:
      ValueError: If there is no prediction.
    """
    result = None
    for count, probs in enumerate(predictions, start=1):
        if result is None:
            result = probs
        else:
            result = result + (probs - result) / np.float32(count)
    if result is None:
        raise ValueError("there is no prediction to average; give at least one.")
    return result


def mean_and_variance(
    predictions: Iterable[Float32[np.ndarray, "H W K"]],
    probs_of: Callable[[Float32[np.ndarray, "H W K"]], Float[np.ndarray, "H W k"]],
) -> tuple[Float32[np.ndarray, "H W K"], Float32[np.ndarray, "H W"]]:
    """Returns the `mean` of predictions, and the variance of their probabilities.

    Args:
      predictions: At least one; one at a time is held in memory.
      probs_of: From a prediction to the probabilities whose variance counts.

    Returns:
      The mean, and the mean over classes of the variance of a probability: 0 where all
      predictions agree, at most 0.25 with two classes.

    Raises:
      ValueError: If there is no prediction.
    """
    center, total, count = np.zeros(1, np.float32), np.zeros(1, np.float32), 0

    def watched() -> Iterator[Float32[np.ndarray, "H W K"]]:
        nonlocal center, total, count
        for outputs in predictions:
            probs, count = probs_of(outputs), count + 1
            delta = probs - center
            center = center + delta / np.float32(count)
            total = total + (delta * (probs - center)).mean(axis=-1)
            yield outputs

    average = mean(watched())
    return average, total / np.float32(count)


def _rotate(
    image: Float[np.ndarray, "H W C"], angle: float, shape: tuple[int, int]
) -> Float[np.ndarray, "h w C"]:
    """The image rotated about its centre, which becomes the centre of the shape."""
    sine, cosine = _sine_and_cosine(angle)
    matrix = jnp.array([[cosine, sine], [-sine, cosine]], jnp.float32)
    return np.asarray(_read_rotated(jnp.asarray(image), matrix, shape=shape))


@functools.partial(jax.jit, static_argnames="shape")
def _read_rotated(
    image: Float[Array, "H W C"], matrix: Float[Array, "2 2"], *, shape: tuple[int, int]
) -> Float[Array, "h w C"]:
    height, width, channels = image.shape
    rows, columns = (jnp.arange(n) - (n - 1) / 2 for n in shape)
    grid = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)
    center = jnp.array([(height - 1) / 2, (width - 1) / 2]).reshape(1, 1, 2)
    positions = jnp.einsum("ij,hwj->hwi", matrix, grid, precision="highest") + center
    extent = warp.Extent(0, height, width)
    return warp.linear(image.reshape(-1, channels), extent, positions)


def _sine_and_cosine(angle: float) -> tuple[float, float]:
    return math.sin(math.radians(angle)), math.cos(math.radians(angle))
