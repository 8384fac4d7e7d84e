import math
from dataclasses import replace

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


@pytest.mark.parametrize(
    "change",
    [{"sigma": 0.0}, {"near_sigma": -1.0}, {"w0": -1.0}, {"near": math.nan}],
)
def test_values_out_of_range_are_refused(change):
    name, value = next(iter(change.items()))
    message = f"weight_map needs finite w0 and near of at least 0, .*{name} {value}"
    with pytest.raises(ValueError, match=message):
        reach(replace(PAPER, **change))
