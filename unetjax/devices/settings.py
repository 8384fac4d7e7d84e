"""`DeviceSettings`: how a step is spread over devices."""

from dataclasses import dataclass
from typing import Literal

from unetjax.settings import check_fields

Partition = Literal["pmap", "jit"]


@dataclass(frozen=True)
class DeviceSettings:
    """How a training step is spread over devices; the numbers are the same.

    Attributes:
      partition: Which function of JAX spreads it: `jax.pmap`, or `jax.jit` over an
        explicit mesh; see `parallel.data_parallel`.
    """

    partition: Partition = "pmap"

    def __post_init__(self) -> None:
        """Validates all fields."""
        check_fields(self)
