"""Networks that tests initialise and apply, each as one compiled program.

Operation by operation, a small network is dozens of programs to compile.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def init(model, key, image):
    """Returns the initial variables of a network, compiled as one program."""
    return jax.jit(functools.partial(model.init, train=False))(key, image)


@functools.partial(
    jax.jit, static_argnames=("model", "train", "mutable", "capture_intermediates")
)
def apply(model, variables, image, *, train=False, **options):
    """Returns what `model.apply` returns."""
    return model.apply(variables, image, train=train, **options)


def normal(*shape, seed=0):
    """Returns an array of normal numbers, drawn without compiling anything."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)
