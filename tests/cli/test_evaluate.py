"""Scores of class maps by `unetjax evaluate`."""

import re

import numpy as np

from unetjax.cli import main
from unetjax.files import images


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
    assert re.search(r"IoU, mean of classes +0.8500$", printed, re.MULTILINE)
