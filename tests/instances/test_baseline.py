import numpy as np
import pytest
from PIL import Image

from unetjax.instances.baseline import otsu_components
from unetjax.metrics import matching


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_bright_cells_are_found(dtype):
    image = np.full((12, 12), 10, dtype)
    image[1:4, 1:4], image[6:10, 6:10] = 200, 120
    cells = otsu_components(image, min_size=10)
    assert np.flatnonzero(np.bincount(cells.ravel())).tolist() == [0, 1]
    assert (cells[6:10, 6:10] == 1).all()


def test_an_image_of_one_grey_value_has_no_cells():
    assert not otsu_components(np.full((5, 6), 7, np.uint8)).any()


def test_holes_are_filled():
    image = np.zeros((5, 5), np.uint8)
    image[1:4, 1:4] = 200
    image[2, 2] = 0
    assert otsu_components(image)[2, 2] == 0
    assert otsu_components(image, fill_holes=True)[2, 2] == 1


def test_real_nuclei(shared_data):
    """Fluorescence without crowding: the baseline finds a good part of the nuclei."""
    folder = shared_data / "dsb2018_nuclei/val"
    path = min((folder / "images").glob("*.png"))
    image = np.asarray(Image.open(path))
    truth = np.asarray(Image.open(folder / "labels" / path.name)).astype(np.int32)
    matches = matching.match(truth, otsu_components(image, min_size=10))
    assert matching.average_precision(matches)[0] > 0.7
