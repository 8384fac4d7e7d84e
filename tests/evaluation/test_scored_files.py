"""Which prediction is scored against which truth, and what their numbers mean."""

import numpy as np
import pytest
import tifffile

from unetjax.evaluation import scored_files

CELLS = np.zeros((20, 24), np.int32)
CELLS[2:6, 2:6] = 1
CELLS[9:13, 9:14] = 2
CELLS[9:13, 17:22] = 3
STRIPES = np.kron(np.arange(20) % 4 % 3, np.ones((24, 1), np.int64)).T  # three classes


def save(folder, **masks):
    """Writes masks by the stems of their files; returns the folder."""
    folder.mkdir()
    for stem, mask in masks.items():
        array = np.asarray(mask, np.int32)
        tifffile.imwrite(folder / f"{stem}.tif", array, photometric="minisblack")
    return folder


@pytest.fixture
def read(tmp_path):
    def read(truth, predicted, **how):
        return scored_files.read(
            save(tmp_path / "p", **predicted), save(tmp_path / "t", **truth), **how
        )

    return read


@pytest.mark.parametrize(
    ("truth", "prediction"),
    [
        ("a", "a"),
        ("a", "a_labels"),
        ("a_mask", "a_labels"),
        ("a_Masks", "a_mask"),
        ("a_cp_masks", "A"),
        ("man_seg000", "t000_labels"),
        ("man_seg000", "mask000"),
        ("t000", "t000_mask"),
        ("a_mask", "a_mask_labels"),  # the image itself is called a_mask
        ("Zelle_\u00e9", "Zelle_e\u0301_labels"),
    ],
)
def test_files_belong_together_by_name(read, truth, prediction):
    files = read({truth: CELLS}, {prediction: CELLS, f"{prediction}_overlay": CELLS})
    assert [each.name for each in files.scored] == [f"{prediction}.tif"]
    assert files.scored[0].truth.name == f"{truth}.tif"
    assert files.warnings == []


def test_a_truth_is_not_scored_by_what_was_made_of_it(read):
    """`predict` of a folder with images and masks would have segmented both."""
    predicted = {"man_seg000_labels": CELLS, "t000_labels": CELLS}
    with pytest.raises(ValueError, match=r"man_seg000\.tif has several predictions, "):
        read({"man_seg000": CELLS}, predicted)


def test_images_beside_their_masks_are_no_truth(read):
    files = read({"t000": STRIPES * 50, "man_seg000": CELLS}, {"t000_labels": CELLS})
    assert [each.truth.name for each in files.scored] == ["man_seg000.tif"]


def test_files_that_are_not_scored_are_named(read, tmp_path):
    truth, predicted = {"a": CELLS, "b": CELLS}, {"a": CELLS, "c_labels": CELLS}
    with pytest.raises(ValueError, match=r"1 true masks have no prediction: \S*b.tif"):
        read(truth, predicted)
    folders = tmp_path / "p", tmp_path / "t"
    files = scored_files.read(*folders, partial=True)
    assert [each.truth.name for each in files.scored] == ["a.tif"]
    first, second = files.warnings
    assert "b.tif; they are not scored" in first
    assert second.startswith("1 predictions have no truth and are not scored: ")
    assert "c_labels.tif" in second


def test_pages_are_compared_file_by_file(read):
    """Joined in a row, both would have three pages."""
    truth = {"a": [CELLS, CELLS], "b": CELLS}
    with pytest.raises(ValueError, match=r"a\.tif holds 2 label images, but \S*a_lab"):
        read(truth, {"a_labels": CELLS, "b_labels": [CELLS, CELLS]})


@pytest.mark.parametrize(
    ("truth", "prediction", "mask_type", "kind", "num_cells"),
    [
        (CELLS, CELLS, "auto", "numbered cells", 3),
        (CELLS, 255 * (CELLS > 0), "auto", "0/255 read as background and", 3),
        (255 * (CELLS > 0), CELLS, "auto", "numbered cells", 3),
        # Cut into pieces, but numbered as the truth is.
        (CELLS, CELLS * (np.arange(24) % 2), "auto", "numbered cells", 3),
        (3 * (CELLS > 0), 255 * (CELLS > 0), "auto", "0/255 read", 3),
        (STRIPES, STRIPES, "auto", "0 to 2 read as 3 classes", 10),
        (CELLS, CELLS, "classes", "0 to 3 read as 4 classes", 3),
    ],
)
def test_the_truth_decides_what_numbers_mean(
    read, truth, prediction, mask_type, kind, num_cells
):
    files = read({"a": truth}, {"a": prediction}, mask_type=mask_type)
    assert f"predictions: {kind}" in files.meaning
    (scored,) = files.scored
    np.testing.assert_array_equal(scored.prediction.label > 0, prediction > 0)
    assert scored.prediction.instances.max() == num_cells
    np.testing.assert_array_equal(
        scored.prediction.probs.argmax(-1), scored.prediction.label
    )


def test_classes_are_compared_as_classes(read):
    swapped = np.where(STRIPES > 0, 3 - STRIPES, 0)
    (scored,) = read({"a": STRIPES}, {"a": swapped}).scored
    np.testing.assert_array_equal(scored.truth.label, STRIPES)
    np.testing.assert_array_equal(scored.prediction.label, swapped)


def test_values_that_are_no_class_of_the_truth_are_refused(read):
    with pytest.raises(
        ValueError, match=r"has the values 7, but the classes of \S+ ar"
    ):
        read({"a": STRIPES}, {"a": np.where(STRIPES == 2, 7, STRIPES)})


def test_unannotated_pixels_of_the_truth_are_not_scored(read):
    unknown = np.where(np.arange(24) > 18, -1, CELLS)
    files = read({"a": unknown}, {"a": CELLS})
    assert "truth: numbered cells, 3 to 3 per image, -1 ignored" in files.meaning
    assert set(files.scored[0].truth.label[:, 20]) == {-1}
