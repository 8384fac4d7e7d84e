"""The score as a function of the number of training images."""

import csv
from dataclasses import replace

import pytest

from tests.training.runs import PLAIN
from unetjax.data import synthetic
from unetjax.data.splits import Split
from unetjax.sweeps import learning_curve
from unetjax.sweeps.learning_curve import Point

CELLS = [
    synthetic.touching_cells(0, i, size=(40, 48), num_cells=4, radius=6.0)
    for i in range(5)
]
SPLIT = Split(CELLS[:3], CELLS[3:4], CELLS[4:])


SHORT = replace(PLAIN, num_steps=2, evaluate_every=2)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "curve"
    return folder, measure(folder)


def measure(folder, split=SPLIT):
    return learning_curve.measure(split, SHORT, folder, command="again")


def test_models_of_all_sizes_are_scored_on_the_test_images(measured):
    folder, curve = measured
    assert [point.num_images for point in curve.points] == [1, 3]
    assert all(len(point.scores) == learning_curve.DRAWS for point in curve.points)
    runs = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert runs == [
        *("1 image, draw 1", "1 image, draw 2"),
        *("3 images, draw 1", "3 images, draw 2"),
    ]
    rows = list(
        csv.DictReader((folder / "learning_curve.csv").read_text().splitlines())
    )
    assert [row["training images"] for row in rows] == ["1", "3"]
    assert float(rows[1]["draw 2"]) == curve.points[1].scores[1]
    page = (folder / "report.html").read_text()
    assert curve.conclusion in page
    assert "test images" in page


def test_the_same_call_resumes_and_gives_the_same(measured, capsys):
    folder, curve = measured
    assert learning_curve.planned_steps(folder) == 2
    (folder / ".DS_Store").touch()
    (folder / ".report.0123abcd.html").touch()  # of a process that was killed
    assert measure(folder) == curve
    assert not (folder / ".report.0123abcd.html").exists()
    assert "training:" not in capsys.readouterr().err


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(FileExistsError, match="holds other files; choose a new folder"):
        measure(tmp_path)
    assert (tmp_path / "report.html").read_text() == "mine"


def test_a_single_image_has_no_curve(tmp_path):
    with pytest.raises(ValueError, match="needs at least two training images, got 1"):
        measure(tmp_path / "curve", SPLIT._replace(train=CELLS[:1]))


@pytest.mark.parametrize(
    ("before", "after", "advice"),
    [
        ((0.5, 0.6), (0.7, 0.8), "more annotated images would help"),
        ((0.5, 0.6), (0.55, 0.65), "more images of the same kind would help little"),
        ((0.5, 0.6), (0.4, 0.4), "more images of the same kind would help little"),
    ],
)
def test_a_gain_counts_if_it_exceeds_the_spread_of_the_draws(before, after, advice):
    points = [Point(5, before), Point(10, after)]
    assert advice in learning_curve.conclude(points, "Dice")
