import numpy as np
import pytest
from scipy import ndimage
from skimage import measure

from unetjax.instances import fragments
from unetjax.instances.components import instances_from_probs
from unetjax.instances.settings import InstanceSettings

SIZE = (96, 120)


def ellipse(row, column, radii, angle=0.0):
    y, x = np.indices(SIZE)
    y, x = y - row, x - column
    cosine, sine = np.cos(angle), np.sin(angle)
    along, across = cosine * y + sine * x, cosine * x - sine * y
    return (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1


def side(row, column, angle):
    """True on one side of a line through a point."""
    y, x = np.indices(SIZE)
    return np.cos(angle) * (y - row) + np.sin(angle) * (x - column) > 0


def count(cells, min_solidity=0.9):
    merged = merge(cells, min_solidity)
    return np.unique(merged[merged > 0]).size


def merge(cells, min_solidity=0.9):
    """Of equal heights, so that no border is clear."""
    return fragments.merge(cells, np.ones(cells.shape), min_solidity=min_solidity)


@pytest.mark.parametrize("angle", [0.0, 0.4, 0.8, np.pi / 2])
@pytest.mark.parametrize("shift", [0, 8])
def test_pieces_of_an_ellipse_become_one_cell(angle, shift):
    cell = ellipse(48, 60, (30, 22), 0.5)
    cells = cell * (1 + side(48 + shift, 60, angle))
    assert count(cells) == 1
    np.testing.assert_array_equal(merge(cells) > 0, cells > 0)


def test_four_pieces_of_a_disc_become_one_cell():
    cells = ellipse(48, 60, (30, 30)) * (
        1 + side(48, 60, 0.3) + 2 * side(48, 60, 0.3 + np.pi / 2)
    )
    assert count(cells) == 1


@pytest.mark.parametrize("overlap", [1, 4, 8])
@pytest.mark.parametrize("radii", [(20, 20), (14, 24)])
def test_cells_with_a_waist_between_them_stay_apart(radii, overlap):
    middle = 60 - overlap / 2
    left = ellipse(48, middle - radii[1] + overlap, radii)
    right = ellipse(48, middle + radii[1], radii)
    cells = (left | right) * (1 + side(48, middle + overlap / 2, np.pi / 2))
    assert count(cells) == 2


def test_squares_side_by_side_stay_apart():
    """Two are convex, but their border is short."""
    rows, columns = np.indices(SIZE)
    squares = 1 + rows // 12 * 10 + columns // 12
    assert count(squares) == 80


@pytest.mark.parametrize(("depth", "are_merged"), [(0.5, True), (0.7, False)])
def test_a_clear_border_keeps_convex_cells_apart(depth, are_merged):
    """Rods side by side, whose union is convex and whose border is long."""
    rods = np.zeros(SIZE, int)
    rods[10:80, 20:40], rods[10:80, 40:60] = 5, 6
    height = np.full(SIZE, 0.8)
    height[:, 38:42] *= 1 - depth
    merged = fragments.merge(rods, height, min_solidity=0.9)
    assert merged.max() == (5 if are_merged else 6)


def test_cells_of_tissue_stay_apart():
    """Polygons that fill the image, with a dark line around each of them."""
    rows, columns = np.indices(SIZE)
    centers = np.random.default_rng(0).uniform((0, 0), SIZE, (40, 2))
    pixels = np.stack([rows, columns], axis=-1)
    distances = np.sort(np.linalg.norm(pixels[:, :, None] - centers, axis=-1), axis=-1)
    polygons = 1 + np.linalg.norm(pixels[:, :, None] - centers, axis=-1).argmin(-1)
    height = np.minimum(distances[..., 1] - distances[..., 0], 5) / 5
    found = fragments.merge(polygons, height, min_solidity=0.9)
    assert np.unique(found).size == 40
    assert count(polygons) < 40


def test_a_piece_at_the_tip_of_a_cell_stays_apart():
    """Its border is short, as that between two cells that touch at their tips."""
    cell = ellipse(48, 60, (8, 40))
    cells = cell * (1 + side(48, 75, np.pi / 2))
    assert count(cells) == 2


def test_cells_that_do_not_touch_are_not_merged():
    cells = ellipse(48, 60, (30, 30)) * (1 + side(48, 60, 0.0))
    cells[48] = 0
    assert count(cells) == 2
    diagonal = np.kron(np.diag([1, 2]), np.ones((5, 5), int))
    assert count(diagonal) == 2


def test_solidity_is_the_least_that_merges():
    left, right = ellipse(48, 40, (20, 20)), ellipse(48, 56, (20, 20))
    union = left | right
    cells = union * (1 + side(48, 48, np.pi / 2))
    (region,) = measure.regionprops(union.astype(int))
    # That of scikit-image has pixels as diamonds: its hull is smaller.
    assert count(cells, region.solidity) == 2
    assert count(cells, 0.96 * region.solidity) == 1


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, np.rot90, np.transpose])
def test_turned_cells_are_merged_alike(turn):
    cells, height = random_cells()
    found = fragments.merge(turn(cells), turn(height), min_solidity=0.85)
    expected = fragments.merge(cells, height, min_solidity=0.85)
    np.testing.assert_array_equal(found, turn(expected))
    assert 10 < np.unique(found).size < np.unique(cells).size


@pytest.mark.parametrize("factor", [1, 10**12])
def test_numbers_do_not_matter(factor):
    cells, height = random_cells()
    numbers = np.arange(cells.max() + 1, dtype=np.uint64)
    numbers[1:] = np.random.default_rng(1).permutation(numbers[1:]) * factor
    found = fragments.merge(numbers[cells], height, min_solidity=0.85)
    expected = fragments.merge(cells, height, min_solidity=0.85)
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == np.unique(found).size == np.unique(expected).size


def random_cells():
    """Regions of any form that lines cut into pieces, and heights."""
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(size=SIZE), 4)
    regions, _ = ndimage.label(noise > 0)
    cells = 3 * regions + (regions > 0) * (np.indices(SIZE).sum(0) // 16 % 3)
    return cells, rng.uniform(0.3, 1, SIZE)


@pytest.mark.parametrize("cells", [np.zeros((5, 6), int), np.ones((5, 6), int)])
def test_without_borders_nothing_changes(cells):
    np.testing.assert_array_equal(merge(cells), cells)


def test_a_watershed_merges_where_the_settings_say_so():
    """Two seeds in one disc, and two in two discs that touch."""
    disc = ellipse(30, 30, (24, 24))
    pair = ellipse(60, 75, (16, 16)) | ellipse(60, 103, (16, 16))
    probability = np.where(disc | pair, 0.7, 0.1)
    for row, column in ((22, 30), (38, 30), (60, 75), (60, 103)):
        probability[ellipse(row, column, (4, 4))] = 0.95
    probs = np.stack([1 - probability, probability], axis=-1)
    settings = InstanceSettings(method="watershed", merge_solidity=0.9)
    found = instances_from_probs(probs, settings)
    assert found.max() == 3
    assert np.unique(found[disc]).size == 1
    apart = instances_from_probs(probs, InstanceSettings(method="watershed"))
    assert apart.max() == 4


def test_cells_of_different_classes_are_not_merged():
    disc = ellipse(48, 60, (30, 30))
    upper = disc & side(48, 60, 0.0)
    probs = np.stack([~disc, disc & ~upper, upper], axis=-1).astype(float)
    settings = InstanceSettings(method="watershed", merge_solidity=0.5)
    assert instances_from_probs(probs, settings).max() == 2
