import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetjax.weight_maps import reference

MAPS = hnp.arrays(np.int64, (9, 11), elements=st.sampled_from([0, 0, 0, 1, 5, 10**12]))


def sorted_stack(instances):
    """d1 and d2 by their definition: every pixel against every pixel of every cell."""
    pixels = np.argwhere(np.ones(instances.shape, bool))
    stack = [np.full(len(pixels), np.inf)] * 2
    for cell in np.unique(instances[instances > 0]):
        steps = pixels[:, None] - np.argwhere(instances == cell)
        stack.append(np.sqrt((steps**2).sum(-1).min(axis=1)))
    d1, d2 = np.sort(stack, axis=0)[:2]
    return d1.reshape(instances.shape), d2.reshape(instances.shape)


@given(MAPS)
@settings(deadline=None, max_examples=50)
def test_running_minima_equal_the_sorted_stack(instances):
    """Whatever the numbering: cells touch, are split, are missing."""
    actual = reference.nearest_two(instances, radius=11)
    np.testing.assert_array_equal(actual, sorted_stack(instances))


@given(MAPS, st.integers(0, 8))
@settings(deadline=None, max_examples=50)
def test_cells_within_the_radius_are_seen(instances, radius):
    """A cropped transform may lose farther cells, never one of those."""
    exact = np.array(sorted_stack(instances))
    actual = np.array(reference.nearest_two(instances, radius=radius))
    near = exact <= radius
    np.testing.assert_array_equal(actual[near], exact[near])
    assert (actual[~near] > radius).all()


def test_fewer_than_two_cells_leave_the_class_term():
    for instances in (np.zeros((4, 5), int), np.eye(4, 5, dtype=int)):
        _, weight = reference.label_and_weight(instances, instances, (2.0, 0.5))
        np.testing.assert_array_equal(weight, np.where(instances, 0.5, 2.0))


def test_border_terms_of_several_classes_are_summed():
    """Distances are taken among cells of one class."""
    label = np.array([[1, 0, 0, 0, 1, 2, 0, 2]])
    instances = np.array([[1, 0, 0, 0, 2, 3, 0, 4]])
    _, weight = reference.label_and_weight(label, instances, (1.0, 0.5, 0.25))
    sums = {1: [4, 4, 4, 8], 2: [10, 8, 6, 2]}  # d1 + d2 at the background pixels
    terms = [10 * np.exp(-(np.array(d) ** 2) / 50) for d in sums.values()]
    np.testing.assert_allclose(weight[label == 0], 1 + sum(terms), rtol=1e-6)
    np.testing.assert_array_equal(weight[label > 0], [0.5, 0.5, 0.25, 0.25])
