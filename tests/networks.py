"""Networks that tests initialise."""

import functools

import jax


def init(model, key, image):
    """Returns the initial variables of a network, compiled as one program."""
    return jax.jit(functools.partial(model.init, train=False))(key, image)
