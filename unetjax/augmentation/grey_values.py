"""Random changes of grey values."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def random_grey_values(
    key: PRNGKeyArray,
    image: Float[Array, "H W C"],
    *,
    contrast: float,
    noise: float,
) -> Float[Array, "H W C"]:
    """Returns the image seen through a random monotone curve, with Gaussian noise.

    The curve is the cubic that takes black (0) to `contrast` * U(-1, 1), white (1) to
    1 + `contrast` * U(-1, 1), with end slopes of 1 + 4 `contrast` * U(-1, 1), and goes
    on straight beyond. With 0.05 these are the ranges of the authors' later software
    (Falk et al. 2019), whose curve has five control points.

    Args:
      key: Random key.
      image: Network input, of about unit range.
      contrast: Strength of the curve, at most 0.15; 0 keeps all values.
      noise: Standard deviation of the noise, in units of the network input.
    """
    curve, grain = jax.random.split(key)
    if contrast:
        image = apply_curve(
            image,
            contrast
            * jax.random.uniform(curve, (4,), minval=-1, maxval=1)
            * jnp.array([1.0, 1.0, 4.0, 4.0])
            + jnp.array([0.0, 1.0, 1.0, 1.0]),
        )
    if noise:
        image = image + noise * jax.random.normal(grain, image.shape)
    return image


def apply_curve(
    image: Float[Array, "H W C"], curve: Float[Array, "4"]
) -> Float[Array, "H W C"]:
    """Returns the cubic curve of the image.

    Args:
      image: Grey values.
      curve: Values at 0 and 1, slopes at 0 and 1; straight outside of [0, 1].
    """
    black, white, first, last = curve
    x = jnp.clip(image, 0.0, 1.0)
    cubic = (
        black * (1 + 2 * x) * (1 - x) ** 2
        + first * x * (1 - x) ** 2
        + white * x**2 * (3 - 2 * x)
        + last * x**2 * (x - 1)
    )
    below = first * jnp.minimum(image, 0.0)
    return cubic + below + last * jnp.maximum(image - 1.0, 0.0)
