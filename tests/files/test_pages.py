import pathlib

import numpy as np
import pytest

from unetjax.files.pages import Pages, as_image, as_labels

PATH = pathlib.Path("a.tif")


def pages(values, **what):
    """One page from a nested list [H, W] or [H, W, C]."""
    array = np.asarray(values)
    return Pages(array[None] if array.ndim == 3 else array[None, ..., None], **what)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_only_opaque_alpha_is_dropped(dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    opaque = pages(np.array([[[5, top], [6, top]]], dtype), has_alpha=True)
    assert as_image(opaque, PATH).tolist() == [[[[5], [6]]]]
    assert as_labels(opaque, PATH).tolist() == [[[5, 6]]]
    clear = pages(np.array([[[5, top], [6, 0]]], dtype), has_alpha=True)
    for read in (as_image, as_labels):
        with pytest.raises(ValueError, match=r"a\.tif is partly transparent"):
            read(clear, PATH)


def test_pixels_that_are_not_finite_are_counted():
    broken = pages([[0.0, np.nan, np.inf, -np.inf]])
    with pytest.raises(
        ValueError, match=r"a\.tif has 3 of 4 values that are NaN or inf"
    ):
        as_image(broken, PATH)
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"a\.tif has .*{value}"):
            as_labels(pages([[0.0, value]]), PATH)
    assert as_image(pages([[-7.5, 1e9]]), PATH).shape == (1, 1, 2, 1)


def test_rgb_is_a_label_image_only_where_its_channels_are_equal():
    assert as_labels(pages([[[3, 3, 3], [0, 0, 0]]]), PATH).tolist() == [[[3, 0]]]
    with pytest.raises(ValueError, match=r"a\.tif has 3 different channels, expected"):
        as_labels(pages([[[3, 3, 2], [0, 0, 0]]]), PATH)


def test_labels_are_integers_of_32_bits():
    for dtype in (np.int8, np.int64, np.uint32, np.float16, np.float64):
        labels = as_labels(pages(np.array([[0, 1, 100]], dtype)), PATH)
        assert labels.dtype == np.int32
        assert labels.tolist() == [[[0, 1, 100]]]
    assert as_labels(pages([[-1, 2**31 - 1]]), PATH).tolist() == [[[-1, 2**31 - 1]]]
    with pytest.raises(ValueError, match=r"a\.tif has values like 0\.5, expected int"):
        as_labels(pages([[0.0, 0.5]]), PATH)
    with pytest.raises(ValueError, match="labels from 0 to 2147483648, the largest"):
        as_labels(pages([[0, 2**31]]), PATH)
