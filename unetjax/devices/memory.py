"""Memory that a compiled function takes, before it is run, and what there is."""

import os
from typing import NamedTuple

import jax


class Memory(NamedTuple):
    """Bytes on one device, as the compiler plans them.

    Attributes:
      arguments: What is given to the function, such as the state and the data.
      outputs: What it returns, without what takes the place of a donated argument.
      temporaries: What it needs in between, such as activations.
    """

    arguments: int
    outputs: int
    temporaries: int

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return sum(self)


def memory_of(compiled: jax.stages.Compiled) -> Memory | None:
    """Returns the memory of a compiled function, None where the device does not say.

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
    """Returns how many bytes a program may plan with on the first local device.

    What JAX may use of a GPU or TPU; half of the machine's memory on a CPU, which other
    programs and the data need as well. It does not change while a program runs.

    Raises:
      ValueError: If neither the device nor the system says, as Windows.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if not hasattr(os, "sysconf"):
        raise ValueError(
            "this system does not say how much memory it has; choose tile_size and "
            "batch_size yourself."
        )
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
