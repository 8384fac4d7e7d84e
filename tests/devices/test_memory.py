import jax
import jax.numpy as jnp
import pytest

from unetjax.devices import memory
from unetjax.files import limits

SPEC = jax.ShapeDtypeStruct((256, 256), jnp.float32)
SIZE = 256 * 256 * 4  # bytes


def compiled(function, **options):
    return jax.jit(function, **options).lower(SPEC).compile()


def test_arguments_and_outputs_are_counted():
    planned = memory.memory_of(compiled(lambda x: 2 * x))
    assert (planned.arguments, planned.outputs) == (SIZE, SIZE)
    assert planned.total == planned.arguments + planned.outputs + planned.temporaries


def test_an_output_in_place_of_a_donated_argument_is_not_counted():
    planned = memory.memory_of(compiled(lambda x: 2 * x, donate_argnums=0))
    assert (planned.arguments, planned.outputs) == (SIZE, 0)


def test_intermediate_results_are_counted():
    planned = memory.memory_of(compiled(lambda x: jnp.sort(x @ x, axis=0) @ x))
    assert planned.temporaries >= SIZE


def test_without_the_memory_of_the_machine_there_is_no_limit(monkeypatch):
    assert memory.limit() == limits.installed_memory() // 2
    monkeypatch.setattr(limits, "installed_memory", lambda: None)
    with pytest.raises(ValueError, match="cannot be determined; set tile_size and bat"):
        memory.limit()
