"""The one place that knows about several devices: batch axis, sharding, pmap.

`jax.pmap` has been a wrapper over `jax.jit` and `jax.shard_map` since JAX 0.8, and the
only one since 0.9.2. Its documentation advises new code to call `jax.shard_map`; no
removal was announced up to JAX 0.12. `data_parallel` makes either call, with equal
results, so the setting `devices.partition` is all that depends on `jax.pmap`.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from unetjax.devices.settings import DeviceSettings, Partition

AXIS = "batch"


def usable_devices(batch_size: int) -> int:
    """Returns on how many devices a batch can be split evenly, over all processes.

    Raises:
      ValueError: If the batch cannot be split over the processes.
    """
    num_processes = jax.process_count()
    if batch_size % num_processes:
        raise ValueError(
            f"batch_size must be a multiple of the {num_processes} processes, got "
            f"{batch_size}; start fewer of them, or set config.batch_size."
        )
    own = math.gcd(batch_size // num_processes, jax.local_device_count())
    return num_processes * own


def _devices(num_devices: int | None, process: int) -> list[jax.Device]:
    """Those of a process among so many devices of all processes."""
    own = None if num_devices is None else num_devices // jax.process_count()
    return jax.local_devices(process_index=process)[:own]


def replicate(tree: PyTree, num_devices: int | None = None) -> PyTree:
    """Copies every array to local devices, so that a step compiles only once.

    Args:
      tree: Arrays on any local device, equal in all processes.
      num_devices: How many devices to use, over all processes; by default all of them.
    """
    mesh = Mesh(np.array(_devices(num_devices, jax.process_index())), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def data_parallel(
    step_fn: Callable[..., PyTree],
    *,
    num_devices: int | None = None,
    partition: Partition = DeviceSettings.partition,
) -> Callable[..., PyTree]:
    """Compiles `step_fn(state, batch, *shared, axis_name=...)` for several devices.

    State and shared arguments are replicated, the batch is split over its leading
    device axis, and the state's buffers are donated. The state keeps no device axis, so
    it is saved and evaluated as it is. Every process passes its own rows of the batch,
    see `own_rows`; arguments and results are arrays on its own devices.

    Args:
      step_fn: A step whose results are equal on every device.
      num_devices: How many devices to use, over all processes; by default all of them.
      partition: Whether `jax.pmap` or `jax.jit` compiles it; the results are equal.

    Returns:
      The compiled step; its batch has shape [device, batch / device, ...].
    """
    processes = range(jax.process_count())
    devices = [device for i in processes for device in _devices(num_devices, i)]
    compile_for = _pmap if partition == "pmap" else _jit
    step = functools.partial(step_fn, axis_name=AXIS)

    @functools.cache
    def compiled(num_shared: int) -> Callable[..., PyTree]:
        return compile_for(step, devices, num_shared)

    def run(state: PyTree, batch: PyTree, *shared: PyTree) -> PyTree:
        return compiled(len(shared))(state, batch, *shared)

    return run


def _pmap(
    step: Callable[..., PyTree], devices: Sequence[jax.Device], num_shared: int
) -> Callable[..., PyTree]:
    return jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0, *(None,) * num_shared),
        out_axes=None,
        donate_argnums=0,
        devices=devices,
    )


def _jit(
    step: Callable[..., PyTree], devices: Sequence[jax.Device], num_shared: int
) -> Callable[..., PyTree]:
    """What `_pmap` is made of, by the functions that JAX recommends for new code."""
    mesh = Mesh(np.array(devices), (AXIS,))
    shared, split = PartitionSpec(), PartitionSpec(AXIS)
    specs = (shared, split, *(shared,) * num_shared)

    def of_one_device(state: PyTree, batch: PyTree, *shared: PyTree) -> PyTree:
        return step(state, jax.tree.map(lambda x: x[0], batch), *shared)

    mapped = jax.shard_map(
        of_one_device, mesh=mesh, in_specs=specs, out_specs=shared, check_vma=False
    )
    compiled = jax.jit(
        mapped,
        donate_argnums=0,
        in_shardings=tuple(NamedSharding(mesh, spec) for spec in specs),
        out_shardings=NamedSharding(mesh, shared),
    )
    if jax.process_count() == 1:
        return compiled

    def run(*local: PyTree) -> PyTree:
        to_global = multihost_utils.host_local_array_to_global_array
        to_local = multihost_utils.global_array_to_host_local_array
        args = [to_global(x, mesh, spec) for x, spec in zip(local, specs, strict=True)]
        return to_local(compiled(*args), mesh, shared)

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


def own_rows(batch: PyTree) -> PyTree:
    """Returns the rows of this process of a batch that `shard` has split."""

    def rows(x: jax.Array) -> jax.Array:
        own = x.shape[0] // jax.process_count()
        return x[jax.process_index() * own :][:own]

    return batch if jax.process_count() == 1 else jax.tree.map(rows, batch)


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
