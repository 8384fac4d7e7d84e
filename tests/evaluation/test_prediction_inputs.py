"""Which files are segmented, with which channels, and what results are called."""

import os
import pathlib

import numpy as np
import pytest

from unetjax.evaluation import prediction_inputs


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Makes empty files in the working folder."""
    monkeypatch.chdir(tmp_path)

    def make(*paths):
        for path in map(pathlib.Path, paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return make


def find(*given, **options):
    found = prediction_inputs.find([pathlib.Path(x) for x in given], **options)
    return [path.as_posix() for path in found.paths], found.skipped


def test_folders_files_and_patterns(tree):
    tree("i/b.tif", "i/a.PNG", "c.jpg", "d1.tif", "d2.tif", "i/.a.tif", "i/Thumbs.db")
    assert find("i", "c.jpg") == (["i/a.PNG", "i/b.tif", "c.jpg"], [])
    assert find("d*.tif", "d1.tif") == (["d1.tif", "d2.tif"], [])
    with pytest.raises(
        FileNotFoundError, match=r"e\*\.tif does not exist; name images"
    ):
        find("e*.tif")


def test_other_files_of_a_folder_are_named(tree):
    tree("i/a.tif", "i/b.oib", "i/notes.txt")
    paths, skipped = find("i")
    assert paths == ["i/a.tif"]
    assert skipped == [
        "b.oib (a microscope's own format: export it as TIFF)",
        "notes.txt",
    ]


@pytest.mark.parametrize(
    ("files", "images"),
    [
        (["t000.tif", "man_seg000.tif"], ["t000.tif"]),
        (["a.tif", "a_mask.png", "a_overlay.png", "a_probs.tif"], ["a.tif"]),
        (["a_img.tif", "a_masks.tif"], ["a_img.tif"]),
        (["no_label.tif"], ["no_label.tif"]),  # not of another image
    ],
)
def test_masks_and_results_are_no_inputs(tree, files, images):
    tree(*(f"i/{name}" for name in files))
    paths, skipped = find("i")
    assert paths == [f"i/{name}" for name in images]
    assert len(skipped) == len(files) - len(images)
    mask = f"i/{files[-1]}"
    assert find(mask) == ([mask], [])  # asked for by name


def test_nothing_in_a_folder_is_left_out_silently(tree):
    tree("i/a.tif", "i/predictions.jsonl", "i/deep/b.tif", "i/notes/c.txt")
    pathlib.Path("i/gone.tif").symlink_to("nowhere")
    os.mkfifo("i/pipe.tif")
    paths, skipped = find("i")
    assert paths == ["i/a.tif"]
    assert skipped == [
        "deep (a folder with images, read with --recursive)",
        "gone.tif (a link to nothing)",
        "pipe.tif (a pipe or device)",
    ]
    _, skipped = find("i", recursive=True)
    assert [each.partition(" ")[0] for each in skipped] == [
        "gone.tif",
        "c.txt",
        "pipe.tif",
    ]


def test_results_that_a_shell_has_listed_are_no_inputs(tree):
    """As i/*.tif of a folder that holds the results of an earlier call as well."""
    files = ["i/a.tif", "i/a_labels.tif", "i/a_probs.tif", "j/a_labels.tif"]
    tree(*files)
    paths, skipped = find(*files)
    assert paths == ["i/a.tif", "j/a_labels.tif"]
    assert skipped == [
        "a_labels.tif (a mask of a.tif)",
        "a_probs.tif (a result of a prediction)",
    ]
    assert find("*/*.tif") == (paths, skipped)
    assert find("i/a_labels.tif") == (["i/a_labels.tif"], [])


def test_folders_inside_folders(tree):
    tree("i/day1/a.tif", "i/day2/a.tif", "i/.cache/a.tif")
    with pytest.raises(
        ValueError, match="i holds no images itself, but folders of imag"
    ):
        find("i")
    paths, _ = find("i", recursive=True)
    assert paths == ["i/day1/a.tif", "i/day2/a.tif"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a.tif", "b.ome.tif"], ["a", "b"]),
        (["a.tif", "a.png", "b.tif"], ["a_tif", "a_png", "b"]),
        (["A.OME.TIF", "a.tif"], ["A_OME_TIF", "a_tif"]),
        (["x/a.tif", "y/a.tif", "y/b.tif"], ["x_a", "y_a", "b"]),
        (["x/a.tif", "x/a.png", "y/a.png"], ["x_a_tif", "x_a_png", "y_a_png"]),
    ],
)
def test_names_of_results_are_unique(paths, names):
    paths = [pathlib.Path(path) for path in paths]
    assert prediction_inputs.unique_names(paths) == names


def test_channels_are_fitted_without_loss():
    grey = np.arange(24).reshape(1, 4, 6, 1)
    same = np.repeat(grey, 3, axis=-1)
    path = pathlib.Path("a.tif")
    fit = prediction_inputs.fit_channels
    np.testing.assert_array_equal(fit(same, 1, path), grey)
    np.testing.assert_array_equal(fit(grey, 3, path), same)
    assert fit(same, 3, path) is same
    with pytest.raises(
        ValueError, match=r"a\.tif is in colour, but the model was train"
    ):
        fit(same + np.arange(3), 1, path)
    with pytest.raises(ValueError, match=r"a\.tif has 3 channels, but .* images of 2;"):
        fit(same, 2, path)
