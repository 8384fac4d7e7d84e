import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import recipes
from unetjax.weight_maps import device, reference
from unetjax.weight_maps.class_weights import class_counts, class_weights
from unetjax.weight_maps.separation import cut_separation_border
from unetjax.weight_maps.settings import PAPER, WeightMapSettings

# Relative to the weight, and to 1: float32 inside against float64.
close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6)

BOTH = pytest.mark.parametrize(
    "weigh", [reference.label_and_weight, device.label_and_weight]
)
FALK2019 = recipes.FALK2019.weight_map
TWO_SIDED = replace(PAPER, separation_border="two_sided")
NARROW = WeightMapSettings(sigma=0.7, near=0.3, near_sigma=0.9)  # sees 5 pixels far
MAPS = hnp.arrays(
    np.int32, (13, 17), elements=st.sampled_from([0, 0, 0, 0, 1, 2, 255, 70_000])
)

# One row each, being the whole training set: settings, instances, label, weight.
ROWS = [
    (PAPER, "111000222", "111000111", [0.75] * 3 + [8.761490] * 3 + [0.75] * 3),
    (
        FALK2019,
        "111000222",
        "111000111",
        [1] * 3 + [41.032381, 41.019049, 41.032381] + [1] * 3,
    ),
    (PAPER, "1122", "1101", [2 / 3, 2 / 3, 11.801987, 2 / 3]),
    (TWO_SIDED, "1122", "1001", [1, 10.801987, 10.801987, 1]),
    (FALK2019, "1122", "1101", [1, 1, 50.310356, 1]),
    (PAPER, "011220", "011010", [8.261490, 1, 1, 10.801987, 1, 8.261490]),
    (FALK2019, "011220", "011010", [41.032381, 1, 1, 50.310356, 1, 41.032381]),
    (PAPER, "0011", "0011", [1, 1, 1, 1]),
    (FALK2019, "0011", "0011", [0.982179, 0.995511, 1, 1]),
    (FALK2019, "0000", "0000", [0.1] * 4),
    (PAPER, "0000", "0000", [1] * 4),
    (PAPER, "1111", "1111", [1] * 4),
]


@BOTH
@pytest.mark.parametrize(("options", "row", "label", "weight"), ROWS)
def test_rows_of_the_specification(weigh, options, row, label, weight):
    instances, label = (np.array([[int(c) for c in text]]) for text in (row, label))
    separated = cut_separation_border(
        np.sign(instances), instances, options.separation_border
    )
    w_c = class_weights(class_counts([separated], 2), options.class_balance)
    actual = weigh(np.sign(instances), instances, w_c, settings=options)
    np.testing.assert_array_equal(actual[0], label)
    close(actual[1], [weight])
    assert (actual[0].dtype, actual[1].dtype) == (np.int32, np.float32)


@BOTH
@pytest.mark.parametrize(
    ("options", "terms"),
    [
        (
            WeightMapSettings(),
            [9.231163, 8.352702, 7.261490, 6.065307, 4.867523, 3.753111, 2.780373],
        ),
        (
            WeightMapSettings(w0=50.0, sigma=6.0),
            [
                47.297973,
                44.124845,
                40.036870,
                35.332414,
                30.326533,
                25.316781,
                20.555615,
            ],
        ),
    ],
)
def test_straight_gap(weigh, options, terms):
    """In a straight gap of g pixels d1 + d2 is g + 1 everywhere."""
    for gap, term in enumerate(terms, start=1):
        instances = np.zeros((6, 13), int)
        instances[:, :3], instances[:, 3 + gap :] = 7, 3
        label, weight = weigh(
            np.sign(instances), instances, np.zeros(2), settings=options
        )
        close(weight, np.where(label == 0, term, 0))


@pytest.mark.parametrize("module", [reference, device])
def test_distances(module):
    row = jnp.array([[1, 1, 1, 0, 0, 0, 2, 2, 2]])
    row = np.asarray(row) if module is reference else row
    d1, d2 = module.nearest_two(row, radius=9)
    np.testing.assert_array_equal(d1, [[0, 0, 0, 1, 2, 1, 0, 0, 0]])
    np.testing.assert_array_equal(d2, [[6, 5, 4, 3, 2, 3, 4, 5, 6]])


@BOTH
def test_cells_in_two_corners(weigh):
    instances = np.zeros((5, 7), int)
    instances[:2, :2], instances[3:, 5:] = 1, 2
    _, weight = weigh(np.sign(instances), instances, np.zeros(2))
    actual = [weight[2, 3], weight[2, 2], weight[0, 2], weight[0, 6]]
    close(actual, [6.703200, 6.577795, 5.771197, 2.780373])
    np.testing.assert_array_equal(weight, weight[::-1, ::-1])


@pytest.mark.parametrize("options", [PAPER, FALK2019, TWO_SIDED, NARROW])
@given(instances=MAPS)
@settings(deadline=None, max_examples=30)
def test_equals_the_reference(options, instances):
    """At borders, with split and touching cells, and beyond the narrow one's reach."""
    label = np.sign(instances)
    actual = device.label_and_weight(
        label, instances, np.array([0.5, 2.0]), settings=options
    )
    expected = reference.label_and_weight(
        label, instances, np.array([0.5, 2.0]), settings=options
    )
    np.testing.assert_array_equal(actual[0], expected[0])
    close(actual[1], expected[1])


@given(
    instances=MAPS, label=hnp.arrays(np.int32, (13, 17), elements=st.integers(-1, 2))
)
@settings(deadline=None, max_examples=30)
def test_equals_the_reference_with_several_classes_and_ignored_pixels(instances, label):
    actual = device.label_and_weight(label, instances, np.array([0.5, 2.0, 3.0]))
    expected = reference.label_and_weight(label, instances, np.array([0.5, 2.0, 3.0]))
    np.testing.assert_array_equal(actual[0], expected[0])
    close(actual[1], expected[1])
    np.testing.assert_array_equal(actual[1][label < 0], 0)
    np.testing.assert_array_equal(actual[0] < 0, label < 0)


@given(instances=MAPS, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_numbering_of_the_cells_changes_no_bit(instances, seed):
    numbers, index = np.unique(instances, return_inverse=True)
    others = 1 + np.random.default_rng(seed).permutation(66_000)[: len(numbers)]
    renumbered = np.where(numbers == 0, 0, others)[index].reshape(instances.shape)
    expected = device.separation_weight_map(instances)
    np.testing.assert_array_equal(device.separation_weight_map(renumbered), expected)


@pytest.mark.parametrize("turn", [np.fliplr, np.flipud, np.transpose])
@given(instances=MAPS)
@settings(deadline=None, max_examples=10)
def test_flips_and_transposes_commute(turn, instances):
    """With the two-sided border; the one-sided rule depends on the direction."""
    weight = functools.partial(device.separation_weight_map, settings=TWO_SIDED)
    np.testing.assert_array_equal(
        weight(turn(instances).copy()), turn(weight(instances))
    )


def test_many_cells():
    """More cells than 16 bits can number, each of one pixel, one pixel apart."""
    instances = np.zeros((2, 140_003), np.int32)
    instances[0, ::2] = 1 + np.arange(70_002)
    weight = device.separation_weight_map(
        instances, settings=WeightMapSettings(sigma=0.5)
    )
    between = 10 * np.exp(-(2**2) / (2 * 0.5**2))
    close(weight[0, 1:-1:2], 1 + between)
    np.testing.assert_array_equal(weight[0, ::2], 1)


def test_vmap_changes_nothing():
    cells = np.random.default_rng(0).integers(-9, 4, (3, 13, 17)).clip(0)
    each = [device.separation_weight_map(c, settings=NARROW) for c in cells]
    mapped = jax.vmap(lambda c: device.separation_weight_map(c, settings=NARROW))
    np.testing.assert_array_equal(mapped(jnp.asarray(cells)), each)
    assert len(np.unique(each)) > 9


def test_64_bit_types_are_accepted():
    """They change the type of loop counters, not of the map."""
    instances = np.array([[1, 0, 2, 2]])
    expected = device.separation_weight_map(instances)
    with jax.enable_x64(True):
        actual = device.separation_weight_map(instances)
    np.testing.assert_array_equal(actual, expected, strict=True)


def test_jit_changes_nothing_and_compiles_once():
    """Shape and settings decide what is compiled, not the number of cells."""
    traces = []

    def weight_map(instances):
        traces.append(instances.shape)
        return device.separation_weight_map(instances)

    compiled = jax.jit(weight_map)
    for cells in range(4):
        instances = np.arange(35, dtype=np.int32).reshape(5, 7) % (cells + 1)
        close(compiled(instances), device.separation_weight_map(instances))
    assert traces == [(5, 7)]


def test_the_loss_can_be_differentiated_around_it():
    instances = jnp.array([[1, 0, 2, 2]])

    def energy(values):
        return jnp.sum(values * device.separation_weight_map(instances))

    gradient = jax.grad(energy)(jnp.ones((1, 4)))
    np.testing.assert_array_equal(gradient, device.separation_weight_map(instances))


def test_real_nuclei(shared_data):
    """Against the reference on photographed cells, for both presets."""
    image = pytest.importorskip("PIL.Image")
    paths = sorted((shared_data / "dsb2018_nuclei/train/labels").glob("*.png"))[:12:4]
    w_c = np.array([0.1, 1.0])
    for path in paths:
        instances = np.asarray(image.open(path)).astype(np.int32)[:256, :256]
        label = np.sign(instances)
        for options in (PAPER, FALK2019):
            expected = reference.label_and_weight(
                label, instances, w_c, settings=options
            )
            actual = device.label_and_weight(label, instances, w_c, settings=options)
            np.testing.assert_array_equal(actual[0], expected[0])
            close(actual[1], expected[1])


def test_class_weights_by_default():
    """Those the settings spell out; 1 where they name a rule for the training set."""
    empty = np.zeros((1, 4), np.uint16)
    np.testing.assert_array_equal(device.separation_weight_map(empty), 1)
    close(device.separation_weight_map(empty, settings=FALK2019), 0.1)
    ones = device.separation_weight_map(empty, jnp.ones(2), settings=FALK2019)
    np.testing.assert_array_equal(ones, 1)


def test_negative_numbers_ignore_the_pixel():
    weight = device.separation_weight_map(np.array([[1, 0, -1, 2]]))
    assert weight[0, 2] == 0
    assert weight[0, 1] > 1


def test_a_label_beyond_the_last_class_has_weight_nan():
    """It is seen as a loss that is not a number, not as the weight of another class."""
    cells = np.array([[1, 1, 0, 0]])
    _, weight = device.label_and_weight(3 * cells, cells, (1.0, 1.0))
    np.testing.assert_array_equal(weight, [[np.nan, np.nan, 1, 1]])


def test_one_class_weight_is_refused():
    cells = np.array([[1, 0]])
    with pytest.raises(
        ValueError, match=r"each class, background first, got shape \[1\]"
    ):
        device.label_and_weight(cells, cells, (1.0,))
