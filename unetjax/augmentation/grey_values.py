"""Random changes of grey values: blur, gamma, contrast curve, noise."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray


def random_grey_values(
    key: PRNGKeyArray,
    image: Float[Array, "H W C"],
    *,
    contrast: float,
    curve_points: int,
    gamma: float,
    blur: float,
    noise: float,
) -> Float[Array, "H W C"]:
    """Returns the image after a random blur, gamma, contrast curve and noise.

    Args:
      key: Random key.
      image: Network input, of about unit range.
      contrast: Strength of the curve of `random_curve`, at most 0.125; 0 changes
        nothing.
      curve_points: Number of its control points: 2, 3, 5, 9, ...
      gamma: Positive values x become x^g, log g being uniform in [-gamma, gamma].
      blur: Largest standard deviation of a Gaussian blur, in pixels; it is uniform
        from 0.
      noise: Standard deviation of the noise, in units of the network input.
    """
    curve_key, noise_key, gamma_key, blur_key = jax.random.split(key, 4)
    if blur:
        sigma = blur * jax.random.uniform(blur_key)
        image = gaussian_blur(image, sigma, radius=math.ceil(3 * blur))
    if gamma:
        log_exponent = jax.random.uniform(gamma_key, minval=-gamma, maxval=gamma)
        exponent = jnp.exp(log_exponent)
        image = jnp.where(image > 0, jnp.abs(image) ** exponent, image)
    if contrast:
        image = apply_curve(image, *random_curve(curve_key, contrast, curve_points))
    if noise:
        image = image + noise * jax.random.normal(noise_key, image.shape)
    return image


def check_curve_points(num_points: int) -> None:
    """Refuses a number of control points that halving intervals cannot give.

    Raises:
      ValueError: If it is not one more than a power of 2.
    """
    intervals = num_points - 1
    if intervals < 1 or intervals & (intervals - 1):  # not a power of 2
        raise ValueError(
            "curve_points must be one more than a power of 2 (2, 3, 5, 9, ...), got "
            f"{num_points}."
        )


def random_curve(
    key: PRNGKeyArray, contrast: float, num_points: int = 2
) -> tuple[Float[Array, " P"], Float[Array, " P"]]:
    """Returns values and slopes of a monotone curve at equidistant points of [0, 1].

    Black (0) becomes `contrast` * U(-1, 1), white (1) 1 + `contrast` * U(-1, 1).
    The slopes at both ends, and the mean slopes between neighbouring points, lie within
    1 +- 4 `contrast`. With 0.05 and five points these are the ranges of the authors'
    later software (Falk et al. 2019). Drawing the inner points by halving intervals is
    our choice.

    Args:
      key: Random key.
      contrast: Strength; the curve is monotone up to 0.125.
      num_points: Number of control points, one more than a power of 2.

    Raises:
      ValueError: If the number of control points is none of these.
    """
    check_curve_points(num_points)
    halvings = (num_points - 1).bit_length() - 1
    draws = jax.random.uniform(key, (num_points + 2,), minval=-1, maxval=1)
    ends, rest = contrast * draws[:4], (draws[4:] + 1) / 2
    values = ends[:2] + jnp.array([0.0, 1.0])
    min_slope, max_slope = 1 - 4 * contrast, 1 + 4 * contrast
    for i in range(halvings):
        # Midpoints are uniform over the interval in which the mean slopes of both
        # halves stay within their range.
        left, right, half = values[:-1], values[1:], 0.5 ** (i + 1)
        low = jnp.maximum(left + half * min_slope, right - half * max_slope)
        high = jnp.minimum(left + half * max_slope, right - half * min_slope)
        middle = low + rest[: len(low)] * (high - low)
        rest = rest[len(low) :]
        pairs = jnp.stack([left, middle], axis=1).ravel()
        values = jnp.concatenate([pairs, values[-1:]])
    secants = jnp.diff(values) * (num_points - 1)
    inner = (secants[:-1] + secants[1:]) / 2
    first, last = 1 + 4 * ends[2:3], 1 + 4 * ends[3:]
    return values, jnp.concatenate([first, inner, last])


def apply_curve(
    image: Float[Array, "H W C"], values: Float[Array, " P"], slopes: Float[Array, " P"]
) -> Float[Array, "H W C"]:
    """Returns the image under a piecewise cubic curve that is linear outside [0, 1].

    Args:
      image: Grey values.
      values: The curve at equidistant points from 0 to 1, at least two.
      slopes: Slopes of the curve at these points.
    """
    pieces = len(values) - 1
    inside = jnp.clip(image, 0.0, 1.0)
    curve = jnp.zeros_like(image)
    for i in range(pieces):
        x = inside * pieces - i
        cubic = (
            values[i] * (1 + 2 * x) * (1 - x) ** 2
            + slopes[i] / pieces * x * (1 - x) ** 2
            + values[i + 1] * x**2 * (3 - 2 * x)
            + slopes[i + 1] / pieces * x**2 * (x - 1)
        )
        curve = cubic if i == 0 else jnp.where(x >= 0, cubic, curve)
    below = slopes[0] * jnp.minimum(image, 0.0)
    return curve + below + slopes[-1] * jnp.maximum(image - 1.0, 0.0)


def gaussian_blur(
    image: Float[Array, "H W C"], sigma: Float[Array, ""], *, radius: int
) -> Float[Array, "H W C"]:
    """Returns the image after a Gaussian blur, mirrored at its border.

    Args:
      image: Grey values.
      sigma: Standard deviation, in pixels; 0 does not blur.
      radius: Distance at which the Gaussian is cut off, in pixels.
    """
    offsets = jnp.arange(-radius, radius + 1)
    weights = jnp.exp(-0.5 * (offsets / jnp.maximum(sigma, 1e-3)) ** 2)
    weights = weights / weights.sum()
    for axis in (0, 1):
        size = image.shape[axis]
        rim = [(radius, radius) if i == axis else (0, 0) for i in range(3)]
        padded = jnp.pad(image, rim, mode="reflect")
        image = jnp.zeros_like(image)
        for i, weight in enumerate(weights):
            image += weight * lax.slice_in_dim(padded, i, i + size, axis=axis)
    return image
