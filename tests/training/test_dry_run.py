from dataclasses import replace

import jax
import pytest

from unetjax.training import config as configs
from unetjax.training import dry_run

CONFIG = configs.from_dict(
    {
        "batch_size": 4,
        "tile_size": 20,
        "model": {"features": 2, "depth": 1},
        "augmentation": {"elastic_sigma": 0.0},
    }
)


def test_it_says_what_a_training_would_take():
    text = dry_run.describe(CONFIG, channels=3)
    state = dry_run._abstract_state(CONFIG, 3)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    one_pass, training = dry_run.flops(CONFIG, channels=3)
    lines = text.splitlines()
    assert lines[0] == f"parameters: {count}"
    assert lines[1] == f"forward: {one_pass / 1e9:.3f} GFLOP for a tile of 20x20x3"
    assert lines[2].endswith(f"{4 * training / 1e9:.3f} for a step of 4")
    assert lines[3] == "devices: 2 x cpu, 2 of 4 tiles on each"
    assert "memory of the step: 0.00" in lines[4]
    columns, _, *rows = lines[6:]
    assert columns.split()[0] == "tile"
    assert [row.split()[0] for row in rows] == ["18", "20", "22", "24"]


def test_memory_grows_with_the_tiles_on_a_device():
    one, two = (
        dry_run.step_memory(replace(CONFIG, batch_size=b), channels=1) for b in (2, 4)
    )
    assert two.temporaries > 1.3 * one.temporaries
    state = dry_run._abstract_state(CONFIG, 1)
    size = sum(4 * leaf.size for leaf in jax.tree.leaves(state))
    data = 20 * 20 * (4 + 4 + 4)
    assert one.arguments == pytest.approx(size + data, abs=200)


def test_tile_sizes_are_legal_and_next_to_the_configured_one():
    assert dry_run.tile_sizes(CONFIG) == [18, 20, 22, 24]  # 16 is too small
    assert dry_run.tile_sizes(replace(CONFIG, tile_size=24)) == [20, 22, 24, 26, 28]
    rows = dry_run.tile_table(CONFIG, channels=1).rows
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
    assert dry_run.flops(CONFIG, channels=1)[0] == by_hand
