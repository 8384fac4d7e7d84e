"""Memory that a compiled function takes, before it is run."""

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
