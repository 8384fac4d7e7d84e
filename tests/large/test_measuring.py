"""Cells that are measured and traced block by block are as those of the whole image."""

import numpy as np
import pytest

from unetjax.instances import measurements, outlines
from unetjax.large import measuring
from unetjax.large.segmentation import LargeSegmentation
from unetjax.large.sources import Source
from unetjax.network.unet import UNet

SHAPE = (70, 90)


class _Array:
    """An array in memory, of which parts are read as of one on disk."""

    def __init__(self, values):
        self.values = values

    def read(self, *index):
        return self.values[index]


@pytest.fixture
def scene():
    """Cells that lie across blocks, with holes, in pieces, of one pixel."""
    rng = np.random.default_rng(0)
    instances = np.zeros(SHAPE, np.uint64)
    instances[3:40, 5:60] = 1
    instances[10:20, 10:25] = 0
    instances[12, 12] = 2
    instances[33:35, 20:50] = 3
    instances[50:70, 0:90:2] = 4
    instances[69, 89] = 5
    image = rng.integers(0, 65536, (*SHAPE, 2)).astype(np.uint16)
    probs = rng.dirichlet(np.ones(3), SHAPE).astype(np.float32)
    return image, instances, probs


def segmented(scene):
    image, instances, probs = scene
    return Source(*SHAPE, lambda *place: image[place]), LargeSegmentation(
        _Array(probs),
        lambda *place: probs[place].argmax(-1),
        lambda *place: instances[place],
        int(instances.max()),
    )


@pytest.mark.parametrize("block_size", [1, 16, 33, 128])
def test_measurements_are_those_of_the_whole_image(scene, block_size):
    image, instances, probs = scene
    source, found = segmented(scene)
    units = {"pixel_size": (0.5, 2.0), "unit": "um"}
    rows = measuring.measure_objects(
        source, found, UNet(num_classes=3), **units, block_size=block_size
    )
    expected = measurements.measure_objects(
        image, instances.astype(int), probs.argmax(-1), probs, **units
    )
    assert len(rows) == len(expected) == 5
    for row, whole in zip(rows, expected, strict=True):
        assert list(row) == list(whole)
        assert [type(x) for x in row.values()] == [type(x) for x in whole.values()]
        # The square root of an axis doubles the digits that rounding takes from zero.
        assert row == pytest.approx(whole, rel=1e-9, abs=1e-6)


def test_axes_far_from_the_corner_keep_their_digits():
    far, shape = 3 * 10**7, np.array([[1, 1, 1], [1, 1, 0], [1, 1, 0]])

    def read(rows, columns):
        here = np.zeros((rows.stop - rows.start, columns.stop - columns.start), int)
        if rows.start == far:
            here[:3, :3] = shape
        return here

    class Outputs:
        def read(self, rows, columns):
            return np.full((*read(rows, columns).shape, 2), 0.5, np.float32)

    source = Source(far + 5, 5, lambda *p: read(*p)[..., np.newaxis].astype(np.uint8))
    done = LargeSegmentation(Outputs(), read, read, 1)
    (row,) = measuring.measure_objects(source, done, UNet(), block_size=10**6)
    (near,) = measurements.measure_objects(
        shape[..., np.newaxis], shape, shape, np.full((3, 3, 2), 0.5)
    )
    assert row["centroid_y"] == pytest.approx(far + near["centroid_y"], rel=1e-15)
    for name in ("major_axis", "minor_axis"):
        assert row[name] == pytest.approx(near[name], rel=1e-12)


@pytest.mark.parametrize("block_size", [1, 16, 128])
def test_outlines_are_those_of_the_whole_image(scene, block_size):
    source, found = segmented(scene)
    rows = measuring.measure_objects(source, found, UNet(num_classes=3))
    polygons = measuring.trace_objects(found, rows, block_size=block_size)
    expected = outlines.trace_objects(scene[1].astype(int))
    assert polygons.keys() == expected.keys()
    for number, pieces in expected.items():
        for one, other in zip(polygons[number], pieces, strict=True):
            for ring, whole in zip(one.rings, other.rings, strict=True):
                np.testing.assert_array_equal(ring, whole)


def test_an_image_without_cells_has_no_rows(scene):
    source, found = segmented((scene[0], 0 * scene[1], scene[2]))
    assert measuring.measure_objects(source, found, UNet(num_classes=3)) == []
    assert measuring.trace_objects(found, []) == {}
