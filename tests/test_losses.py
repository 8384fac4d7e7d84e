import functools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax import losses

LOGITS = jnp.array([[0.0, 0.0], [jnp.log(3.0), 0.0]])
LABELS = jnp.array([0, 1])
WEIGHTS = jnp.array([1.0, 3.0])
TRUE = jnp.array([1, 1, 1, 0, 0, 0, 1, 1])


@functools.partial(jax.jit, static_argnums=0)  # not one program for each operation
def compute(loss, *arrays):
    return loss.value(loss.sums(*arrays))


def number(loss, *arrays):
    return float(compute(loss, *arrays))


def drawn(*shape, classes=3):
    """Logits, labels of which some are ignored, and weights, as NumPy arrays."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(*shape, classes)).astype(np.float32)
    labels = rng.integers(-1, classes, shape, np.int32)
    return logits, labels, rng.random(shape, np.float32)


def on_device(*arrays):
    return tuple(jnp.asarray(array) for array in arrays)


def test_two_pixels_worked_by_hand():
    """ln 2 at weight 1, ln 4 at weight 3."""
    pixels = losses.weighted_cross_entropy(LOGITS, LABELS, jnp.ones(2))
    np.testing.assert_allclose(pixels, [0.693147, 1.386294], rtol=1e-6)
    for reduction, expected in (
        ("sum", 4.852030),
        ("weighted_mean", 1.213008),
        ("mean", 2.426015),
    ):
        loss = losses.build_loss("cross_entropy", reduction)
        np.testing.assert_allclose(
            number(loss, LOGITS, LABELS, WEIGHTS), expected, rtol=1e-6
        )


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_uniform_logits_cost_log_k(classes):
    loss = losses.weighted_cross_entropy(
        jnp.zeros((4, classes)), jnp.arange(4) % classes, jnp.ones(4)
    )
    np.testing.assert_allclose(loss, np.log(classes), rtol=1e-6)


def test_the_scale_of_the_weights_matters_to_sums_only():
    """Scaling w leaves the weighted mean and scales the sum."""
    mean = losses.build_loss()
    total = losses.build_loss("cross_entropy", "sum")
    arrays = (LOGITS, LABELS)
    np.testing.assert_allclose(
        number(mean, *arrays, 5 * WEIGHTS), number(mean, *arrays, WEIGHTS), rtol=1e-6
    )
    np.testing.assert_allclose(
        number(total, *arrays, 5 * WEIGHTS),
        5 * number(total, *arrays, WEIGHTS),
        rtol=1e-6,
    )


@pytest.mark.parametrize("name", get_args(losses.LossName))
@pytest.mark.parametrize("reduction", ["weighted_mean", "sum", "mean"])
def test_ignored_pixels_change_nothing(name, reduction):
    """Label -1 and weight 0 are the same as leaving the pixel out, gradient too."""
    loss = losses.build_loss(name, reduction)
    ignored = [[9.0, -9.0], [1e4, -1e4]]
    logits = jnp.asarray(np.concatenate([LOGITS, ignored]), jnp.float32)
    labels = jnp.array([0, 1, -1, 1])
    weights = jnp.array([1.0, 3.0, 2.0, 0.0])
    expected = number(loss, LOGITS, LABELS, WEIGHTS)
    np.testing.assert_allclose(number(loss, logits, labels, weights), expected, 1e-6)
    slope = np.asarray(
        jax.jit(jax.grad(lambda z: compute(loss, z, labels, weights)))(logits)
    )
    assert np.abs(slope[:2]).min() > 0
    np.testing.assert_array_equal(slope[2:], 0)


@pytest.mark.parametrize("name", get_args(losses.LossName))
def test_the_loss_without_annotation_is_0(name):
    loss = losses.build_loss(name)
    ignored = jnp.asarray(np.full(2, -1, np.int32))
    value, slope = jax.jit(
        jax.value_and_grad(lambda z: compute(loss, z, ignored, WEIGHTS))
    )(LOGITS)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_array_equal(slope, 0)


def test_extreme_logits_stay_finite():
    logits = jnp.array([[1e4, -1e4], [-1e4, 1e4]])
    loss = losses.weighted_cross_entropy(logits, jnp.array([1, 1]), jnp.ones(2))
    np.testing.assert_allclose(loss, [2e4, 0])


def test_soft_dice_measures_overlap():
    np.testing.assert_allclose(
        losses.soft_dice(jnp.zeros((8, 2)), TRUE), 0.507937, rtol=1e-5
    )
    perfect = 1e3 * jax.nn.one_hot(TRUE, 2)
    np.testing.assert_allclose(losses.soft_dice(perfect, TRUE), 0, atol=1e-6)
    # Not minus the mean probability of the true class, which is -0.5 here.
    assert losses.soft_dice(jnp.zeros((8, 2)), TRUE) > 0
    # A class that is absent and not predicted has coefficient 1.
    absent = losses.soft_dice(jnp.pad(perfect, ((0, 0), (0, 1))) - 500, TRUE)
    np.testing.assert_allclose(absent, 0, atol=1e-6)


@pytest.mark.parametrize("name", get_args(losses.LossName))
def test_sums_of_shards_make_the_loss_of_the_whole(name):
    """Uneven weights on the shards: a mean of means would be wrong."""
    loss = losses.build_loss(name)
    arrays = drawn(6, 5)
    arrays[2][4:] *= 10
    whole = number(loss, *on_device(*arrays))
    sums, value = jax.jit(loss.sums), jax.jit(loss.value)
    parts = [
        sums(*on_device(*(array[s] for array in arrays)))
        for s in (slice(4), slice(4, 6))
    ]
    total = jax.tree.map(lambda *each: jnp.asarray(np.add(*each)), *parts)
    np.testing.assert_allclose(value(total), whole, rtol=1e-5)
    assert abs(np.mean([value(part) for part in parts]) - whole) > 1e-3


@pytest.mark.usefixtures("as_installed")
def test_unknown_names_are_refused():
    with pytest.raises(
        ValueError, match=r"^name must be one of cross_entropy, .*, got"
    ):
        losses.build_loss("dice_coefficient")


def test_the_combined_loss_is_the_sum_of_cross_entropy_and_unweighted_dice():
    labels, ignored = LABELS, jnp.array([0.0, 2.0])
    for weights in (WEIGHTS, ignored):
        combined = number(
            losses.build_loss("cross_entropy_dice"), LOGITS, labels, weights
        )
        expected = number(losses.build_loss(), LOGITS, labels, weights)
        expected += float(losses.soft_dice(LOGITS, labels, jnp.sign(weights)))
        np.testing.assert_allclose(combined, expected, rtol=1e-6)


def test_the_error_of_maps_is_that_of_annotated_cells():
    """Distances say nothing of the background, neighbour distances are 0 there."""
    outputs = jnp.array([[0.0, 0.0], [0.0, 0.0], [9.0, 9.0], [9.0, 9.0]])
    maps = jnp.array([[0.5, 0.25], [0.5, 0.75], [0.0, 0.0], [0.0, 0.0]])
    labels, weights = jnp.array([1, 2, 0, 1]), jnp.array([1.0, 5.0, 1.0, 0.0])
    sums = losses.map_error(outputs, maps, labels, weights, target="distances")
    np.testing.assert_allclose(sums, (0.5, 2))
    sums = losses.map_error(outputs, maps, labels, weights, target="neighbours")
    # Half the square below 1, the difference less a half above.
    expected = (0.5**2 + 0.25**2 + 0.5**2 + 0.75**2) / 2 + 2 * 8.5
    np.testing.assert_allclose(sums, (expected, 3))
    ignored = losses.map_error(outputs, maps, -labels - 1, weights, target="distances")
    assert float(ignored.pixels) == 0


def test_the_loss_of_a_target_is_that_of_classes_and_maps():
    outputs, labels, _ = drawn(6, 5, classes=4)
    labels, ones = np.minimum(labels, 1), np.ones((6, 5), np.float32)
    maps = np.random.default_rng(1).random((6, 5, 2), np.float32)
    arrays = (outputs, labels, ones, maps)
    loss = losses.build_loss(target="distances")
    whole = number(loss, *on_device(*arrays))
    classes = number(losses.build_loss(), *on_device(outputs[..., :2], labels, ones))
    cells, learned = labels > 0, 1 / (1 + np.exp(-outputs[..., 2:]))
    error = np.abs(learned - maps)[cells].sum(-1).mean()
    np.testing.assert_allclose(whole, classes + error, rtol=1e-5)
    sums = jax.jit(loss.sums)
    parts = [
        sums(*on_device(*(array[s] for array in arrays)))
        for s in (slice(4), slice(4, 6))
    ]
    total = jax.tree.map(lambda *each: jnp.asarray(np.add(*each)), *parts)
    np.testing.assert_allclose(jax.jit(loss.value)(total), whole, rtol=1e-5)


def test_class_weights_scale_the_plain_mean():
    """Weights [1, 1] are none, and [2, 2] double the loss (jakeret/tf_unet)."""
    mean = losses.build_loss("cross_entropy", "mean")
    plain = number(mean, LOGITS, LABELS, jnp.ones(2))
    for weights, factor in (([1.0, 1.0], 1), ([2.0, 2.0], 2)):
        weight = jnp.array(weights)[LABELS]
        np.testing.assert_allclose(
            number(mean, LOGITS, LABELS, weight), factor * plain, rtol=1e-6
        )
    skewed = jnp.array([1.0, 3.0])[LABELS]
    np.testing.assert_allclose(
        number(mean, LOGITS, LABELS, skewed), (0.693147 + 3 * 1.386294) / 2, rtol=1e-6
    )
    dice = losses.soft_dice(LOGITS, LABELS, skewed)
    assert abs(float(dice - losses.soft_dice(LOGITS, LABELS))) > 0.01


def test_soft_dice_is_not_the_mean_probability_of_the_true_class():
    """jakeret/tf_unet sums its Dice over the classes, and so gets just that."""
    logits, labels, _ = drawn(50)
    labels = np.abs(labels)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    one_hot = np.eye(3, dtype=np.float32)[labels]
    both = (probs * one_hot).sum()
    old = -2 * both / (1e-5 + probs.sum() + one_hot.sum())
    true = np.take_along_axis(probs, labels[:, None], axis=1)
    np.testing.assert_allclose(old, -true.mean(), atol=1e-5)
    ours = losses.soft_dice(*on_device(logits, labels))
    per_class = 2 * (probs * one_hot).sum(0) / (probs.sum(0) + one_hot.sum(0))
    np.testing.assert_allclose(ours, 1 - per_class.mean(), atol=1e-5)
    assert abs(float(ours - (1 + old))) > 1e-3
