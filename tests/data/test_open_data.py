from dataclasses import replace

import numpy as np
import pytest

from unetjax.data import synthetic
from unetjax.data.examples import content_hash
from unetjax.data.open_data import DataSettings, open_split
from unetjax.files import images


@pytest.fixture
def folders(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for i in range(5):
        cells = synthetic.touching_cells(0, i, size=(40, 48), num_cells=3, radius=6.0)
        images.write_image(tmp_path / "images" / f"{i}.tif", cells.image)
        images.write_labels(tmp_path / "masks" / f"{i}.tif", cells.instances)
    return DataSettings(images=str(tmp_path / "images"), masks=str(tmp_path / "masks"))


def names(split):
    """Names of the images in every part there is."""
    return [[e.name for e in part] for part in split if part is not None]


def test_slices_of_a_folder(folders):
    split = open_split(replace(folders, train=":3", validation="3:"))
    assert names(split) == [["0.tif", "1.tif", "2.tif"], ["3.tif", "4.tif"]]


def test_what_is_in_no_other_part_trains(folders):
    split = open_split(replace(folders, validation="1:3"))
    assert names(split) == [["0.tif", "3.tif", "4.tif"], ["1.tif", "2.tif"]]
    split = open_split(replace(folders, validation="1:3", test="3:4"))
    assert names(split) == [["0.tif", "4.tif"], ["1.tif", "2.tif"], ["3.tif"]]
    assert open_split(folders).test is None


def test_validation_images_are_drawn_by_the_seed(folders):
    settings = replace(folders, validation_fraction=0.4, seed=3)
    split = open_split(settings)
    assert [len(part) for part in names(split)] == [3, 2]
    assert names(split) == names(open_split(settings))
    drawn = {str(names(open_split(replace(folders, seed=i)))) for i in range(6)}
    assert len(drawn) > 1


def test_test_images_are_drawn_first(folders):
    """So that another validation fraction, or a fold, keeps the test images."""
    settings = replace(folders, validation_fraction=0.25, test_fraction=0.2)
    split = open_split(settings)
    assert [len(part) for part in names(split)] == [3, 1, 1]
    for changes in ({"validation_fraction": 0.5}, {"fold": "1/2"}):
        other = open_split(replace(settings, **changes))
        assert names(other)[2] == names(split)[2]
        assert len(other.validation) > 1


def test_named_validation_images_leave_the_others_to_draw_from(folders):
    split = open_split(replace(folders, validation=":2", test_fraction=0.3))
    assert names(split)[1] == ["0.tif", "1.tif"]
    assert [len(part) for part in names(split)] == [2, 2, 1]


def test_folds_cover_everything(folders):
    parts = [
        names(open_split(replace(folders, fold=f"{i}/3", seed=2))) for i in (1, 2, 3)
    ]
    validation = [name for _, part in parts for name in part]
    assert sorted(validation) == [f"{i}.tif" for i in range(5)]
    for train, part in parts:
        assert sorted(train + part) == sorted(validation)


def test_a_single_image_is_cut(folders):
    settings = replace(folders, train=":1", validation_fraction=0.5, guard=8)
    split = open_split(settings)
    assert split.train[0].label.shape == (40, 20)
    assert split.validation[0].label.shape == (40, 20)
    split = open_split(replace(settings, test_fraction=0.3, guard=4))
    assert [part[0].label.shape for part in split] == [(18, 31), (18, 31), (40, 13)]
    assert names(split) == [["0.tif-train"], ["0.tif-validation"], ["0.tif-test"]]


def test_images_that_are_in_two_folders_are_refused(folders):
    for part in ("validation", "test"):
        own = {f"{part}_images": folders.images, f"{part}_masks": folders.masks}
        message = rf"must differ, .* 0\.tif \(train\) is 0\.tif \({part}\), 1\.tif"
        with pytest.raises(ValueError, match=message):
            open_split(replace(folders, **own))


def test_synthetic_cells():
    settings = DataSettings(name="synthetic", num_images=4, validation_fraction=0.25)
    split = open_split(settings)
    assert [len(part) for part in names(split)] == [3, 1]
    other = open_split(replace(settings, seed=1))
    assert {e.name for e in split.train}.isdisjoint(e.name for e in other.train)
    assert content_hash(split.train[0]) != content_hash(split.train[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": ""}, "config.data.images and config.data.masks must name"),
        ({"train": "5:"}, "config.data.train selects no image"),
        ({"test": "5:"}, "config.data.test selects no image"),
    ],
)
def test_bad_settings_are_refused(folders, changes, message):
    with pytest.raises(ValueError, match=message):
        open_split(replace(folders, validation=":2", **changes))


def test_labels_beyond_the_classes_name_the_file(folders, tmp_path):
    (tmp_path / "masks" / "2.tif").unlink()
    mask = np.zeros((40, 48), np.int32)
    mask[:, 20:] = 1
    mask[:, 40:] = 2
    images.write_labels(tmp_path / "masks" / "2.tif", mask)
    classes = replace(folders, mask_type="classes")
    for i in (0, 1, 3, 4):
        (tmp_path / "masks" / f"{i}.tif").unlink()
        images.write_labels(tmp_path / "masks" / f"{i}.tif", np.minimum(mask, 1))
    with pytest.raises(ValueError, match=r"2\.tif has label 2 .*accepted are 0 to 1"):
        open_split(classes, num_classes=2)


def test_custom_suffixes(folders, tmp_path):
    for i in range(5):
        (tmp_path / "images" / f"{i}.tif").rename(tmp_path / "images" / f"{i}-im.tif")
        (tmp_path / "masks" / f"{i}.tif").rename(tmp_path / "images" / f"{i}-gt.tif")
    mixed = replace(folders, masks=folders.images, validation=":1")
    with pytest.raises(ValueError, match=r"0-gt\.tif has no mask"):
        open_split(mixed)
    split = open_split(replace(mixed, image_suffix="-im.tif", mask_suffix="-gt.tif"))
    assert names(split)[1] == ["0-im.tif"]
    assert len(split.train) == 4


def test_unannotated_pixels_of_folders(folders, tmp_path):
    for i in range(5):
        path = tmp_path / "masks" / f"{i}.tif"
        mask = images.read_labels(path)
        mask[:3] = 200
        path.unlink()
        images.write_labels(path, mask)
    settings = replace(folders, mask_type="instances", ignore=200)
    for part in open_split(settings)[:2]:
        for example in part:
            assert set(example.label[:3].flat) == {-1}
            assert example.instances.max() < 200


def test_lines():
    settings = DataSettings(name="lines", num_images=3, validation="2:", seed=4)
    split = open_split(settings)
    assert names(split) == [["lines-4-000", "lines-4-001"], ["lines-4-002"]]


def test_discs():
    split = open_split(DataSettings(name="discs", num_images=3, validation="2:"))
    assert names(split) == [["discs-000", "discs-001"], ["discs-002"]]
    assert split.train[0].image.shape == (572, 572, 1)
    assert content_hash(split.train[0]) != content_hash(split.train[1])
