import numpy as np
import pytest

from unetjax.data import synthetic
from unetjax.data.examples import from_instances
from unetjax.evaluation import shifts


@pytest.fixture
def example():
    return synthetic.touching_cells(0, size=(40, 48), num_cells=4, radius=6.0)


@pytest.mark.parametrize("title", shifts.SHIFTS)
def test_a_shift_changes_the_image_and_keeps_its_annotation(title, example):
    """The type stays but for 8 bits; the size but for other magnifications."""
    shifted = shifts.SHIFTS[title](example)
    if title == "as they are":
        assert shifted is example
        return
    assert (shifted.image.shape, shifted.image.tobytes()) != (
        example.image.shape,
        example.image.tobytes(),
    )
    if title != "8 bits":
        assert shifted.image.dtype == example.image.dtype
    assert shifted.image.shape[:2] == shifted.label.shape == shifted.instances.shape
    if "size" not in title:
        np.testing.assert_array_equal(shifted.instances, example.instances)
        np.testing.assert_array_equal(shifted.label, example.label)


@pytest.mark.parametrize(
    ("title", "factor"), [("half the size", 0.5), ("twice the size", 2.0)]
)
def test_cells_keep_their_place_at_another_magnification(title, factor, example):
    shifted = shifts.SHIFTS[title](example)
    assert set(np.unique(shifted.instances)) == set(np.unique(example.instances))
    for number in np.unique(example.instances):
        before, after = (np.argwhere(x.instances == number) for x in (example, shifted))
        assert len(after) == pytest.approx(factor**2 * len(before), rel=0.2)
        center = factor * (before.mean(0) + 0.5) - 0.5
        np.testing.assert_allclose(after.mean(0), center, atol=1)


def test_noise_is_repeated_and_differs_between_images(example):
    one, again = shifts.noise(example), shifts.noise(example)
    np.testing.assert_array_equal(one.image, again.image)
    other = shifts.noise(example._replace(name="other"))
    assert (one.image != other.image).any()


def test_integers_are_not_wrapped_around():
    image = np.array([[[0], [255]]], np.uint8).repeat(40, 0).repeat(40, 1)
    cells = (image[..., 0] > 0).astype(np.int32)
    noisy = shifts.noise(from_instances(image, cells, "extremes")).image
    assert noisy[image == 255].min() > 128
    assert noisy[image == 0].max() < 128
    inverted = shifts.inverted(from_instances(image, cells, "extremes")).image
    np.testing.assert_array_equal(inverted, 255 - image)
