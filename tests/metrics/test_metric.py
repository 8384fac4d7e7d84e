"""The three families of scores as metrics: parts merge into the whole."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetjax.metrics.cells import CellMetric
from unetjax.metrics.em import EmMetric
from unetjax.metrics.metric import merge_all
from unetjax.metrics.tracking import TrackingMetric

few = settings(deadline=None, max_examples=20)
maps = hnp.arrays(np.int32, (4, 5, 6), elements=st.integers(0, 3))


def cells(truth, predicted):
    return CellMetric.from_image(
        np.minimum(truth, 1), truth, np.minimum(predicted, 1), predicted, num_classes=2
    )


def em(truth, predicted):
    return EmMetric.from_image(truth, predicted / 3)


FAMILIES = {"cells": cells, "em": em, "tracking": TrackingMetric.from_image}


@pytest.mark.parametrize("family", FAMILIES)
@few
@given(truths=maps, predictions=maps)
def test_scores_do_not_depend_on_how_images_are_grouped(family, truths, predictions):
    """Merging is associative and commutative, so parts merge into the whole."""
    a, b, c, d = map(FAMILIES[family], truths, predictions)
    close = functools.partial(pytest.approx, nan_ok=True)
    whole = merge_all([a, b, c, d]).compute()
    assert whole["num_images"] == 4
    assert a.merge(b).merge(c.merge(d)).compute() == close(whole)
    assert a.merge(b.merge(c).merge(d)).compute() == close(whole)
    assert merge_all([d, c, b, a]).compute() == close(whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_merging_leaves_its_arguments_unchanged(family):
    """States are values: a metric can be merged into several others."""
    truth, predicted = np.eye(6, dtype=np.int32), np.eye(6, k=1, dtype=np.int32)
    one, other = FAMILIES[family](truth, truth), FAMILIES[family](truth, predicted)
    before = repr((one, other))
    assert one.merge(other).compute()["num_images"] == 2
    assert repr((one, other)) == before
