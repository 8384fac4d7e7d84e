import pytest

from tests import recipes
from unetjax.weight_maps.settings import PAPER, WeightMapSettings, reach


@pytest.mark.parametrize(
    ("settings", "tolerance", "pixels"),
    [
        (PAPER, 1e-7, 31),
        (PAPER, 1e-10, 36),
        (WeightMapSettings(w0=50.0, sigma=6.0), 1e-7, 38),
        (recipes.FALK2019.weight_map, 1e-7, 57),  # its second term is the wider one
        (WeightMapSettings(w0=0.0), 1e-7, 0),
    ],
)
def test_reach_follows_from_heights_and_widths(settings, tolerance, pixels):
    assert reach(settings, tolerance=tolerance) == pixels
