import inspect

import numpy as np
import pytest
from scipy import ndimage

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
        ([128 * (CELLS > 0)], "auto", "classes", 2, "0/128 read as background and"),
        ([65_535 * (CELLS > 0)], "auto", "classes", 2, "0/65535 read as background"),
        ([1 + (CELLS > 0)], "auto", "classes", 2, "1/2 read as background and fore"),
        ([3 * (CELLS > 0)], "classes", "classes", 2, "0/3 read as background and f"),
        ([CELLS, CELLS.T], "auto", "classes", 3, "0 to 2 read as 3 classes"),
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
        (np.kron(CLASSES * 127, np.eye(9) < 2), "auto", "values 0, 127, 254: neit"),
        (CELLS + 1, "auto", "values 1, 2, 3: neither"),
        (CELLS * 2, "classes", r"masks/ has masks with the values 0, 2, 4: neither"),
        (
            CELLS - 2,
            "instances",
            r"masks/ has masks with the value -2; cells are .* --ignore=-2 if that",
        ),
    ],
)
def test_masks_of_no_format_are_refused(mask, mask_type, message):
    with pytest.raises(ValueError, match=message):
        mask_formats.infer_mask_format(
            [mask.astype(np.int32)], mask_type, where="masks/"
        )


def test_unannotated_pixels_are_no_cells_and_no_class():
    """-1 in any mask, and 255 above numbers without a gap, as in Pascal VOC."""
    cells = np.kron(np.arange(10).reshape(2, 5), np.ones((4, 4), int))
    cells = np.where(np.arange(4 * 5) % 4 == 3, 0, cells)
    for unknown in (-1, 255):
        masks = [np.where(np.arange(8)[:, None] == 7, unknown, cells)]
        found = mask_formats.infer_mask_format(masks)
        assert found.mask_type == "instances"
        assert found.description == (
            f"numbered cells, 9 to 9 per image, {unknown} ignored as not annotated"
            + ("; --ignore=-1 keeps 255" if unknown == 255 else "")
        )
        example = mask_formats.to_example(cells[..., None], masks[0], "a", found)
        assert set(example.label[7]) == {-1}
        assert example.instances.max() == 9
        assert not example.instances[7].any()
        stripes = [np.where(CELLS == 1, unknown, CLASSES)]
        found = mask_formats.infer_mask_format(stripes)
        assert (found.mask_type, found.num_classes) == ("classes", 3)
        example = mask_formats.to_example(CELLS[..., None], stripes[0], "a", found)
        assert set(example.label[CELLS == 1]) == {-1}
    # 255 is the number of a cell where there are so many.
    many = [np.kron(np.arange(256).reshape(16, 16), np.ones((3, 3), int))]
    assert "255 to 255 per image" in mask_formats.infer_mask_format(many).description


@pytest.mark.parametrize("unknown", [-2, 3, 77, 254, 255])
def test_any_number_may_mark_unannotated_pixels(unknown):
    """In masks of cells, of classes, and of background and foreground."""
    is_unknown = np.arange(8)[:, None] + 0 * CELLS == 7
    for mask, inferred in (
        (CELLS, "instances"),
        (CLASSES, "classes"),
        (200 * (CELLS > 0), "classes"),
    ):
        partial = np.where(is_unknown, unknown, mask)
        found = mask_formats.infer_mask_format([partial], ignore=unknown)
        assert found.mask_type == inferred
        assert found.description.endswith(f", {unknown} ignored as not annotated")
        example = mask_formats.to_example(partial[..., None], partial, "a", found)
        assert set(example.label[is_unknown]) == {-1}
        assert not example.instances[is_unknown].any()
        whole = mask_formats.infer_mask_format([mask])
        complete = mask_formats.to_example(mask[..., None], mask, "a", whole)
        known = ~is_unknown
        np.testing.assert_array_equal(example.label[known], complete.label[known])


def test_background_and_foreground_may_be_numbered_beside_unannotated_zeros():
    """As strokes of a pen: 0 nowhere drawn, 1 background, 2 foreground."""
    strokes = np.where(CELLS == 1, 2, np.where(CELLS == 2, 1, 0))
    found = mask_formats.infer_mask_format([strokes], ignore=0)
    example = mask_formats.to_example(strokes[..., None], strokes, "a", found)
    np.testing.assert_array_equal(example.label, strokes - 1)
    with pytest.raises(ValueError, match="0 is background and cannot be ignored"):
        mask_formats.infer_mask_format([strokes], "instances", ignore=0)


def test_a_number_that_is_ignored_replaces_the_rule_for_255():
    mask = np.where(CELLS == 2, 255, CLASSES)
    with pytest.raises(ValueError, match=r"0, 1, 2, 255: .* or --ignore=VALUE if one"):
        mask_formats.infer_mask_format([mask], "classes", ignore=-1)
    cells = [np.where(CELLS == 2, 255, CELLS)]
    found = mask_formats.infer_mask_format(cells, "instances", ignore=-1)
    assert found.description == "numbered cells, 2 to 2 per image"
    assert not any("--ignore names" in doubt for doubt in found.doubts)


def test_an_ignored_number_that_does_not_occur_is_named():
    found = mask_formats.infer_mask_format([CELLS], ignore=99)
    assert found.doubts == ("No mask has a pixel of 99, which --ignore names.",)


def test_one_object_of_a_class_with_a_border_of_255_is_no_cell():
    """As in Pascal VOC: which class a mask has depends on the image."""
    masks = [np.where(CELLS == 2, 255, np.minimum(CELLS, 1) * k) for k in (1, 2)]
    found = mask_formats.infer_mask_format(masks)
    assert (found.mask_type, found.num_classes) == ("classes", 3)
    assert "255 ignored" in found.description


@pytest.mark.parametrize("rim", [[128], [60, 190]])
def test_a_smoothed_mask_is_refused(rim):
    distance = np.hypot(*(np.mgrid[:30, :30] - 15))
    mask = np.where(distance < 9, 255, 0)
    for i, value in enumerate(rim):
        mask[(distance >= 9 + i) & (distance < 10 + i)] = value
    with pytest.raises(ValueError, match=f"such as {rim[0]} on the rim between 0 and "):
        mask_formats.infer_mask_format([mask])
    assert mask_formats.infer_mask_format([mask], "instances").mask_type == "instances"
    assert mask_formats.infer_mask_format([CELLS * 100]).mask_type == "instances"


def test_a_mask_whose_values_grow_from_pixel_to_pixel_is_refused():
    """Strong smoothing leaves few pixels of 255, and every value up to there."""
    y, x = np.mgrid[:60, :60]
    mask = (300 * np.exp(-((y - 30) ** 2 + (x - 30) ** 2) / 200)).clip(0, 255)
    masks = [np.roll(mask, i, 0).astype(np.uint8).astype(np.int32) for i in range(3)]
    masks.append(np.arange(256).repeat(2).reshape(16, 32).astype(np.int32))
    with pytest.raises(ValueError, match="on the rim between 0 and 255: they were"):
        mask_formats.infer_mask_format(masks)


def test_slips_of_the_pen_in_a_mask_of_0_and_255_are_no_class():
    """Else 255 would be what is not annotated, and a single pixel the foreground."""
    mask = 255 * (np.kron(CELLS, np.ones((3, 3), np.int32)) > 0)
    mask[0, 1:3] = 1
    with pytest.raises(
        ValueError, match=r"^masks/ has masks of 0 and 255, and 1 in 2 "
    ):
        mask_formats.infer_mask_format([mask], where="masks/")
    mask[1, 1:3] = 1
    (doubt,) = mask_formats.infer_mask_format([mask]).doubts
    assert doubt.startswith("Not annotated are ")
    assert "more than the 4 of" in doubt
    rim = np.where(mask == 255, 1, 0)
    rim[0] = 255  # a slip that is not annotated does no harm
    assert not mask_formats.infer_mask_format([rim]).doubts


@pytest.mark.parametrize(("top", "has_doubt"), [(255, 1), (65535, 1), (400, 0)])
def test_the_largest_number_of_a_type_may_be_no_cell(top, has_doubt):
    cells = np.where(CELLS == 2, top, CELLS + 50 * (CELLS > 0))
    cells[CELLS == 0] = 0
    cells[-1, 1] = 3
    doubts = mask_formats.infer_mask_format([cells], "instances").doubts
    assert sum(f"use --ignore={top} if" in each for each in doubts) == has_doubt


def test_a_label_image_that_was_interpolated_is_doubted():
    disc = np.hypot(*(np.mgrid[:18, :18] - 8.5)) < 7
    labels = np.kron(np.arange(9).reshape(3, 3), disc)
    scaled = ndimage.zoom(labels, 0.7, order=1).astype(np.int32)
    found = mask_formats.infer_mask_format([scaled])
    assert any("scale masks by nearest neighbours" in each for each in found.doubts)
    whole = mask_formats.infer_mask_format([ndimage.zoom(labels, 0.7, order=0)])
    assert not any("nearest" in each for each in whole.doubts)


@pytest.mark.parametrize(
    ("masks", "doubt"),
    [
        ([CELLS], None),
        (
            [CELLS, CELLS.T],
            "one piece of 1 and one of 2, as two cells would; use --mas",
        ),
        ([CELLS, np.minimum(CELLS, 1)], None),
        ([np.roll(CELLS, i, 0) + 0 for i in range(2)], "use --mask-type=instances if"),
        ([CELLS % 2, CELLS // 2 * 2], "1 to 2, not from 1 in each, as classes would; "),
        ([np.kron([[1, 2], [3, 0]], np.ones((3, 3), int))] * 2, "all of them in each"),
        ([np.kron([[1, 0, 2], [0, 0, 0], [2, 0, 1]], np.ones((3, 3), int))], "of one"),
        ([CLASSES * (np.arange(8) > CLASSES * 3)], None),
    ],
)
def test_doubtful_formats_name_the_option(masks, doubt):
    found = mask_formats.infer_mask_format([mask.astype(np.int32) for mask in masks])
    assert len(found.doubts) == (doubt is not None)
    if doubt:
        assert doubt in found.doubts[0]
        assert "--mask-type=" in found.doubts[0]
    known = mask_formats.infer_mask_format(masks, found.mask_type)
    assert not known.doubts


def test_stray_pixels_are_named():
    mask = np.kron(CELLS, np.ones((4, 4), int))
    mask[0, 0] = 7
    found = mask_formats.infer_mask_format([mask])
    assert found.mask_type == "instances"
    assert "1 numbers in the masks mark 2 pixels or fewer (7)" in found.doubts[0]


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
