"""Memory that a compiled function needs, and the memory that is available."""

from typing import NamedTuple

import jax

from unetjax.files import limits


class Memory(NamedTuple):
    """Bytes on one device, as planned by the compiler.

    Attributes:
      arguments: Arguments of the function, such as the state and the data.
      outputs: Its results, except those that reuse the memory of donated arguments.
      temporaries: Intermediate results, such as activations.
    """

    arguments: int
    outputs: int
    temporaries: int

    @property
    def total(self) -> int:
        """The sum, in bytes."""
        return sum(self)


def memory_of(compiled: jax.stages.Compiled) -> Memory | None:
    """Returns the memory of a compiled function; None if the device does not tell.

    Args:
      compiled: From `jax.jit(function).lower(*args).compile()`.
    """
    plan = compiled.memory_analysis()
    if plan is None:
        return None
    return Memory(
        arguments=plan.argument_size_in_bytes,
        outputs=plan.output_size_in_bytes - plan.alias_size_in_bytes,
        temporaries=plan.temp_size_in_bytes,
    )


def limit() -> int:
    """Returns how many bytes a program may plan to use on the first local device.

    This is what JAX may use of a GPU or TPU. On a CPU it is half of the memory of the
    machine, as other programs and the data need memory as well. It is constant while a
    program runs, except where the addresses of the process are limited (`ulimit -v`):
    then it is a quarter of those that are left, as XLA takes more than twice as many
    addresses as memory.

    Raises:
      ValueError: If the memory cannot be determined, as on Windows.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    installed = limits.installed_memory()
    if installed is None:
        raise ValueError(
            "the memory of this machine cannot be determined; set tile_size and "
            "batch_size by hand."
        )
    left = limits.addresses_left()
    return installed // 2 if left is None else min(installed // 2, left // 4)


def is_exhausted(error: Exception) -> bool:
    """Returns whether an error says that memory was too little, on host or device."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
