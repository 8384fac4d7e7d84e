"""Which files belong together, and what is said where they are missing."""

import numpy as np
import pytest

from unetjax.files import images
from unetjax.viewer import results


def test_everything_of_an_image_is_found(study):
    found = results.find(study / "out", masks=study / "masks")
    assert not found.warnings
    assert [each.name for each in found.results] == ["a", "b", "c"]
    for each in found.results:
        assert each.image.samefile(study / "images" / f"{each.name}.tif")
        assert each.truth == study / "masks" / f"{each.name}.tif"
        assert each.prediction == study / "out" / f"{each.name}_labels.tif"
        assert each.probability == study / "out" / f"{each.name}_probs.tif"
        assert each.table == study / "out" / f"{each.name}_objects.csv"
        assert each.uncertainty is None


def test_images_that_have_moved_are_named_by_their_folder(study):
    (study / "images").rename(study / "elsewhere")
    with pytest.raises(ValueError, match=r"images has none of the images.*--images"):
        results.find(study / "out")
    (study / "elsewhere" / "b.tif").unlink()
    found = results.find(study / "out", images=study / "elsewhere")
    assert found.warnings == ["1 predictions have no image: b."]
    assert [each.image is None for each in found.results] == [False, True, False]


def test_label_images_of_another_program(study):
    """Without a record, and with the names of the images."""
    images.write_labels(study / "images" / "a_labels.tif", np.eye(3, dtype=int))
    with pytest.raises(ValueError, match="does not say where its images are"):
        results.find(study / "masks")
    found = results.find(study / "masks", images=study / "images")
    assert [each.image.name for each in found.results] == ["a.tif", "b.tif", "c.tif"]


def test_the_folder_of_a_run_shows_its_pictures(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in ("step_0", "step_9"):
        images.write_image(
            tmp_path / "pictures" / f"{name}.png", np.zeros((9, 9, 3), np.uint8)
        )
    found = results.find(tmp_path).results
    assert [each.name for each in found] == ["step_9", "step_0"]


def test_folders_without_predictions(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone does not exist; name"):
        results.find(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"has no predictions; name the folder"):
        results.find(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ValueError, match=r"a\.txt is a file; name the folder"):
        results.find(tmp_path / "a.txt")
