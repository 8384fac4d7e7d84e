"""Every target: numbered cells, encoded and decoded, come back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.instances.components import instances_from_probs
from unetjax.instances.settings import InstanceSettings
from unetjax.metrics import matching
from unetjax.targets import encode, target
from unetjax.targets.border import borders
from unetjax.targets.distances import center_and_boundary
from unetjax.targets.neighbours import cell_and_neighbour

SIZE = (64, 72)
DECODERS = {
    "distances": InstanceSettings(
        method="watershed", seeds="maps", seed_threshold=0.4, smoothing=0.5
    ),
    "neighbours": InstanceSettings(
        method="watershed", seeds="maps", seed_threshold=0.4, smoothing=0.5
    ),
    "border": InstanceSettings(
        method="watershed", seeds="maps", seed_threshold=0.5, smoothing=0.5
    ),
}


def disc(row, column, radius):
    y, x = np.indices(SIZE)
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def scene(*masks):
    cells = np.zeros(SIZE, np.int32)
    for number, mask in enumerate(masks, start=1):
        cells[mask & (cells == 0)] = 10 * number
    return cells


SCENES = {
    "convex": scene(disc(20, 20, 9), disc(44, 50, 12)),
    "touching": scene(disc(30, 20, 12), disc(30, 43, 11), disc(50, 31, 9)),
    "unequal": scene(disc(30, 20, 16), disc(30, 43, 7)),
    "ring": scene(disc(32, 36, 20) & ~disc(32, 36, 12)),
    "one pixel": scene(disc(10, 10, 0), disc(40, 40, 9)),
    "image border": scene(disc(0, 20, 12), disc(63, 60, 10), disc(30, 0, 8)),
    "whole image": np.ones(SIZE, np.int32),
    "none": np.zeros(SIZE, np.int32),
}


def decode(cells, name):
    """Returns the cells that a perfect network of the target yields."""
    maps = encode.encode(cells, name)
    foreground = (cells > 0).astype(np.float32)
    if name == "border":
        foreground = foreground * (1 - maps[..., 0])
    probs = np.stack([1 - foreground, foreground], axis=-1)
    return instances_from_probs(probs, DECODERS[name], maps=maps, target=name)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("cells", SCENES.values(), ids=SCENES)
def test_cells_come_back(name, cells):
    # A border also covers the crevices of background beside the contact of two cells.
    least = 0.85 if name == "border" else 0.9
    matches = matching.match(cells, decode(cells, name), [least])
    assert matches.tp[0] == len(np.unique(cells[cells > 0]))
    assert matches.fp[0] == 0


@pytest.mark.parametrize("name", DECODERS)
def test_maps_rotate_and_flip_with_the_cells(name):
    """But for the centroid of an even number of pixels, which is rounded to one."""
    cells = SCENES["touching"]
    maps = encode.encode(cells, name)
    for turn in (lambda x: np.rot90(x), lambda x: x[::-1], lambda x: x[:, ::-1]):
        turned = encode.encode(np.ascontiguousarray(turn(cells)), name)
        difference = np.abs(turned - turn(maps))
        assert np.quantile(difference, 0.99) < 0.1
        assert difference.mean() < 0.01


@pytest.mark.parametrize("name", DECODERS)
def test_maps_do_not_depend_on_the_numbers_of_the_cells(name):
    cells = SCENES["touching"]
    renumbered = np.array([0, *range(30, 0, -1)])[cells]
    expected = encode.encode(cells, name)
    np.testing.assert_array_equal(encode.encode(renumbered, name), expected)
    ignored = np.where(cells == 0, -1, cells)  # not annotated is outside of cells
    np.testing.assert_array_equal(encode.encode(ignored, name), expected)


@pytest.mark.parametrize("name", DECODERS)
def test_maps_lie_between_0_and_1_and_have_their_names(name):
    for cells in SCENES.values():
        maps = encode.encode(cells, name)
        assert maps.shape == (*SIZE, len(target.MAPS[name]))
        assert maps.min() >= 0
        assert maps.max() <= 1


def test_distances_worked_by_hand():
    """A square of 5 x 5: the boundary pixels, a ring, and the centre."""
    cells = np.zeros((7, 7), int)
    cells[1:6, 1:6] = 3
    to_center, to_boundary = center_and_boundary(cells).transpose(2, 0, 1)
    np.testing.assert_allclose(to_boundary[3], [1, 1, 0.5, 0, 0.5, 1, 1])
    np.testing.assert_allclose(
        to_center[3], [1, 8**-0.5 * 2, 8**-0.5, 0, 8**-0.5, 8**-0.5 * 2, 1], rtol=1e-6
    )
    assert to_center[1, 1] == 1


def test_the_centre_of_a_ring_lies_within_it():
    cells = SCENES["ring"]
    nearest = center_and_boundary(cells)[..., 0].argmin()
    assert cells.ravel()[nearest] > 0


def test_a_cell_goes_on_beyond_the_image():
    """Its deepest pixels lie at the border of the image, which is no boundary."""
    cells = SCENES["image border"]
    to_boundary = center_and_boundary(cells)[..., 1]
    assert to_boundary[0, 20] == 0
    assert to_boundary[12, 20] == 1


def test_neighbour_distances_are_high_where_cells_are_near_and_0_elsewhere():
    apart = cell_and_neighbour(scene(disc(30, 12, 7), disc(30, 60, 7)))
    assert apart[..., 1].max() < 0.2
    near = cell_and_neighbour(scene(disc(30, 20, 9), disc(30, 41, 9)))[..., 1]
    assert near[30, 29] > 0.5 > near[30, 13]
    touching = cell_and_neighbour(scene(disc(30, 20, 10), disc(30, 40, 9)))[..., 1]
    assert touching[30, 30] > 0.9


def test_cell_distances_are_1_at_the_deepest_pixel_of_every_cell():
    cells = SCENES["unequal"]
    distance = cell_and_neighbour(cells)[..., 0]
    for number in (10, 20):
        assert distance[cells == number].max() == 1
    assert not distance[cells == 0].any()


def test_borders_are_between_cells_only():
    single = borders(scene(disc(20, 20, 9)))
    assert not single.any()
    cells = SCENES["touching"]
    border = borders(cells)
    assert border[30, 32]
    assert not border[30, 8]  # the outer boundary
    assert 0 < border.mean() < 0.05
    gap = borders(scene(disc(30, 20, 9), disc(30, 42, 9)))
    assert gap[30, 31]  # background, three pixels from either


def test_large_cells_have_thicker_borders():
    small, large = (
        borders(scene(disc(30, 36 - r, r), disc(30, 36 + r, r)))[30].sum()
        for r in (8, 14)
    )
    assert large > small


def test_activations_are_probabilities_and_maps():
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)) * 3)
    for name in target.MAPS:
        values = target.activate(
            outputs[..., : 2 + len(target.MAPS[name])], num_classes=2, target=name
        )
        assert values.shape == (4, 2 + len(target.MAPS[name]))
        assert float(values.min()) >= 0
        assert float(values.max()) <= 1
        count = target.num_logits(2, name)
        np.testing.assert_allclose(values[:, :count].sum(-1), 1, rtol=1e-6)
    distances = target.activate(outputs, num_classes=2, target="distances")
    np.testing.assert_allclose(distances[:, 2:], jax.nn.sigmoid(outputs[:, 2:]))
