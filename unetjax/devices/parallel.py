"""The one place that knows about several devices: batch axis, sharding, pmap."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

AXIS = "batch"


def usable_devices(batch_size: int) -> int:
    """Returns on how many local devices a batch can be split evenly."""
    return math.gcd(batch_size, jax.local_device_count())


def replicate(tree: PyTree, num_devices: int | None = None) -> PyTree:
    """Copies every array to local devices, so that a step compiles only once.

    Args:
      tree: Arrays on any device.
      num_devices: How many local devices to use; all of them by default.
    """
    mesh = Mesh(np.array(jax.local_devices()[:num_devices]), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def data_parallel(
    step_fn: Callable[..., PyTree], *, num_devices: int | None = None
) -> Callable[..., PyTree]:
    """Compiles `step_fn(state, batch, *shared, axis_name=...)` for several devices.

    State and shared arguments are replicated, the batch is split over its leading
    device axis, and the state's buffers are donated. The state keeps no device axis, so
    it is saved and evaluated as it is.

    Args:
      step_fn: A step whose results are equal on every device.
      num_devices: How many local devices to use; all of them by default.

    Returns:
      The compiled step; its batch has shape [device, batch / device, ...].
    """

    @functools.cache
    def compiled(num_shared: int) -> Callable[..., PyTree]:
        return jax.pmap(
            functools.partial(step_fn, axis_name=AXIS),
            axis_name=AXIS,
            in_axes=(None, 0, *(None,) * num_shared),
            out_axes=None,
            donate_argnums=0,
            devices=jax.local_devices()[:num_devices],
        )

    def run(state: PyTree, batch: PyTree, *shared: PyTree) -> PyTree:
        return compiled(len(shared))(state, batch, *shared)

    return run


def shard(batch: PyTree, num_devices: int) -> PyTree:
    """Reshapes every array from [B, ...] to [num_devices, B / num_devices, ...].

    Raises:
      ValueError: If B is not a multiple of `num_devices`.
    """

    def split(x: jax.Array) -> jax.Array:
        if x.shape[0] % num_devices:
            raise ValueError(
                f"batch_size must be a multiple of {num_devices} devices, "
                f"got {x.shape[0]}."
            )
        return x.reshape(num_devices, -1, *x.shape[1:])

    return jax.tree.map(split, batch)


def as_varying(tree: PyTree, axis_name: str) -> PyTree:
    """Marks replicated arrays as if they differed between devices.

    With its default checks `jax.shard_map` tracks which values are equal on all
    devices, and sums the gradients of those that are. The values stay as they are.

    Args:
      tree: Replicated arrays inside a mapped function.
      axis_name: Name of the mapped axis.
    """
    # The index of the device differs by definition: where that does not show in its
    # type, as under `pmap` and `vmap`, nothing is tracked.
    index, constant = jax.lax.axis_index(axis_name), jnp.zeros((), jnp.int32)
    if jax.typeof(index) == jax.typeof(constant):
        return tree
    return jax.lax.pcast(tree, axis_name, to="varying")
