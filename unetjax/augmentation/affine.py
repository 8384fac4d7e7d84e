"""Random rotation and reflection."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def random_affine(
    key: PRNGKeyArray, *, rotation: float, flip: bool
) -> Float[Array, "2 2"]:
    """Returns the matrix of a random rotation, with probability 1/2 of a reflection.

    Args:
      key: Random key.
      rotation: The angle is uniform in [-rotation / 2, rotation / 2], in degrees.
      flip: Whether to mirror the columns with probability 1/2.
    """
    angle_key, flip_key = jax.random.split(key)
    turns = jax.random.uniform(angle_key, minval=-0.5, maxval=0.5)
    angle = jnp.deg2rad(rotation * turns)
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    sign = jnp.where(jax.random.bernoulli(flip_key), -1.0, 1.0) if flip else 1.0
    return jnp.array([[cosine, -sine * sign], [sine, cosine * sign]])
