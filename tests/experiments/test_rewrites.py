import functools

import jax
import numpy as np
import pytest

from experiments.benchmarks import rewrites
from experiments.benchmarks.measuring import OURS
from tests.experiments.tiny import TINY


@pytest.mark.parametrize("pair", list(rewrites.pairs(16)), ids=lambda pair: pair.name)
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


def test_rewrites_and_rematerialisation_are_measured(monkeypatch):
    few = list(rewrites.pairs(16))[-1:]  # others take longer to compile, and are alike
    monkeypatch.setattr(rewrites, "pairs", lambda size: few)
    pair, steps = rewrites.rewrites(TINY, {})
    assert [row.name for row in pair] == [OURS, "plain"]
    assert all(row.ratio for row in pair)
    assert [row.name for row in steps] == [OURS, "unetjax, remat=True"]
    assert all(row.memory and row.median for row in steps)
