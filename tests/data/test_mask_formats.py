import inspect

import numpy as np
import pytest

from unetjax.data import mask_formats

CELLS = np.zeros((8, 8), np.int32)
CELLS[1:3, 1:3] = 1
CELLS[5:7, 5:7] = 2
CLASSES = np.zeros((8, 8), np.int32)
CLASSES[::4] = 1
CLASSES[2::4] = 2


@pytest.mark.parametrize(
    ("masks", "mask_type", "inferred", "num_classes", "description"),
    [
        ([CELLS > 0], "auto", "classes", 2, "0/1 read as background and foreground"),
        ([255 * (CELLS > 0)], "auto", "classes", 2, "0/255 read as background and fo"),
        ([CELLS, CELLS > 1], "auto", "instances", 2, "numbered cells, 1 to 2 per"),
        ([CLASSES], "auto", "classes", 3, "0 to 2 read as 3 classes"),
        ([CLASSES + 1], "instances", "instances", 2, "numbered cells, 3 to 3 per"),
        ([CELLS], "classes", "classes", 3, "0 to 2 read as 3 classes"),
        ([255 * (CELLS > 0)], "instances", "instances", 2, "numbered cells, 1 to 1"),
        ([CELLS * 0], "auto", "classes", 2, "0/1 read as"),
        ([np.where(CLASSES == 2, -1, CLASSES)], "auto", "classes", 2, "0/1 read as"),
    ],
)
def test_formats_are_inferred(masks, mask_type, inferred, num_classes, description):
    masks = [mask.astype(np.int32) for mask in masks]
    mask_format = mask_formats.infer_mask_format(masks, mask_type)
    assert mask_format.mask_type == inferred
    assert mask_format.num_classes == num_classes
    assert mask_format.description.startswith(description)


def test_the_whole_data_set_decides():
    """A mask with a single cell among masks of many is not a mask of classes."""
    one = np.where(CELLS == 1, 1, 0)
    assert mask_formats.infer_mask_format([one]).mask_type == "classes"
    assert mask_formats.infer_mask_format([one, CELLS]).mask_type == "instances"


@pytest.mark.parametrize(
    ("mask", "mask_type", "message"),
    [
        (
            CLASSES * 128 - (CLASSES == 2),
            "auto",
            "values 0, 128, 255: neither .*--mask-t",
        ),
        (CELLS + 1, "auto", "values 1, 2, 3: neither"),
        (CELLS * 2, "classes", r"masks/ has masks with the values 0, 2, 4: neither"),
        (
            CELLS - 1,
            "instances",
            "masks/ has masks with the value -1; cells are numbere",
        ),
    ],
)
def test_masks_of_no_format_are_refused(mask, mask_type, message):
    with pytest.raises(ValueError, match=message):
        mask_formats.infer_mask_format(
            [mask.astype(np.int32)], mask_type, where="masks/"
        )


def test_an_unknown_type_is_refused():
    """Called without the run-time type checks of the tests."""
    infer_mask_format = inspect.unwrap(mask_formats.infer_mask_format)
    with pytest.raises(ValueError, match="of auto, instances, classes, got 'cells'"):
        infer_mask_format([CELLS], "cells")


def test_long_lists_of_values_are_shortened():
    noise = np.random.default_rng(0).permutation(3000).reshape(50, 60) % 200 * 3
    with pytest.raises(ValueError, match="0, 3, 6, 9, 12, 15, 18, 21 and 192 more"):
        mask_formats.infer_mask_format([noise])


def test_examples_follow_the_format():
    image = np.zeros((8, 8, 1), np.uint8)
    cells = mask_formats.to_example(
        image, CELLS, "a", mask_formats.MaskFormat("instances", 2, 1, "")
    )
    np.testing.assert_array_equal(cells.instances, CELLS)
    np.testing.assert_array_equal(cells.label, CELLS > 0)
    mask = 255 * (CELLS > 0) - (CELLS == 2) * 256
    binary = mask_formats.to_example(
        image, mask, "a", mask_formats.MaskFormat("classes", 2, 255, "")
    )
    assert binary.label.dtype == np.int32
    np.testing.assert_array_equal(binary.label, np.where(CELLS == 2, -1, CELLS))
    np.testing.assert_array_equal(binary.instances, CELLS == 1)
