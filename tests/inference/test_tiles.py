"""Tile plans as integers, and the facts of the real network that they rest on."""

import functools
import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetjax.geometry import Geometry
from unetjax.inference import tiles
from unetjax.network.forward import forward
from unetjax.network.unet import UNet

SIDES = st.integers(1, 300)
PADDINGS = st.sampled_from(["VALID", "SAME"])
NO_BOUND = 10**12
SAME = Geometry(padding="SAME")


@pytest.fixture(scope="module")
def network(make_variables):
    """From depth and padding to a compiled function from images to logits."""

    @functools.cache
    def make(depth, padding="VALID"):
        model = UNet(features=2, depth=depth, padding=padding)
        params = make_variables(model)["params"]
        return jax.jit(lambda image: forward(model, params, {}, image)[0])

    return make


def seen_by(run, *, height, width):
    """Which of the columns that a network reads reach which of its output columns."""
    images = np.zeros((width, height, width, 1), np.float32)
    images[np.arange(width), :, np.arange(width)] = np.nan
    return np.isnan(run(images)).any(axis=(1, 3))  # [read, output]


@pytest.mark.parametrize(("side", "tile"), [(388, 572), (512, 700), (1024, 1212)])
def test_one_tile_where_it_fits(side, tile):
    rows, columns, margin = tiles.plan(side, side, Geometry(), max_pixels=NO_BOUND)
    assert rows == columns == (side, tile, tile - 184, (tile - 184) // 16 * 16, 1)
    assert margin == 92


def test_tile_of_the_paper_advances_by_a_multiple_of_the_period():
    """P9: 388 pixels of output, steps of 384."""
    rows, columns, _ = tiles.plan(1024, 400, Geometry(), tile_size=572)
    assert rows == (1024, 572, 388, 384, 3)
    assert columns == (400, 572, 388, 384, 2)


def test_trusted_output_of_a_same_network_lies_within_its_halo():
    rows, _, margin = tiles.plan(600, 600, Geometry(padding="SAME"), tile_size=512)
    assert (rows.trusted, rows.stride, margin) == (512 - 224, 288, 112)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.integers(1, 3), PADDINGS, st.integers(1, 9), st.booleans())
def test_every_pixel_is_filled_once_from_a_tile_in_phase(
    height, width, depth, padding, periods, planned
):
    geometry = Geometry(depth, padding=padding)
    step = geometry.period
    trusted = periods * step + (0 if padding == "VALID" else 2 * 7 * step)
    size = geometry.input_size(trusted)
    bound = {} if planned else {"tile_size": size}
    plan = tiles.plan(height, width, geometry, **bound)
    filled = np.zeros((height, width), int)
    for rows, columns in tiles.tiles(plan):
        assert rows.start % step == columns.start % step == 0
        assert 0 < rows.stop - rows.start <= plan.rows.trusted
        assert 0 < columns.stop - columns.start <= plan.columns.trusted
        filled[rows, columns] += 1
    assert (filled == 1).all()
    assert geometry.is_legal(plan.rows.tile)
    assert len(tiles.tiles(plan)) == plan.rows.count * plan.columns.count


@pytest.mark.parametrize("side", [512, 1000, 2500])
@pytest.mark.parametrize("bound", [600**2, 1200**2])
def test_work_is_near_the_least_of_all_tiles(side, bound):
    """The coarse set of sides costs little, whatever the bound on memory."""
    every = [
        tiles.plan(side, side, Geometry(), tile_size=n).rows
        for n in range(204, 2900, 16)
    ]
    least = min(
        rows.count * rows.tile * columns.count * columns.tile
        for rows, columns in itertools.product(every, every)
        if rows.tile * columns.tile <= bound
    )
    rows, columns, _ = tiles.plan(side, side, Geometry(), max_pixels=bound)
    assert rows.tile * columns.tile <= bound
    assert rows.count * rows.tile * columns.count * columns.tile <= 1.25 * least


def test_images_of_many_sizes_share_few_tiles():
    plans = [
        tiles.plan(n, n, Geometry(), max_pixels=NO_BOUND) for n in range(1, 2000, 29)
    ]
    assert len({plan.rows.tile for plan in plans}) < 50


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        ((0, 5), {}, r"image must have at least one pixel, got 0 x 5 \(H x W\)\."),
        ((9, 9), {"tile_size": 512}, "got 512; try 508 or 524"),
        ((9, 9), {"tile_size": 188}, "tile_size must be at least 204 .* got 188"),
        ((9, 9), {"tile_size": 224, "geometry": SAME}, "at least 240 .* got 224"),
        (
            (9, 9),
            {"max_pixels": 10},
            "at least 41616, one tile of 204 x 204 .* 10;",
        ),
    ],
)
def test_refusals_name_the_way_out(size, options, message):
    with pytest.raises(ValueError, match=message):
        tiles.plan(*size, **{"geometry": Geometry(), **options})


def test_smallest_tile_serves_an_image_no_larger_than_its_output():
    assert tiles.tiles(tiles.plan(4, 3, Geometry(), tile_size=188)) == [
        (slice(0, 4), slice(0, 3))
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(-40, 40),
    st.integers(0, 60),
    st.sampled_from(["reflect", "symmetric"]),
)
def test_a_mirrored_line_runs_to_and_fro(size, start, length, mode):
    line = list(range(size))
    back = line[::-1] if mode == "symmetric" else line[-2:0:-1]
    cycle = line + back
    expected = [cycle[i % len(cycle)] for i in range(start, start + length)]
    actual = tiles.mirror_index(start, start + length, size=size, mode=mode)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.usefixtures("as_installed")
def test_unknown_mirror_is_refused():
    with pytest.raises(
        ValueError, match=r"mirror must be one of reflect, symmetric, got"
    ):
        tiles.mirror_index(0, 1, size=1, mode="wrap")


def test_tiles_are_read_from_the_mirrored_image():
    image = np.arange(40 * 30).reshape(40, 30, 1)
    plan = tiles.plan(40, 30, Geometry(1), tile_size=34)
    padded = np.pad(image, ((8, 60), (8, 60), (0, 0)), mode="symmetric")
    for tile in tiles.tiles(plan):
        top, left = tile.rows.start, tile.columns.start
        np.testing.assert_array_equal(
            tiles.read_tile(image, plan, tile, mirror="symmetric"),
            padded[top : top + 34, left : left + 34],
        )


@pytest.mark.parametrize(
    ("depth", "side", "sizes"), [(2, 44, [44] * 4), (3, 100, [92] * 4 + [100] * 4)]
)
def test_receptive_field_of_the_real_network(network, depth, side, sizes):
    """P8: how many columns an output pixel sees, by its phase, probed with NaN."""
    height = Geometry(depth).input_size(1)
    seen = seen_by(network(depth), height=height, width=side)
    assert seen.sum(axis=0)[: len(sizes)].tolist() == sizes


def test_reach_of_the_real_same_network(network):
    """The halo rests on this reach: 20 to 23 pixels to each side at depth 2."""
    seen = seen_by(network(2, "SAME"), height=4, width=64)
    sides = []
    for x in range(28, 36):
        first, *_, last = np.flatnonzero(seen[:, x])
        sides += [x - first, last - x]
    assert (min(sides), max(sides)) == Geometry(2).reaches


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_network_commutes_with_shifts_by_its_period_only(network, depth):
    """P18, the reason for all of this; off phase the output is another one."""
    step, side = Geometry(depth).period, Geometry(depth).input_size(40)
    image = np.random.default_rng(depth).random((1, side + step, side, 1), np.float32)
    first = np.asarray(network(depth)(image[:, :side]))
    largest = np.abs(first).max()
    for shift in range(1, step + 1):
        second = np.asarray(network(depth)(image[:, shift : shift + side]))
        error = np.abs(first[:, shift:] - second[:, :-shift]).max()
        assert error <= 1e-5 * largest if shift == step else error > 1e-2 * largest
