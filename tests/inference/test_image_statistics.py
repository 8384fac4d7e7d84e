"""Images unlike those of training are told from those that are alike."""

import numpy as np
import pytest

from unetjax.inference import image_statistics
from unetjax.network.input_scaling import InputScaling


def cells(seed=0, count=12, brightest=4000, dtype=np.uint16):
    """Bright discs on a dark, noisy background, as in fluorescence."""
    generator = np.random.default_rng(seed)
    image = generator.normal(200, 20, (96, 96))
    rows, columns = np.mgrid[:96, :96]
    for y, x in generator.integers(0, 96, (count, 2)):
        image[(rows - y) ** 2 + (columns - x) ** 2 < 30] = brightest
    return image.clip(0, np.iinfo(dtype).max).astype(dtype)[..., np.newaxis]


@pytest.fixture(params=["percentile", "zscore", "minmax", "unit"])
def scaling(request):
    return InputScaling(request.param)


@pytest.fixture
def known(scaling):
    return image_statistics.measure(map(cells, range(4)), scaling)


def test_alike_images_are_not_reported(scaling, known):
    """Others of the kind, with fewer and more cells, dimmer and brighter."""
    others = [cells(9), cells(8, count=3), cells(7, count=40), cells(6, brightest=2500)]
    found = [image_statistics.difference(each, scaling, known) for each in others]
    assert found == ["", "", "", ""]


def test_inverted_contrast_is_reported(scaling, known):
    inverted = (65535 - cells(9).astype(int)).astype(np.uint16)
    found = image_statistics.difference(inverted, scaling, known)
    assert found.startswith("median at 0.9")
    assert found.endswith(" in training")


def test_another_range_is_reported_where_scaling_does_not_adapt():
    scaling = InputScaling("unit")
    known = image_statistics.measure(map(cells, range(4)), scaling)
    dark = cells(9) // 16  # 12 bits that were saved in 8
    assert "range 0." in image_statistics.difference(dark, scaling, known)
    adapting = InputScaling("percentile")
    known = image_statistics.measure(map(cells, range(4)), adapting)
    assert image_statistics.difference(dark, adapting, known) == ""


def test_nothing_is_said_where_nothing_is_known():
    scaling = InputScaling("unit")
    unknown = image_statistics.ImageStatistics()
    assert image_statistics.difference(cells(), scaling, unknown) == ""
    assert image_statistics.measure([], scaling) == unknown
    one = image_statistics.measure([cells()], scaling)
    two = np.repeat(cells(), 2, axis=-1)
    assert image_statistics.difference(two, scaling, one) == ""
