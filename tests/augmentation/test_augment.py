import functools
from dataclasses import replace
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import recipes
from unetjax.augmentation import warp
from unetjax.augmentation.augment import (
    OFF,
    PAPER,
    AugmentationSettings,
    augment,
    source_positions,
)
from unetjax.augmentation.elastic import Elastic

SHAPE = (40, 52)
FALK2019 = recipes.FALK2019.augmentation


@pytest.fixture
def ramp():
    """An image whose grey values are its own coordinates."""
    return jnp.stack(jnp.mgrid[: SHAPE[0], : SHAPE[1]], axis=-1).astype(jnp.float32)


@pytest.fixture
def cells():
    label = np.zeros(SHAPE, np.int32)
    label[5:17, 6:20], label[20:35, 30:44] = 7, 70_000
    return jnp.asarray(label)


@pytest.mark.parametrize("elastic", get_args(Elastic))
@pytest.mark.parametrize("interpolation", get_args(warp.Interpolation))
def test_zero_strength_is_the_identity_bit_for_bit(
    key, ramp, cells, elastic, interpolation
):
    settings = replace(OFF, elastic=elastic, interpolation=interpolation)
    image, label = augment(key, ramp / 50, cells, settings=settings)
    np.testing.assert_array_equal(image, ramp / 50)
    np.testing.assert_array_equal(label, cells)


@pytest.mark.parametrize(
    "settings",
    [
        replace(OFF, elastic_sigma=3.0),
        replace(OFF, rotation=360.0),
        replace(OFF, flip=True),
        replace(OFF, scale=2.0),
        replace(PAPER, elastic_sigma=3.0, contrast=0.0),
        replace(FALK2019, contrast=0.0),
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


@pytest.mark.parametrize("field", vars(AugmentationSettings()))
def test_every_setting_does_something(field, ramp):
    """Over several images, as some settings change only half of them."""
    others = {
        "elastic": (replace(OFF, elastic_sigma=3.0), "bspline"),
        "elastic_grid": (replace(OFF, elastic_sigma=3.0), 5),
        "elastic_spacing": (
            replace(OFF, elastic="bspline", elastic_sigma=3.0),
            40.0,
        ),
        "interpolation": (replace(OFF, rotation=30.0), "cubic"),
        "curve_points": (replace(OFF, contrast=0.05), 5),
        "flip": (OFF, True),
        "scale": (OFF, 2.0),
    }
    before, value = others.get(field, (OFF, 2.0 if field == "blur" else 0.1))
    texture = ramp**2 % 7 / 7

    def run(settings):
        draw = functools.partial(augment, image=texture, settings=settings)
        return jax.vmap(lambda key: draw(key)[0])(jax.random.split(jax.random.key(0)))

    moved = run(replace(before, **{field: value}))
    assert np.abs(moved - run(before)).max() > 1e-3


def test_half_of_the_images_are_mirrored(ramp):
    settings = replace(OFF, flip=True)
    flips = [
        bool((augment(jax.random.key(i), ramp, settings=settings)[0] != ramp).any())
        for i in range(20)
    ]
    assert 4 < sum(flips) < 16


@pytest.mark.parametrize("settings", [PAPER, replace(FALK2019, interpolation="cubic")])
def test_labels_are_not_interpolated(cells, settings):
    draw = jax.vmap(
        lambda key: augment(key, jnp.zeros((*SHAPE, 1)), cells, settings=settings)[1]
    )
    moved = draw(jax.random.split(jax.random.key(0), 20))
    assert set(np.unique(moved)) == {0, 7, 70_000}


def test_scales_lie_between_both_bounds_and_have_a_uniform_logarithm():
    """A square of 8 x 8 pixels has the area of the squared factor times 64."""
    image = jnp.zeros((64, 64, 1)).at[28:36, 28:36].set(1.0)
    settings = replace(OFF, scale=2.0)
    draw = jax.jit(jax.vmap(lambda key: augment(key, image, settings=settings)[0]))
    areas = np.asarray(draw(jax.random.split(jax.random.key(0), 200))).sum((1, 2, 3))
    exponents = np.log2(np.sqrt(areas / 64))
    assert -1.05 < exponents.min() < -0.9
    assert 0.9 < exponents.max() < 1.05
    assert abs(exponents.mean()) < 0.1
    assert abs(exponents.std() - 3**-0.5) < 0.06


def test_scaling_keeps_angles_and_reflections():
    """So that a run with scaling is compared with one without on like tiles."""
    key, shape = jax.random.key(3), (9, 9)
    plain, scaled = (
        source_positions(key, shape, jnp.zeros(2), replace(OFF, scale=scale, flip=True))
        for scale in (1.0, 2.0)
    )
    ratio = scaled[np.abs(plain) > 0] / plain[np.abs(plain) > 0]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
    assert 0.5 <= float(ratio[0]) <= 2
    assert abs(float(ratio[0]) - 1) > 1e-3


def test_rotation_covers_all_directions():
    """A pixel right of the centre is found in all four quadrants."""
    image = jnp.zeros((21, 21, 1)).at[10, 18].set(1.0)
    settings = replace(OFF, rotation=360.0)
    quadrants = set()
    for seed in range(30):
        moved, *_ = augment(jax.random.key(seed), image, settings=settings)
        row, column = np.argwhere(moved[..., 0] == moved.max())[0] - 10
        quadrants.add((row > 0, column > 0))
    assert len(quadrants) == 4


def test_pure_under_jit_and_vmap(key, ramp, cells):
    """Equal keys give equal results; compiled or not, up to rounding."""
    run = functools.partial(augment, settings=AugmentationSettings(elastic_sigma=3.0))
    plain, again = run(key, ramp / 50, cells), run(key, ramp / 50, cells)
    np.testing.assert_array_equal(plain[0], again[0])
    compiled = jax.jit(run)(key, ramp / 50, cells)
    np.testing.assert_allclose(compiled[0], plain[0], atol=1e-4)
    assert np.mean(compiled[1] != plain[1]) < 0.01
