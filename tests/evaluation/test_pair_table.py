"""The table of `unetjax check` says what each pair of files contains."""

import csv

import numpy as np
import pytest
import tifffile

from unetjax.cli import main
from unetjax.data import folder
from unetjax.evaluation import pair_table


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """A stack of two pages with a pixel size, and a colour image of floats."""
    monkeypatch.chdir(tmp_path)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    noise = np.random.default_rng(0).integers(5, 4000, (2, 40, 30), np.uint16)
    noise[0, 0, :2] = 3, 4095
    tifffile.imwrite(
        "images/a.tif",
        noise,
        imagej=True,
        resolution=(2, 2),
        metadata={"axes": "TYX", "unit": "um"},
    )
    masks = np.zeros((2, 40, 30), np.uint8)
    masks[0, :10, :10] = 1
    masks[0, 10:20, :10] = 2  # touches 1
    masks[1, :10, :10] = 1
    masks[1, 20:30, :30] = 7
    tifffile.imwrite("masks/a.tif", masks)
    colour = np.random.default_rng(1).random((30, 30, 3)).astype(np.float32)
    tifffile.imwrite("images/b.tif", colour, photometric="rgb")
    tifffile.imwrite("masks/b.tif", masks[0, :30])
    return tmp_path


def test_a_row_has_the_facts_of_all_pages(pairs):
    stack, colour = pair_table.measure(folder.read("images", "masks"))
    assert (stack["image"], stack["mask"]) == ("images/a.tif", "masks/a.tif")
    assert (stack["axes"], stack["pages"]) == ("TYX", 2)
    assert (stack["height"], stack["width"], stack["channels"]) == (40, 30, 1)
    assert (stack["type"], stack["least"], stack["largest"]) == ("uint16", 3, 4095)
    assert stack["pixel_height_um"] == stack["pixel_width_um"] == pytest.approx(0.5)
    assert (stack["masks"], stack["objects"]) == ("instances", 4)
    assert stack["touching_pairs"] == 1
    assert stack["foreground_share"] == pytest.approx(600 / 2400)
    assert stack["least_diameter"] == pytest.approx(2 * (100 / np.pi) ** 0.5)
    assert stack["largest_diameter"] == pytest.approx(2 * (300 / np.pi) ** 0.5)
    assert (colour["axes"], colour["channels"]) == ("YXC", 3)
    assert colour["pixel_height_um"] is None


@pytest.mark.parametrize(
    ("mask_type", "reason"),
    [
        ("auto", "most numbers mark one connected piece in an image"),
        ("instances", "--mask-type=instances says so"),
    ],
)
def test_the_reason_is_the_rule_that_decided(pairs, mask_type, reason):
    report = folder.read("images", "masks", mask_type=mask_type)
    assert report.summary.masks.reason == reason


def test_classes_and_two_numbers_have_their_reasons(pairs):
    halves = np.repeat(np.arange(3, dtype=np.uint8), 10)[:, None].repeat(30, 1)
    halves[25:, 10:] = 1  # a second piece of 1
    halves[:5, 20:] = 2
    halves[:2, :2] = 2
    tifffile.imwrite("masks/b.tif", halves)
    report = folder.read("images/b.tif", "masks/b.tif")
    assert report.summary.masks.reason.startswith("numbers mark several pieces")
    tifffile.imwrite("masks/b.tif", (halves > 0).astype(np.uint8))
    report = folder.read("images/b.tif", "masks/b.tif")
    assert report.summary.masks.reason == "there are no more than two numbers"


def test_lines_have_at_most_80_columns(pairs):
    """Names give way, from their middle, as far as 12 characters are left."""
    for source in ("images", "masks"):
        (pairs / source / "a.tif").rename(pairs / source / f"{'long' * 20}.tif")
    text = pair_table.show(pair_table.measure(folder.read("images", "masks")))
    assert max(map(len, text.splitlines())) == 80
    assert "long...g.tif" in text
    assert "2x40x30" in text
    assert "float32 x3" in text
    assert "0.5 um" in text


def test_the_console_is_bounded_and_the_file_is_not(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for source in ("images", "masks"):
        (tmp_path / source).mkdir()
    for i in range(23):
        tifffile.imwrite(
            f"images/{i:02d}.tif", generator.integers(0, 9, (12, 12), np.uint8)
        )
        mask = np.zeros((12, 12), np.uint8)
        mask[2 : 4 + i // 3, 2:8] = 255
        tifffile.imwrite(f"masks/{i:02d}.tif", mask)
    assert main.main(["check", "images", "masks"]) == 0
    printed = capsys.readouterr().out
    assert "19.tif" in printed
    assert "20.tif" not in printed.partition("width:")[0]
    assert "... and 3 more pairs, by --csv FILE" in printed
    assert "no more than two numbers" in printed

    assert main.main(["check", "images", "masks", "--csv", "pairs.csv", "-q"]) == 0
    assert "table: " in capsys.readouterr().out
    with open("pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 23
    assert tuple(rows[0]) == pair_table.COLUMNS
    assert rows[22]["objects"] == "1"
    assert main.main(["check", "images", "masks", "--csv", "pairs.csv"]) == 2
    assert "pairs.csv exists already" in capsys.readouterr().err
