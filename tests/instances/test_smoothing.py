import numpy as np
import pytest
from scipy import ndimage

from unetjax.instances import smoothing
from unetjax.instances.components import instances_from_probs
from unetjax.instances.settings import InstanceSettings
from unetjax.targets import encode

SIZE = (192, 160)  # multiples of the coarsest grid
QUARTER = {"deviation": 1.0, "relative": 0.25}


def disc(row, column, radius, size=SIZE):
    y, x = np.indices(size)
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def noise(size=SIZE, channels=2):
    rng = np.random.default_rng(0)
    return rng.uniform(size=(*size, channels)).astype(np.float32)


def decode(cells, maps, **options):
    foreground = (cells > 0).astype(np.float32)
    probs = np.stack([1 - foreground, foreground], axis=-1)
    settings = InstanceSettings(
        method="watershed", seeds="maps", seed_threshold=0.5, **options
    )
    return instances_from_probs(probs, settings, maps=maps, target="distances")


def test_without_a_relative_width_it_is_a_gaussian_filter():
    found = smoothing.smooth(noise(), disc(90, 80, 60), deviation=1.5, relative=0.0)
    expected = ndimage.gaussian_filter(noise(), (1.5, 1.5, 0))
    np.testing.assert_array_equal(found, expected)


def test_the_width_grows_with_the_cell():
    """Noise that is averaged over a wider window deviates less."""
    small, large = disc(20, 20, 5), disc(110, 80, 48)
    foreground = small | large
    narrow = smoothing.smooth(noise(), foreground, deviation=1.0, relative=0.0)
    found = smoothing.smooth(noise(), foreground, **QUARTER)
    np.testing.assert_array_equal(found[~large], narrow[~large])
    inner = disc(110, 80, 40)
    # 48 / 4 is nearest to 8 pixels; of white noise, 8 times the width of the filter
    # leaves an eighth of the deviation.
    assert found[inner].std() < 1.5 * narrow[inner].std() / 8
    assert found[inner].mean() == pytest.approx(0.5, abs=0.02)
    assert found.dtype == np.float32


def test_one_map_is_smoothed_as_one_of_several():
    foreground = disc(90, 80, 40)
    both = smoothing.smooth(noise(), foreground, **QUARTER)
    one = smoothing.smooth(noise()[..., 1], foreground, **QUARTER)
    np.testing.assert_allclose(one, both[..., 1], rtol=1e-6)


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, np.rot90])
def test_maps_and_cells_that_are_turned_together_stay_equal(turn):
    maps, foreground = noise(), disc(80, 90, 50) | disc(170, 20, 9)
    found = smoothing.smooth(turn(maps), turn(foreground), **QUARTER)
    expected = turn(smoothing.smooth(maps, foreground, **QUARTER))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("relative", [0.25, 0.35])
def test_a_part_of_an_image_is_smoothed_as_the_whole(relative):
    size = (640, 656)
    foreground = disc(300, 300, 90, size) | disc(480, 420, 60, size)
    options = {"deviation": 1.0, "relative": relative}
    whole = smoothing.smooth(noise(size), foreground, **options)
    halo = smoothing.reach(**options)
    start = 4 * smoothing.COARSEST
    part = (slice(start, 640), slice(start, 656))
    found = smoothing.smooth(noise(size)[part], foreground[part], **options)
    kept = (slice(halo, None), slice(halo, None))
    np.testing.assert_allclose(found[kept], whole[part][kept], atol=1e-6)
    assert np.abs(whole - noise(size)).max() > 0.1


def test_a_large_cell_with_texture_stays_whole_and_small_touching_ones_apart():
    cells = 1 * disc(70, 80, 60)
    for number, column in enumerate((30, 41, 52), start=2):
        cells[disc(160, column, 6)] = number
    maps = encode.encode(cells, "distances")
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.standard_normal(SIZE), 3)
    texture = 0.3 * texture / texture.std()
    maps = maps + np.where(cells == 1, texture, 0)[..., None].astype(np.float32)
    assert decode(cells, maps).max() > 6
    assert decode(cells, maps, relative_smoothing=0.25).max() == 4


def test_no_cells_at_all():
    empty = np.zeros(SIZE, bool)
    found = smoothing.smooth(noise(), empty, **QUARTER)
    np.testing.assert_array_equal(found, ndimage.gaussian_filter(noise(), (1, 1, 0)))
