import pytest

from unetjax.weight_maps.settings import FALK2019, PAPER, WeightMapSettings, reach


@pytest.mark.parametrize(
    ("settings", "tolerance", "pixels"),
    [
        (PAPER, 1e-7, 31),
        (PAPER, 1e-10, 36),
        (WeightMapSettings(w0=50.0, sigma=6.0), 1e-7, 38),
        (FALK2019, 1e-7, 57),  # its second term is the wider one
        (WeightMapSettings(w0=0.0), 1e-7, 0),
    ],
)
def test_reach_follows_from_heights_and_widths(settings, tolerance, pixels):
    assert reach(settings, tolerance=tolerance) == pixels
