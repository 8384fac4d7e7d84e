import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.augmentation import grey_values
from unetjax.augmentation.augment import OFF, PAPER, Augmentation, augment

SHAPE = (40, 52)


@pytest.fixture
def ramp():
    """An image whose grey values are its own coordinates."""
    return jnp.stack(jnp.mgrid[: SHAPE[0], : SHAPE[1]], axis=-1).astype(jnp.float32)


@pytest.fixture
def cells():
    label = np.zeros(SHAPE, np.int32)
    label[5:17, 6:20], label[20:35, 30:44] = 7, 70_000
    return jnp.asarray(label)


def test_zero_strength_is_the_identity_bit_for_bit(key, ramp, cells):
    image, label = augment(key, ramp / 50, cells, settings=OFF)
    np.testing.assert_array_equal(image, ramp / 50)
    np.testing.assert_array_equal(label, cells)


@pytest.mark.parametrize(
    "settings",
    [
        OFF._replace(elastic_sigma=3.0),
        OFF._replace(rotation=360.0),
        OFF._replace(flip=True),
        PAPER._replace(elastic_sigma=3.0, contrast=0.0),
    ],
)
def test_image_and_annotations_move_alike(key, ramp, settings):
    """The grey values say where each pixel came from: the label must agree."""
    index = jnp.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    for seed in range(3):
        key = jax.random.key(seed)
        image, label = augment(key, ramp, index, settings=settings)
        row, column = np.divmod(np.asarray(label), SHAPE[1])
        came_from = np.asarray(image)
        # At the mirror interpolation folds back, so distances are at most half a pixel.
        assert np.abs(came_from[..., 0] - row).max() <= 0.5 + 1e-3
        assert np.abs(came_from[..., 1] - column).max() <= 0.5 + 1e-3


def test_every_setting_does_something(key, ramp):
    for field, value in PAPER._replace(noise=0.1)._asdict().items():
        if field not in ("elastic_grid", "flip"):
            moved = augment(key, ramp / 50, settings=OFF._replace(**{field: value}))
            assert np.abs(moved[0] - ramp / 50).max() > 1e-3, field
    flips = [
        bool(
            (
                augment(jax.random.key(i), ramp, settings=OFF._replace(flip=True))[0]
                != ramp
            ).any()
        )
        for i in range(20)
    ]
    assert 4 < sum(flips) < 16


def test_labels_stay_labels(cells):
    draw = jax.vmap(
        lambda key: augment(key, jnp.zeros((*SHAPE, 1)), cells)[1], out_axes=0
    )
    moved = draw(jax.random.split(jax.random.key(0), 20))
    assert set(np.unique(moved)) == {0, 7, 70_000}


def test_rotation_covers_all_directions():
    """A pixel right of the centre is found in all four quadrants."""
    image = jnp.zeros((21, 21, 1)).at[10, 18].set(1.0)
    settings = OFF._replace(rotation=360.0)
    quadrants = set()
    for seed in range(30):
        moved, *_ = augment(jax.random.key(seed), image, settings=settings)
        row, column = np.argwhere(moved[..., 0] == moved.max())[0] - 10
        quadrants.add((row > 0, column > 0))
    assert len(quadrants) == 4


def test_pure_under_jit_and_vmap(key, ramp, cells):
    """Equal keys give equal results; compiled or not, up to rounding."""
    run = functools.partial(augment, settings=Augmentation(elastic_sigma=3.0))
    plain, again = run(key, ramp / 50, cells), run(key, ramp / 50, cells)
    np.testing.assert_array_equal(plain[0], again[0])
    compiled = jax.jit(run)(key, ramp / 50, cells)
    np.testing.assert_allclose(compiled[0], plain[0], atol=1e-4)
    assert np.mean(compiled[1] != plain[1]) < 0.01


def test_grey_value_curve():
    x = jnp.linspace(-0.5, 1.5, 9).reshape(1, 9, 1)
    line = grey_values.apply_curve(x, jnp.array([0.0, 1.0, 1.0, 1.0]))
    np.testing.assert_allclose(line, x, atol=1e-6)
    bent = grey_values.apply_curve(x, jnp.array([0.05, 0.95, 0.8, 1.2])).ravel()
    np.testing.assert_allclose(bent[jnp.array([2, 6])], [0.05, 0.95], atol=1e-6)
    np.testing.assert_allclose(bent[0], 0.05 - 0.5 * 0.8, atol=1e-6)
    assert (np.diff(bent) > 0).all()


@pytest.mark.parametrize("seed", range(10))
def test_random_curves_are_monotone(seed):
    x = jnp.linspace(-0.2, 1.2, 200).reshape(1, -1, 1)
    y = grey_values.random_grey_values(
        jax.random.key(seed), x, contrast=0.15, noise=0.0
    )
    assert (np.diff(y.ravel()) > 0).all()
