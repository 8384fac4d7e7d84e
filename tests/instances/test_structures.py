import numpy as np
import pytest

from unetjax.data import synthetic
from unetjax.data.examples import from_instances, from_labels
from unetjax.instances.structures import structure

SIZE = (120, 140)
Y, X = np.indices(SIZE)
DISCS = np.hypot(Y % 40 - 20, X % 40 - 20) < 12
ELLIPSES = np.hypot((Y % 40 - 20) / 3, (X % 20 - 10)) < 5
NETWORK = (np.abs(Y % 30 - 15) < 2) | (np.abs(X % 35 - 17) < 2)
CRACK = np.abs(Y - 60 - 20 * np.sin(X / 25)) < 1.5
LINES = (np.abs(Y % 20 - 10) < 3) & (X > 10) & (X < 130)


def example_of(mask):
    image = np.zeros((*SIZE, 1), np.uint8)
    return from_labels(image, np.asarray(mask, np.int32), "mask")


def kind(*examples, numbered=False):
    labels, instances = zip(*((e.label, e.instances) for e in examples), strict=True)
    return structure(labels, instances, numbered=numbered)


@pytest.mark.parametrize("mask", [NETWORK, CRACK, LINES])
def test_vessels_and_cracks_are_thin(mask):
    assert kind(example_of(mask)) == "thin"


@pytest.mark.parametrize("mask", [DISCS, ELLIPSES, 1 - NETWORK, DISCS | CRACK])
def test_compact_objects_are_not(mask):
    assert kind(example_of(mask)) == "foreground"


def test_numbered_objects_are_cells_however_long_they_are():
    lines = from_instances(np.zeros((*SIZE, 1)), example_of(LINES).instances, "rods")
    assert kind(lines, numbered=True) == "cells"
    cells = synthetic.touching_cells(0, size=(40, 48), num_cells=4, radius=6.0)
    assert kind(cells, numbered=True) == "cells"


def test_two_classes_of_foreground_are_classes_whatever_their_shape():
    both = example_of(np.where(NETWORK, 2, DISCS))
    assert kind(example_of(DISCS), both) == "classes"


def test_images_without_foreground_decide_nothing():
    empty = example_of(np.zeros(SIZE))
    assert kind(empty) == "foreground"
    assert kind(empty, example_of(CRACK)) == "thin"
