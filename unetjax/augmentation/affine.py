"""Random rotation and mirroring."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def random_affine(
    key: PRNGKeyArray, *, rotation: float, flip: bool
) -> Float[Array, "2 2"]:
    """Returns a random rotation, mirrored in every second case.

    Args:
      key: Random key.
      rotation: The angle is uniform in [-rotation / 2, rotation / 2], in degrees.
      flip: Whether to mirror the columns with probability 1/2.
    """
    turn, mirror = jax.random.split(key)
    angle = jnp.deg2rad(rotation * jax.random.uniform(turn, minval=-0.5, maxval=0.5))
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    sign = jnp.where(jax.random.bernoulli(mirror), -1.0, 1.0) if flip else 1.0
    return jnp.array([[cosine, -sine * sign], [sine, cosine * sign]])
