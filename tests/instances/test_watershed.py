import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from unetjax.instances.watershed import watershed_cells

few = settings(deadline=None, max_examples=50)
graded = hnp.arrays(np.float32, (7, 8), elements=st.sampled_from([0, 0.4, 0.6, 0.9]))


def by_distance(foreground):
    return watershed_cells(
        np.ones(foreground.shape), foreground, seeds="distance", seed_threshold=0.8
    )


def discs(*centres, radius=6.0, size=(24, 40)):
    y, x = np.indices(size)
    return np.any(
        [(y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in centres], axis=0
    )


@few
@given(graded, st.sampled_from(["probability", "distance"]))
def test_cells_cover_the_foreground_and_refine_its_components(probability, seeds):
    foreground = probability > 0.5
    cells = watershed_cells(probability, foreground, seeds=seeds, seed_threshold=0.8)
    np.testing.assert_array_equal(cells > 0, foreground)
    regions, count = ndimage.label(foreground)
    of_cell = [set(regions[cells == i]) for i in range(1, cells.max() + 1)]
    assert all(len(each) == 1 for each in of_cell)
    assert cells.max() >= count
    for i in range(1, cells.max() + 1):
        assert ndimage.label(cells == i)[1] == 1


@few
@given(graded)
def test_seeds_are_the_components_of_a_higher_probability(probability):
    foreground, certain = probability > 0.5, probability > 0.8
    cells = watershed_cells(
        probability, foreground, seeds="probability", seed_threshold=0.8
    )
    seeds, _ = ndimage.label(certain)
    pairs = {
        (int(s), int(c)) for s, c in zip(seeds[certain], cells[certain], strict=True)
    }
    assert len(pairs) == seeds.max() == len({c for _, c in pairs})


def test_two_discs_are_cut_at_their_waist():
    foreground = discs((12, 12), (12, 23))
    cells = by_distance(foreground)
    assert cells.max() == 2
    left, right = (np.argwhere(cells == i)[:, 1] for i in (1, 2))
    assert left.max() in (17, 18)
    assert right.min() in (17, 18)


def test_one_disc_stays_whole():
    foreground = discs((12, 12), radius=9.0)
    cells = by_distance(foreground)
    assert cells.max() == 1


def test_a_ragged_rim_makes_no_cells():
    """Its bays are maxima of the distance, which smoothing levels out."""
    ragged = discs((12, 12), radius=9.0)
    ragged[2:6, 12] = ragged[12, 2:5] = ragged[17:23, 15] = False
    cells = by_distance(ragged)
    assert cells.max() == 1


def test_nothing_has_no_cells():
    nothing = np.zeros((4, 5))
    for seeds in ("probability", "distance"):
        cells = watershed_cells(nothing, nothing > 0.5, seeds=seeds, seed_threshold=0.8)
        assert not cells.any()
