import numpy as np
import pytest

from unetjax.data import arrays

IMAGE = np.arange(12, dtype=np.uint16).reshape(3, 4)
LABEL = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [0, 2, 2, 0]])


def label_of(mask, **options):
    (example,) = arrays.from_pairs([(IMAGE, mask)], **options)
    return example.label


@pytest.mark.parametrize(
    "mask",
    [
        LABEL > 0,
        LABEL.astype(bool)[..., None] == [False, True],  # two classes, one-hot
        (LABEL > 0).astype(np.uint8),
        (LABEL > 0).astype(np.uint8) * 255,
        (LABEL > 0).astype(np.float64),
    ],
    ids=["boolean", "one-hot", "0 and 1", "0 and 255", "floating"],
)
def test_two_classes_in_every_form(mask):
    """Two of these jakeret/tf_unet refuses, though it documents them."""
    np.testing.assert_array_equal(label_of(mask), LABEL > 0)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_three_classes_one_hot_and_as_numbers(dtype):
    np.testing.assert_array_equal(label_of(np.eye(3, dtype=dtype)[LABEL]), LABEL)
    np.testing.assert_array_equal(label_of(LABEL), LABEL)


def test_one_hot_masks_may_lack_classes():
    """Integers 0 and 2 would fit no format; a one-hot mask shows that 1 is absent."""
    mask = np.where(LABEL == 2, 2, 0)
    np.testing.assert_array_equal(label_of(np.eye(3)[mask]), mask)


def test_integer_masks_may_be_instances_and_may_ignore_pixels():
    (example,) = arrays.from_pairs([(IMAGE, LABEL)], mask_type="instances")
    np.testing.assert_array_equal(example.instances, LABEL)
    np.testing.assert_array_equal(example.label, LABEL > 0)
    np.testing.assert_array_equal(label_of(LABEL - 1).min(), -1)


def test_a_generator_of_images_of_several_sizes():
    def pairs():
        for side in (3, 5):
            yield np.full((side, 4, 3), side, np.uint8), np.zeros((side, 4), bool)

    examples = arrays.from_pairs(pairs(), name="own")
    assert [e.image.shape for e in examples] == [(3, 4, 3), (5, 4, 3)]
    assert [e.name for e in examples] == ["own-000", "own-001"]
    assert examples[0].image.dtype == np.uint8


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (IMAGE, np.ones((3, 4, 2)), "array-000 has a mask with 12 pixels of no class"),
        (IMAGE, np.zeros((3, 4, 2)), "12 pixels of no class or of several"),
        (IMAGE, LABEL / 2, r"not integers, such as 0.5; give classes, or mask"),
        (IMAGE, LABEL[0], r"mask of shape \[4\]; accepted are \[H, W\], and"),
        (IMAGE, LABEL[..., None], r"mask of shape \[3, 4, 1\]; accepted"),
        (IMAGE[0], LABEL, r"image of shape \[4\]; accepted are \[H, W\] and"),
        (IMAGE, 7 * LABEL, "masks with the values 0, 7, 14: neither"),
    ],
)
def test_masks_that_fit_no_format_are_refused(image, mask, message):
    with pytest.raises(ValueError, match=message):
        arrays.from_pairs([(image, mask)])
