import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetjax.weight_maps.class_weights import class_counts, class_weights
from unetjax.weight_maps.separation import cut_separation_border

COUNTS = st.lists(st.integers(0, 10**12), min_size=2, max_size=5)


def test_isbi2012_training_labels():
    """The public labels have a cell fraction of 0.780369."""
    counts = np.array([219_631, 780_369])
    np.testing.assert_allclose(class_weights(counts), [2.276544, 0.640723], rtol=1e-6)
    root = class_weights(counts, "sqrt_inverse")
    np.testing.assert_allclose(root, [1.578213, 0.837265], rtol=1e-6)
    np.testing.assert_array_equal(class_weights(counts, "none"), [1, 1])


@pytest.mark.parametrize("balance", ["inverse", "sqrt_inverse", "none"])
@given(counts=COUNTS)
def test_mean_is_one_over_the_counted_pixels(balance, counts):
    """So w0 means the same on every data set; absent classes never divide by 0."""
    weights = class_weights(np.array(counts), balance)
    mean = np.dot(counts, weights) / max(sum(counts), 1)
    np.testing.assert_allclose(mean, 1 if sum(counts) else 0)
    np.testing.assert_array_equal(weights[np.array(counts) == 0], 1)


def test_counts_add_over_maps_and_leave_out_ignored_pixels():
    maps = [np.array([[0, 1], [-1, 1]], np.int8), jnp.array([2, 0, 0])]
    np.testing.assert_array_equal(class_counts(iter(maps), 4), [3, 2, 1, 0])


def test_separation_border_pixels_count_as_background():
    instances = np.array([[1, 1, 2, 2]])
    labels = [cut_separation_border(np.sign(instances), instances)]
    weights = class_weights(class_counts(labels, 2))
    np.testing.assert_allclose(weights, [2, 2 / 3])


def test_real_nuclei(shared_data):
    """Counts agree with NumPy's own; both classes carry half of the total weight."""
    image = pytest.importorskip("PIL.Image")
    paths = sorted((shared_data / "dsb2018_nuclei/val/labels").glob("*.png"))
    labels = [np.sign(np.asarray(image.open(path)).astype(int)) for path in paths]
    counts = class_counts(labels, 2)
    pixels = np.concatenate([label.ravel() for label in labels])
    np.testing.assert_array_equal(counts, np.unique(pixels, return_counts=True)[1])
    np.testing.assert_allclose(counts * class_weights(counts), counts.sum() / 2)


def test_explicit_weights_are_kept():
    np.testing.assert_array_equal(class_weights(np.array([5, 0]), (0.1, 1.0)), [0.1, 1])


@pytest.mark.parametrize(
    ("balance", "message"),
    [
        ((1.0,), r"must have one weight for each of the 2 classes, got \[1.0\]"),
        ((1.0, float("nan")), "must be at least 0 and finite, got nan"),
        ((-1.0, 1.0), "must be at least 0, got -1.0"),
    ],
)
def test_bad_explicit_weights_are_refused(balance, message):
    with pytest.raises(ValueError, match=message):
        class_weights(np.array([1, 1]), balance)


@pytest.mark.usefixtures("as_installed")
def test_unknown_rule_is_refused():
    message = "class_balance must be one of inverse, sqrt_inverse, none, got 'median'"
    with pytest.raises(ValueError, match=message):
        class_weights(np.array([1, 1]), "median")


def test_a_class_beyond_the_last_is_refused():
    message = "label map 1 has class 3, but num_classes is 2; set .* to at least 4"
    with pytest.raises(ValueError, match=message):
        class_counts([np.array([0]), np.array([3])], 2)
