import numpy as np
import pytest

from unetjax.files import images

GREY = np.arange(30, dtype=">u2").reshape(5, 6)


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (GREY, (1, 5, 6, 1)),
        (np.stack([GREY, GREY, GREY], axis=-1), (1, 5, 6, 3)),
        (np.stack([GREY] * 3), (3, 5, 6, 1)),
        (GREY > 3, (1, 5, 6, 1)),
    ],
)
def test_arrays_are_images_or_sequences_of_them(tmp_path, array, shape):
    np.save(tmp_path / "a.npy", array)
    stack = images.read_stack(tmp_path / "a.npy")
    assert stack.shape == shape
    np.testing.assert_array_equal(stack.ravel(), array.ravel())
    assert stack.dtype == (np.uint8 if array.dtype == bool else np.uint16)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array({"masks": 1}), "a.npy cannot be read as an array .it holds Python"),
        (np.zeros((2, 3, 4, 5)), "a.npy has an array of shape 2x3x4x5; accepted are"),
        (np.zeros(5), "a.npy has an array of shape 5; accepted are"),
        (np.zeros((2, 2), complex), "a.npy has values of type complex128"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        images.read_stack(tmp_path / "a.npy")


def test_a_cut_array_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"a\.npy cannot be read as an array"):
        images.read_stack(tmp_path / "a.npy")
