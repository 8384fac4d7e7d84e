"""The `Metric` protocol: counts that merge over images, divided once by `compute`."""

import functools
import operator
from collections.abc import Iterable
from typing import Protocol, TypeVar, runtime_checkable

import jax

State = TypeVar("State")
AnyMetric = TypeVar("AnyMetric", bound="Metric")


@runtime_checkable
class Metric(Protocol):
    """Counts of one image or of many, from which scores are computed.

    Merging is associative and commutative, so that the scores of a data set do not
    depend on how it is cut into parts. The mean of the scores of its images is, in
    general, another number.
    """

    def merge(self: AnyMetric, other: AnyMetric, /) -> AnyMetric:
        """Returns the counts of both sets of images together."""
        ...

    def compute(self) -> dict[str, float]:
        """Returns every score by its name; NaN where there was nothing to count."""
        ...


def add_fields(one: State, other: State) -> State:
    """Returns the sum of two states, field by field."""
    return jax.tree.map(operator.add, one, other)


def merge_all(metrics: Iterable[AnyMetric]) -> AnyMetric:
    """Merges the metrics of at least one image into that of all of them."""
    return functools.reduce(lambda one, other: one.merge(other), metrics)
