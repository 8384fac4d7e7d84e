import functools

import jax
import numpy as np
import pytest

from experiments.benchmarks import plan, rewrites
from experiments.benchmarks.measuring import OURS, Effort

TINY = plan.QUICK._replace(
    effort=Effort(rounds=2, most=2, seconds=0.0, turn=0.0),
    features=(2,),
    depth=1,
    tile_size=20,
    rewritten_size=16,
)


@pytest.mark.parametrize("pair", list(rewrites._pairs(16)), ids=lambda pair: pair.name)
def test_what_is_compared_gives_equal_numbers(pair):
    """Value and all gradients; otherwise the times would say nothing."""

    def numbers(function, *arguments):
        value, pull_back = jax.vjp(function, *arguments)
        slope = jax.random.normal(jax.random.key(1), value.shape)  # of both the same
        return value, *pull_back(slope)

    ours, plain = (
        jax.jit(functools.partial(numbers, function))(*pair.arguments)
        for function in (pair.ours, pair.plain)
    )
    for found, expected in zip(ours, plain, strict=True):
        atol = 2e-5 * abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def test_memory_is_saved_for_time():
    rows = rewrites._rematerialised(TINY)
    assert [row.name for row in rows] == [OURS, "unetjax, remat=True"]
    assert all(row.memory and row.median for row in rows)


def test_every_rewrite_has_its_plain_formulation():
    *groups, _ = rewrites.rewrites(TINY, {})
    assert all([row.name for row in rows] == [OURS, "plain"] for rows in groups)
    assert all(row.ratio for rows in groups for row in rows)
