"""The `Metric` protocol: counts that merge over images, divided once by `compute`."""

import functools
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Real, Shaped

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


def check_same_size(**maps: Shaped[np.ndarray, "..."]) -> None:
    """Refuses two maps of different sizes, the reference first, by their names.

    Raises:
      ValueError: If the second does not have the size of the first.
    """
    (reference, first), (name, second) = maps.items()
    if first.shape != second.shape:
        raise ValueError(
            f"{name} must have the size of {reference}, {first.shape}, got "
            f"{second.shape}; crop or pad one of them."
        )


def check_probability(probability: Real[np.ndarray, "..."]) -> None:
    """Refuses values that are no probabilities, and an empty array.

    Raises:
      ValueError: If a value is outside of [0, 1].
    """
    # A chained comparison is False for NaN, which is refused as well.
    if not (probability.size and 0 <= probability.min() <= probability.max() <= 1):
        raise ValueError(
            f"probability must be from 0 to 1, got {probability.min(initial=0)} to "
            f"{probability.max(initial=0)}; divide 8-bit values by 255."
        )


def add_fields(one: State, other: State) -> State:
    """Returns the sum of two states, field by field; fields may be states as well."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return type(one)(*map(add_fields, one, other))
    count: Any = one
    return count + other


def merge_all(metrics: Iterable[AnyMetric]) -> AnyMetric:
    """Merges the metrics of at least one image into that of all of them."""
    return functools.reduce(lambda one, other: one.merge(other), metrics)
