import jax
import jax.numpy as jnp

from unetjax.devices import memory

SPEC = jax.ShapeDtypeStruct((256, 256), jnp.float32)
SIZE = 256 * 256 * 4  # bytes


def compiled(function, **options):
    return jax.jit(function, **options).lower(SPEC).compile()


def test_what_goes_in_and_out_is_counted():
    found = memory.memory_of(compiled(lambda x: 2 * x))
    assert (found.arguments, found.outputs) == (SIZE, SIZE)
    assert found.total == found.arguments + found.outputs + found.temporaries


def test_a_donated_argument_makes_room_for_the_output():
    found = memory.memory_of(compiled(lambda x: 2 * x, donate_argnums=0))
    assert (found.arguments, found.outputs) == (SIZE, 0)


def test_what_is_needed_in_between_is_counted():
    found = memory.memory_of(compiled(lambda x: jnp.sort(x @ x, axis=0) @ x))
    assert found.temporaries >= SIZE
