import pathlib
from dataclasses import replace

import jax
import pytest

from unetjax.data import synthetic
from unetjax.devices import memory
from unetjax.training import config as configs
from unetjax.training import dry_run, memory_limits

CONFIG = configs.from_dict(
    {
        "batch_size": 2,
        "tile_size": 20,
        "model": {"features": 2, "depth": 1},
        "augmentation": {"elastic_sigma": 0.0},
    }
)


@pytest.fixture(scope="module")
def train():
    size = (28, 24)
    return [synthetic.touching_cells(0, i, size=size, num_cells=1) for i in range(2)]


def room_for(config, train):
    """Bytes that hold a step and the images, and not one more."""
    pixels = sum(example.label.size for example in train)
    return dry_run.step_memory(config, channels=1).total + 12 * pixels


def test_the_largest_tile_that_fits(train):
    wanted = replace(CONFIG, tile_size=22)
    limit = room_for(wanted, train)
    assert (
        memory_limits.largest_that_fits(CONFIG, train, what="tile", limit=limit)
        == wanted
    )
    smaller = memory_limits.largest_that_fits(
        CONFIG, train, what="tile", limit=limit - 1
    )
    assert smaller == replace(CONFIG, tile_size=20)


def test_no_tile_is_larger_than_it_takes_to_hold_an_image(train):
    found = memory_limits.largest_that_fits(CONFIG, train, what="tile", limit=10**12)
    assert configs.output_size(found) == 28


def test_the_most_tiles_that_fit(train):
    num_devices = jax.local_device_count()
    wanted = replace(CONFIG, batch_size=3 * num_devices)
    limit = room_for(wanted, train)
    assert (
        memory_limits.largest_that_fits(CONFIG, train, what="batch", limit=limit)
        == wanted
    )
    fewer = memory_limits.largest_that_fits(
        CONFIG, train, what="batch", limit=limit - 1
    )
    assert fewer == replace(CONFIG, batch_size=2 * num_devices)


@pytest.mark.parametrize("what", ["tile", "batch"])
def test_where_nothing_fits_it_says_what_to_lower(what, train):
    with pytest.raises(ValueError, match=r"not fit into 0\.000 GB .* lower batch"):
        memory_limits.largest_that_fits(CONFIG, train, what=what, limit=20_000)


def test_the_limit_is_half_of_the_memory_of_this_machine():
    path = pathlib.Path("/proc/meminfo")
    if jax.default_backend() != "cpu" or not path.exists():
        pytest.skip("no CPU with /proc/meminfo here")
    total = 1024 * int(path.read_text().split("MemTotal:")[1].split()[0])
    assert memory.limit() == pytest.approx(total / 2, rel=0.01)
