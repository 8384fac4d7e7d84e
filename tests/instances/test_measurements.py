import numpy as np
import pytest

from unetjax.instances.measurements import measure_objects

INSTANCES = np.zeros((8, 10), np.int32)
INSTANCES[1:3, 2:6] = 1
INSTANCES[5:8, 4:7] = 7


@pytest.fixture
def rows():
    image = np.stack([INSTANCES * 10, np.arange(80).reshape(8, 10)], axis=-1)
    label = np.where(INSTANCES == 7, 2, INSTANCES)
    label[5, 4] = 1  # the others decide
    probs = np.zeros((8, 10, 3), np.float32)
    probs[..., 0] = np.where(INSTANCES == 1, 0.25, 0.5)
    return measure_objects(
        image.astype(np.uint16),
        INSTANCES,
        label,
        probs,
        pixel_size=(0.5, 2.0),
        unit="um",
    )


def test_objects_are_measured(rows):
    first, second = rows
    assert (first["id"], second["id"]) == (1, 7)
    assert (first["class"], second["class"]) == (1, 2)
    assert (first["area"], second["area"]) == (8, 9)
    assert (first["centroid_y"], first["centroid_x"]) == (1.5, 3.5)
    assert [second[x] for x in ("top", "left", "bottom", "right")] == [5, 4, 8, 7]
    # Four standard deviations of the coordinates along it.
    assert first["major_axis"] == pytest.approx(4 * np.arange(4).std())
    assert first["major_axis"] > first["minor_axis"]


def test_grey_values_and_confidence(rows):
    first, second = rows
    assert [first[f"{what}_0"] for what in ("mean", "min", "max")] == [10, 10, 10]
    assert [second[f"{what}_1"] for what in ("mean", "min", "max")] == [65, 54, 76]
    assert (first["confidence"], second["confidence"]) == (0.75, 0.5)


def test_units(rows):
    first, _ = rows
    assert first["area_um2"] == 8
    assert (first["centroid_y_um"], first["centroid_x_um"]) == (0.75, 7)


def test_no_objects_and_no_unit():
    empty = np.zeros((4, 5), np.int32)
    probs = np.ones((4, 5, 2), np.float32)
    image = np.zeros((4, 5, 1), np.uint8)
    assert measure_objects(image, empty, empty, probs) == []
    (row,) = measure_objects(image, empty + 3, empty + 1, probs)
    assert not any("um" in name for name in row)
