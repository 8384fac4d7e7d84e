import os
import pathlib
import re
from dataclasses import replace

import jax
import numpy as np
import pytest

from unetjax.data.examples import from_instances
from unetjax.devices import memory, runtime
from unetjax.files import limits
from unetjax.training import config as configs
from unetjax.training import cost

CONFIG = configs.from_dict(
    {
        "batch_size": 4,
        "num_steps": 10_000,
        "tile_size": 20,
        "model": {"features": 2, "depth": 1},
        "augmentation": {
            "rotation": 0,
            "flip": False,
            "elastic_sigma": 0,
            "contrast": 0,
        },
        "weight_map": {"w0": 0.0},
    }
)
# Compiled in a third of the time, for tests that compile several steps.
FLAT = replace(CONFIG, batch_size=2, model=replace(CONFIG.model, depth=0))


def test_it_says_what_a_training_would_take():
    text = cost.describe(CONFIG, channels=3)
    state = cost._abstract_state(CONFIG, 3)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    one_pass, training = cost.flops(CONFIG, channels=3)
    lines = text.splitlines()
    assert lines[0] == f"parameters: {count}"
    assert lines[1] == f"forward: {one_pass / 1e9:.3f} GFLOP for a tile of 20x20x3"
    assert lines[2].endswith(f"{4 * training / 1e9:.3f} for a step of 4")
    assert lines[3] == "devices: 2 x cpu, 2 of 4 tiles on each"
    assert "memory of the step: 0.00" in lines[4]
    took = re.fullmatch(
        r"time: (\S+) s a step, (\d+):(\d\d):(\d\d) for 10,000 steps without .*",
        lines[5],
    )
    seconds, *clock = map(float, took.groups())
    whole = sum(x * y for x, y in zip(clock, (3600, 60, 1), strict=True))
    assert whole == pytest.approx(10_000 * seconds, rel=0.01, abs=1)
    columns, _, *rows = lines[7:]
    assert columns.split()[0] == "tile"
    assert [row.split()[0] for row in rows] == ["18", "20", "22", "24"]


@pytest.mark.slow
def test_memory_grows_with_the_tiles_on_a_device():
    one, two = (
        cost.step_memory(replace(FLAT, batch_size=b), channels=1) for b in (2, 4)
    )
    assert two.temporaries > 1.3 * one.temporaries
    state = cost._abstract_state(FLAT, 1)
    size = sum(4 * leaf.size for leaf in jax.tree.leaves(state))
    data = 20 * 20 * (4 + 4 + 4)
    assert one.arguments == pytest.approx(size + data, abs=200)


def test_tile_sizes_are_legal_and_next_to_the_configured_one():
    assert cost.tile_sizes(CONFIG) == [18, 20, 22, 24]  # 16 is too small
    assert cost.tile_sizes(replace(CONFIG, tile_size=24)) == [20, 22, 24, 26, 28]
    rows = cost.tile_table(CONFIG, channels=1).rows
    assert [row["output"] for row in rows] == [2, 4, 6, 8]


def test_the_work_for_a_tile_is_that_of_its_network():
    """A sum by hand for 20x20x1, features 2, depth 1."""
    by_hand = 2 * (
        18**2 * 9 * 1 * 2
        + 16**2 * 9 * 2 * 2
        + 6**2 * 9 * 2 * 4
        + 4**2 * 9 * 4 * 4
        + 4**2 * 4 * 4 * 2
        + 6**2 * 9 * 4 * 2
        + 4**2 * 9 * 2 * 2
        + 4**2 * 1 * 2 * 2
    )
    assert cost.flops(CONFIG, channels=1)[0] == by_hand


def test_a_step_that_does_not_fit_is_not_timed(monkeypatch):
    monkeypatch.setattr(memory, "limit", lambda: 1000)
    text = cost.describe(CONFIG, channels=3)
    assert "time: not measured, as the step does not fit into 0.000 GB" in text


def test_a_step_is_timed_where_the_memory_is_unknown(monkeypatch):
    monkeypatch.setattr(limits, "installed_memory", lambda: None)
    assert "s a step" in cost.describe(CONFIG, channels=3)


def test_the_compiler_is_silenced_for_as_long_as_it_works(capfd):
    with runtime.silent_compiler():
        os.write(2, b"alarm")
    os.write(2, b"error")
    assert capfd.readouterr().err == "error"


@pytest.fixture(scope="module")
def train():
    image, cells = np.zeros((8, 7, 1), np.uint8), np.eye(8, 7, dtype=np.int32)
    return [from_instances(image, cells, name) for name in "ab"]


def room_for(config, train):
    """Bytes that hold a step and the images, and not one more."""
    pixels = sum(example.label.size for example in train)
    return cost.step_memory(config, channels=1).total + 12 * pixels


def test_the_largest_tile_that_fits(train):
    wanted = replace(FLAT, tile_size=7)
    limit = room_for(wanted, train)
    assert cost.largest_that_fits(FLAT, train, what="tile", limit=limit) == wanted
    smaller = cost.largest_that_fits(FLAT, train, what="tile", limit=limit - 1)
    assert smaller == replace(FLAT, tile_size=6)


def test_no_tile_is_larger_than_it_takes_to_hold_an_image(train):
    found = cost.largest_that_fits(FLAT, train, what="tile", limit=10**12)
    assert configs.output_size(found) == 8


@pytest.mark.slow
def test_the_most_tiles_that_fit(train):
    num_devices = jax.local_device_count()
    wanted = replace(FLAT, batch_size=3 * num_devices)
    limit = room_for(wanted, train)
    assert cost.largest_that_fits(FLAT, train, what="batch", limit=limit) == wanted
    fewer = cost.largest_that_fits(FLAT, train, what="batch", limit=limit - 1)
    assert fewer == replace(FLAT, batch_size=2 * num_devices)


@pytest.mark.parametrize("what", ["tile", "batch"])
def test_where_nothing_fits_it_says_what_to_lower(what, train):
    with pytest.raises(ValueError, match=r"not fit into 0\.000 GB .* lower batch"):
        cost.largest_that_fits(FLAT, train, what=what, limit=2_000)


def test_the_limit_is_half_of_the_memory_of_this_machine():
    path = pathlib.Path("/proc/meminfo")
    if jax.default_backend() != "cpu" or not path.exists():
        pytest.skip("no CPU with /proc/meminfo here")
    total = 1024 * int(path.read_text().split("MemTotal:")[1].split()[0])
    assert memory.limit() == pytest.approx(total / 2, rel=0.01)
