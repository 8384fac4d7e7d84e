"""Random rotation, reflection and scaling."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def random_affine(
    key: PRNGKeyArray, *, rotation: float, flip: bool, scale: float = 1.0
) -> Float[Array, "2 2"]:
    """Returns a random matrix from positions in a tile to positions in the image.

    Args:
      key: Random key.
      rotation: The angle is uniform in [-rotation / 2, rotation / 2], in degrees.
      flip: Whether to mirror the columns with probability 1/2.
      scale: Objects appear larger by a factor in [1 / scale, scale], whose logarithm is
        uniform.
    """
    angle_key, flip_key = jax.random.split(key)
    turns = jax.random.uniform(angle_key, minval=-0.5, maxval=0.5)
    angle = jnp.deg2rad(rotation * turns)
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    sign = jnp.where(jax.random.bernoulli(flip_key), -1.0, 1.0) if flip else 1.0
    affine = jnp.array([[cosine, -sine * sign], [sine, cosine * sign]])
    if scale == 1:
        return affine
    # A key of its own, so that angles and reflections are those without scaling.
    exponent = jax.random.uniform(jax.random.fold_in(key, 1), minval=-1.0)
    return affine * jnp.float32(scale) ** exponent
