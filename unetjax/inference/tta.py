"""Test-time augmentation: averaging over rotated and mirrored images, and over models.

The paper's result on ISBI 2012 is "averaged over 7 rotated versions of the input data"
(Sec. 4); it does not say which angles, nor what was averaged. Here softmax
probabilities are averaged. Each transformed image is tiled on its own, and its
probabilities are transformed back.

Rotations by right angles map pixels onto pixels: `rot90` and `d4` do not interpolate
and leave a pixel-wise function unchanged, bit for bit. `rot7` interpolates twice, on
the way there and back.
"""

import functools
import math
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Shaped

from unetjax.augmentation import warp

TTA = Literal["none", "rot90", "d4", "rot7"]


class Transform(NamedTuple):
    """One way to apply an image.

    Attributes:
      angle: Rotation counter-clockwise, in degrees.
      mirrored: Whether left and right are exchanged before.
    """

    angle: float = 0.0
    mirrored: bool = False


def transforms(tta: TTA) -> tuple[Transform, ...]:
    """Returns the transforms of an image that are averaged, the image itself first.

    Prediction takes as many times as long as there are transforms: `none` 1, `rot90` 4,
    `d4` 8, `rot7` 7 and up to twice as long, as its images are turned into their
    bounding box.

    Args:
      tta: `none`; `rot90`: 4 right angles; `d4`: these and their mirror images, all
        symmetries of the square; `rot7`: 7 rotations by multiples of 360/7 degrees,
        the nearest to the paper's text.

    Raises:
      ValueError: If it is none of these.

    Example:
      >>> [transform.angle for transform in transforms("rot90")]
      [0.0, 90.0, 180.0, 270.0]
    """
    turns = [Transform(90.0 * i) for i in range(4)]
    choices = {
        "none": turns[:1],
        "rot90": turns,
        "d4": turns + [transform._replace(mirrored=True) for transform in turns],
        "rot7": [Transform(360.0 * j / 7) for j in range(7)],
    }
    if tta not in choices:
        raise ValueError(f"tta must be one of {', '.join(get_args(TTA))}, got {tta!r}.")
    return tuple(choices[tta])


def transformed_shape(transform: Transform, height: int, width: int) -> tuple[int, int]:
    """Returns height and width of the turned image: the bounding box of all pixels.

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
    turned_height, turned_width = (math.ceil(span - 1e-3) + 1 for span in spans)
    return turned_height, turned_width


def apply(
    image: Shaped[np.ndarray, "H W C"], transform: Transform
) -> Shaped[np.ndarray, "h w C"]:
    """Returns the turned image; beyond its border lies its mirror image.

    Args:
      image: Network input; of any type for right angles.
      transform: How to apply it.
    """
    upright = image[:, ::-1] if transform.mirrored else image
    if transform.angle % 90 == 0:
        return np.rot90(upright, int(transform.angle) // 90)
    return _rotate(
        upright, transform.angle, transformed_shape(transform, *image.shape[:2])
    )


def invert(
    probs: Shaped[np.ndarray, "h w K"], transform: Transform, height: int, width: int
) -> Shaped[np.ndarray, "H W K"]:
    """Returns what was computed of the turned image, at the pixels of the image.

    Args:
      probs: Values at the pixels of `apply(image, transform)`; of any type for right
        angles.
      transform: How the image was turned.
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
    """Returns the mean of at least one prediction, taken one after the other.

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
    return _at_least_one(result)


def mean_and_variance(
    predictions: Iterable[Float32[np.ndarray, "H W K"]],
) -> tuple[Float32[np.ndarray, "H W K"], Float32[np.ndarray, "H W K"]]:
    """Returns mean and variance of at least one prediction, pixel by pixel.

    The variance says where models or transforms disagree; it is that of the given
    predictions themselves (divided by their number), and 0 for one. By Welford's
    method, in one pass.

    Raises:
      ValueError: If there is no prediction.

    Example:
      >>> predictions = (np.full((1, 1, 1), p, np.float32) for p in (0.25, 0.75))
      >>> [float(x.item()) for x in mean_and_variance(predictions)]
      [0.5, 0.0625]
    """
    count, result, squares = 0, None, np.float32(0)
    for count, probs in enumerate(predictions, start=1):
        if result is None:
            result = probs
        step = probs - result
        result = result + step / np.float32(count)
        squares = squares + step * (probs - result)
    return _at_least_one(result), np.asarray(squares / np.float32(max(count, 1)))


def _at_least_one(
    result: Float32[np.ndarray, "H W K"] | None,
) -> Float32[np.ndarray, "H W K"]:
    if result is None:
        raise ValueError("there is no prediction to average; give at least one.")
    return result


def _rotate(
    image: Float[np.ndarray, "H W C"], angle: float, shape: tuple[int, int]
) -> Float[np.ndarray, "h w C"]:
    """The image turned about its centre, which becomes the centre of the shape."""
    sine, cosine = _sine_and_cosine(angle)
    matrix = jnp.array([[cosine, sine], [-sine, cosine]], jnp.float32)
    return np.asarray(_read_turned(jnp.asarray(image), matrix, shape=shape))


@functools.partial(jax.jit, static_argnames="shape")
def _read_turned(
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
