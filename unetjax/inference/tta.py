"""Test-time averaging: over rotated and mirrored versions, and over several models.

The paper's result on ISBI 2012 is "averaged over 7 rotated versions of the input data"
(Sec. 4); which angles, and what was averaged, it leaves open. Here soft-max
probabilities are averaged, each version tiled on its own and turned back.

Right angles move pixels onto pixels: `rot90` and `d4` interpolate nothing, so that they
leave a pixel-wise function unchanged, bit for bit. `rot7` reads between pixels twice,
on the way there and back.
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

Average = Literal["none", "rot90", "d4", "rot7"]


class Version(NamedTuple):
    """One way to turn an image.

    Attributes:
      angle: Rotation counter-clockwise, in degrees.
      mirrored: Whether left and right are exchanged before.
    """

    angle: float = 0.0
    mirrored: bool = False


def versions(average: Average) -> tuple[Version, ...]:
    """Returns the versions of an image that are averaged, the image itself first.

    Prediction takes as many times as long as there are versions: `none` 1, `rot90` 4,
    `d4` 8, `rot7` 7 and up to twice as long, as its images are turned into their
    bounding box.

    Args:
      average: `none`; `rot90`: 4 right angles; `d4`: these and their mirror images, all
        symmetries of the square; `rot7`: 7 rotations by multiples of 360/7 degrees,
        the nearest to the paper's text.

    Raises:
      ValueError: If it is none of these.

    Example:
      >>> [version.angle for version in versions("rot90")]
      [0.0, 90.0, 180.0, 270.0]
    """
    turns = [Version(90.0 * i) for i in range(4)]
    choices = {
        "none": turns[:1],
        "rot90": turns,
        "d4": turns + [version._replace(mirrored=True) for version in turns],
        "rot7": [Version(360.0 * j / 7) for j in range(7)],
    }
    if average not in choices:
        raise ValueError(
            f"average must be one of {', '.join(get_args(Average))}, got {average!r}."
        )
    return tuple(choices[average])


def turned_shape(version: Version, height: int, width: int) -> tuple[int, int]:
    """Returns height and width of the turned image: the bounding box of all pixels.

    Example:
      >>> turned_shape(Version(90.0), 20, 30), turned_shape(Version(45.0), 11, 11)
      ((30, 20), (16, 16))
    """
    if version.angle % 90 == 0:
        return (width, height) if version.angle % 180 else (height, width)
    sine, cosine = (abs(x) for x in _sine_and_cosine(version.angle))
    down, right = height - 1, width - 1
    spans = (cosine * down + sine * right, sine * down + cosine * right)
    turned_height, turned_width = (math.ceil(span - 1e-3) + 1 for span in spans)
    return turned_height, turned_width


def turn(
    image: Shaped[np.ndarray, "H W C"], version: Version
) -> Shaped[np.ndarray, "h w C"]:
    """Returns the turned image; beyond its border lies its mirror image.

    Args:
      image: Network input; of any type for right angles.
      version: How to turn it.
    """
    upright = image[:, ::-1] if version.mirrored else image
    if version.angle % 90 == 0:
        return np.rot90(upright, int(version.angle) // 90)
    return _rotate(upright, version.angle, turned_shape(version, *image.shape[:2]))


def turn_back(
    probs: Shaped[np.ndarray, "h w K"], version: Version, height: int, width: int
) -> Shaped[np.ndarray, "H W K"]:
    """Returns what was computed of the turned image, at the pixels of the image.

    Args:
      probs: Values at the pixels of `turn(image, version)`; of any type for right
        angles.
      version: How the image was turned.
      height: Height of the image.
      width: Width of the image.
    """
    if version.angle % 90 == 0:
        upright = np.rot90(probs, -(int(version.angle) // 90))
    else:
        upright = _rotate(probs, -version.angle, (height, width))
    return upright[:, ::-1] if version.mirrored else upright


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

    The variance says where models or versions disagree; it is that of the given
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
