"""Scores of class maps by `unetjax evaluate`."""

import csv
import functools
import json
import re

import numpy as np
import pytest
import tifffile

from tests import commands
from unetjax.cli import main
from unetjax.data import synthetic
from unetjax.evaluation.shifts import SHIFTS
from unetjax.files import images
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import model_folder
from unetjax.network.unet import UNet


def write_classes(folder, *maps):
    folder.mkdir()
    for i, classes in enumerate(maps):
        mask = np.array(classes, np.uint8)[:, :, np.newaxis]
        images.write_image(folder / f"{i}.png", mask)
    return str(folder)


def test_images_need_not_show_every_class(tmp_path, capsys):
    """Counts of images with two and with three classes add up."""
    three = [[1, 2, 1, 2, 0]]  # in several pieces, so that these are no numbered cells
    truth = write_classes(tmp_path / "truth", three, [[0, 1, 0, 1, 1]])
    predicted = write_classes(tmp_path / "out", three, [[0, 1, 0, 1, 0]])
    assert main.main(["evaluate", predicted, truth]) == 0
    printed = capsys.readouterr().out
    # Of the three classes, IoU is 3/4, 4/5 and 1 over both images.
    assert re.search(r"IoU, mean of classes +0.850$", printed, re.MULTILINE)


def test_pixels_of_thin_structures_within_the_field_of_view(tmp_path, capsys):
    """A line drawn one pixel aside, in an image of which the right half is outside."""
    line, aside, field = np.zeros((3, 12, 12), int)
    line[5], aside[6], field[:, :6] = 1, 1, 1
    aside[0, 6:] = 1  # beyond the field of view
    truth = write_classes(tmp_path / "truth", 255 * line)
    predicted = write_classes(tmp_path / "out", 255 * aside)
    fields = write_classes(tmp_path / "fields", 255 * field)
    command = ["evaluate", predicted, truth, "--scores", "pixels", "--tolerance", "1"]
    assert main.main([*command, "--within", fields]) == 0
    inside = capsys.readouterr().out
    assert re.search(r"^F1 within the tolerance +1\.0+$", inside, re.MULTILINE)
    assert re.search(r"^Dice +0$", inside, re.MULTILINE)
    assert main.main(command) == 0
    whole = capsys.readouterr().out
    assert not re.search(r"^F1 within the tolerance +1\.0+$", whole, re.MULTILINE)


def test_probabilities_are_preferred_to_masks_of_pixels(tmp_path, capsys):
    """Numbered cells count as foreground; the AUC is that of all probabilities."""
    truth = write_classes(tmp_path / "truth", [[255, 255, 0, 0]])
    predicted = write_classes(tmp_path / "out", [[3, 0, 0, 0]])
    assert main.main(["evaluate", predicted, truth, "--scores", "pixels"]) == 0
    assert re.search(r"sensitivity +0\.50+\n", capsys.readouterr().out)
    probs = np.array([[0.9, 0.8, 0.7, 0.1]], np.float32)[..., np.newaxis]
    images.write_image(tmp_path / "out" / "0_probs.tif", probs)
    assert main.main(["evaluate", predicted, truth, "--scores", "pixels"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"sensitivity +1\.0+\n", printed)
    assert re.search(r"ROC curve +1\.0+\n", printed)


def test_a_field_of_view_of_another_size_is_refused(tmp_path, capsys):
    truth = write_classes(tmp_path / "truth", [[255, 0, 0, 0]])
    fields = write_classes(tmp_path / "fields", [[255, 0, 0]])
    options = ["--scores", "pixels", "--within", fields]
    predicted = write_classes(tmp_path / "out", [[255, 0, 0, 0]])
    assert main.main(["evaluate", predicted, truth, *options]) != 0
    assert "the field of view of 0.png has" in capsys.readouterr().err


def test_every_score_is_written_as_a_table_and_as_json(tmp_path, capsys):
    truth = write_classes(tmp_path / "truth", [[0, 7, 7, 0, 9]], [[0, 0, 0, 0, 0]])
    predicted = write_classes(tmp_path / "out", [[0, 7, 7, 0, 0]], [[0, 0, 0, 0, 0]])
    table, data = tmp_path / "scores.csv", tmp_path / "scores.json"
    command = ["evaluate", predicted, truth, "--csv", str(table)]
    assert main.main([*command, "--json", str(data)]) == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["truth"] for row in rows] == ["0.png", "1.png", "all"]
    assert [row["ap50"] for row in rows] == ["0.5", "", "0.5"]  # no cell, no score
    written = json.loads(data.read_text())
    assert [each["ap50"] for each in written["images"]] == [0.5, None]
    assert written["all"]["ap50"] == 0.5
    assert written["all"].keys() == set(rows[0]) - {"truth", "prediction"}
    before = table.read_text()
    capsys.readouterr()
    assert main.main(command) == 2
    assert "scores.csv exists already and is not overwritten" in capsys.readouterr().err
    assert table.read_text() == before
    same = [*command[:-1], str(tmp_path / "a"), "--json", str(tmp_path / "a")]
    assert main.main(same) == 2
    assert "--csv and --json must name two files" in capsys.readouterr().err
    assert main.main([*command[:-1], str(tmp_path / "none" / "a.csv")]) == 2
    assert "create it first" in capsys.readouterr().err


def test_ignored_pixels_are_not_scored(tmp_path, capsys):
    """The right half is unannotated; what is predicted there does not count."""
    truth = write_classes(tmp_path / "truth", [[0, 1, 1, 0, 9, 9, 9, 9]])
    predicted = write_classes(tmp_path / "out", [[0, 1, 1, 0, 0, 2, 0, 0]])
    for scores, perfect in (("cells", "AP at IoU 0.5"), ("pixels", "Dice")):
        command = ["evaluate", predicted, truth, "--scores", scores]
        assert main.main([*command, "--mask-type=instances", "--ignore", "9"]) == 0
        printed = capsys.readouterr().out
        assert "9 ignored as not annotated" in printed
        assert re.search(rf"^{perfect} +1\.0+$", printed, re.MULTILINE)
        assert main.main([*command, "--mask-type=instances"]) == 0
        printed = capsys.readouterr().out
        assert not re.search(rf"^{perfect} +1\.0+$", printed, re.MULTILINE)


def test_an_option_without_effect_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.eye(20, dtype=np.uint8))
    files = [tmp_path / "a.tif", tmp_path / "a.tif"]
    run = functools.partial(commands.in_process, "unetjax.cli.main", "evaluate", *files)
    done = run("--tolerance", "3")
    assert done.returncode == 2
    assert "--tolerance is of --scores pixels only; leave it out." in done.stderr
    assert run("--scores", "pixels", "--tolerance", "3").returncode == 0
    for option, value, accepted in (
        ("--tolerance", "-1", "a number of at least 0"),
        ("--tolerance", "nan", "a number of at least 0"),
        ("--ignore", "1.5", "an integer"),
    ):
        done = run("--scores", "pixels", f"{option}={value}")
        assert done.returncode == 2
        assert f"{option}: must be {accepted}, got '{value}'" in done.stderr


def test_a_model_is_scored_on_images_of_other_microscopes(
    tmp_path, capsys, make_variables
):
    """The first row has the scores of its predictions; shifts change them."""
    cells = synthetic.touching_cells(0, size=(48, 56), num_cells=4, radius=6.0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    images.write_image(tmp_path / "images" / "a.tif", cells.image)
    images.write_labels(tmp_path / "masks" / "a.tif", cells.instances)
    (tmp_path / "images" / "notes").write_bytes(b"x")
    model = UNet(features=2, depth=1)
    trained = TrainedModel(model, make_variables(model)["params"])
    model_folder.save_model(tmp_path / "model", trained)
    run = functools.partial(commands.in_process, "unetjax.cli.main")
    paths = [tmp_path / name for name in ("images", "masks", "model")]
    file, scores = tmp_path / "shifts.csv", ("--scores", "pixels")
    done = run("evaluate", *paths[:2], "--shifts", paths[2], *scores, "--csv", file)
    assert done.returncode == 0, done.stderr
    assert "of unchanged: the fraction of Dice kept." in done.stdout
    assert "warning: 1 file is not read: notes" in done.stdout
    with file.open() as opened:
        rows = list(csv.DictReader(opened))
    assert [row["images"] for row in rows] == list(SHIFTS)
    assert len({row["dice"] for row in rows}) > len(SHIFTS) / 2

    out, file = tmp_path / "out", tmp_path / "all.json"
    done = run("predict", paths[2], paths[0], "--out", out, "--probabilities")
    assert done.returncode == 0, done.stderr
    assert run("evaluate", out, paths[1], *scores, "--json", file).returncode == 0
    unchanged = json.loads(file.read_text())["all"]
    for name in ("dice", "auc"):
        assert float(rows[0][name]) == pytest.approx(unchanged[name], abs=1e-3)


def test_options_of_predictions_are_none_of_shifts(tmp_path):
    run = functools.partial(commands.in_process, "unetjax.cli.main", "evaluate")
    done = run(tmp_path, tmp_path, "--shifts", tmp_path, "--partial")
    assert done.returncode == 2
    assert "--partial is of predictions, not of --shifts; leave it" in done.stderr
