from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from unetjax.augmentation.augment import OFF
from unetjax.data import synthetic
from unetjax.data.device_dataset import DataPipeline
from unetjax.evaluation import augmentation_pictures
from unetjax.network.input_scaling import InputScaling
from unetjax.reporting import pictures

PIPELINE = DataPipeline(
    tile_size=66, output_size=50, input_scaling=InputScaling("percentile")
)
EXAMPLE = synthetic.touching_cells(0, size=(60, 70), num_cells=6, radius=6.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return augmentation_pictures.write_all(PIPELINE, EXAMPLE, folder, num_tiles=2)


def test_both_pictures_show_something(written):
    assert [path.name for path in written] == ["fields.png", "tiles.png"]
    for path in written:
        picture = np.asarray(Image.open(path))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
        assert (picture == pictures.ORANGE).all(axis=-1).any()


def test_existing_files_are_not_overwritten(written):
    before = [path.read_bytes() for path in written]
    written[0].unlink()
    with pytest.raises(
        FileExistsError, match=r"tiles.png exists and is not overwritten"
    ):
        augmentation_pictures.write_all(PIPELINE, EXAMPLE, written[0].parent)
    assert not written[0].exists()
    assert written[1].read_bytes() == before[1]
    written[0].write_bytes(before[0])


def test_without_deformation_the_lines_are_straight():
    """Twenty pixels apart, whatever is drawn upon them."""
    still = replace(PIPELINE, augmentation=OFF)
    picture = augmentation_pictures.fields(still)[28 : 28 + 66, 8 : 8 + 66]
    assert (picture == pictures.ORANGE).all(axis=-1).any()
    grey = np.where((picture == pictures.ORANGE).all(axis=-1), 255, picture[..., 0])
    dark = grey < 100
    rows, columns = (np.flatnonzero(dark.mean(axis=i) > 0.7) for i in (1, 0))
    np.testing.assert_array_equal(rows, [0, 20, 40, 60])
    np.testing.assert_array_equal(columns, [0, 20, 40, 60])


def test_tiles_are_those_of_training():
    """Weight maps of tiles lie below them; another seed draws others."""
    first = augmentation_pictures.tiles(PIPELINE, EXAMPLE, num_tiles=2)
    again = augmentation_pictures.tiles(PIPELINE, EXAMPLE, num_tiles=2)
    other = augmentation_pictures.tiles(PIPELINE, EXAMPLE, num_tiles=2, seed=1)
    np.testing.assert_array_equal(first, again)
    inside = slice(28, 28 + 60), slice(8, 8 + 70)
    np.testing.assert_array_equal(first[inside], other[inside])  # the image itself
    assert (first != other).any()


def test_tiles_are_clipped_as_in_training():
    """Bounds below all grey values leave nothing to see."""
    blank = InputScaling("minmax", (0, 1))
    blank = replace(PIPELINE, input_scaling=blank, augmentation=OFF)
    picture = augmentation_pictures.tiles(blank, EXAMPLE, num_tiles=1)
    outlines = (picture == pictures.ORANGE).all(axis=-1)
    tile = (slice(28, 28 + 50), slice(8 + 70 + 8, 8 + 70 + 8 + 50))
    seen = picture[tile][~outlines[tile]]
    assert len(np.unique(seen)) == 1
    clear = replace(blank, input_scaling=InputScaling("minmax"))
    seen = augmentation_pictures.tiles(clear, EXAMPLE, num_tiles=1)[tile]
    assert len(np.unique(seen)) > 20
