"""Test-time augmentation, checked with networks whose result is known."""

from typing import get_args

import numpy as np
import pytest
from scipy import ndimage

from unetjax.inference import tta
from unetjax.inference.predict import predict
from unetjax.inference.trained_model import TrainedModel
from unetjax.inference.tta import TTA, Transform
from unetjax.network.unet import UNet

D4 = [(k, mirrored) for mirrored in (False, True) for k in range(4)]


def random_image(height, width, channels=1):
    return np.random.default_rng(0).random((height, width, channels), np.float32)


@pytest.fixture(scope="module")
def network(make_variables):
    """A function from an image and options to the prediction of one small network."""
    model = UNet(features=2, depth=1)
    return TrainedModel(model, make_variables(model)["params"]).predict


@pytest.fixture(scope="module")
def pixelwise(make_variables):
    """The same for a network of 1x1 convolutions without a pooling."""
    model = UNet(features=2, depth=0, kernel_size=1)
    return TrainedModel(model, make_variables(model)["params"]).predict


@pytest.mark.parametrize("kind", ["rot90", "d4"])
@pytest.mark.parametrize("size", [(20, 20), (17, 30)])
def test_pixelwise_function_is_unchanged_bit_for_bit(pixelwise, kind, size):
    """P17. Any interpolation or misplaced pixel shows."""
    image = random_image(*size)
    alone = pixelwise(image, batch_size=1)
    assert alone.std() > 0.01
    np.testing.assert_array_equal(pixelwise(image, tta=kind), alone)


@pytest.mark.parametrize("kind", get_args(TTA))
def test_probabilities_sum_to_one(network, kind):
    """P17, and the size of the image is kept."""
    probs = network(random_image(17, 30), tta=kind)
    assert probs.shape == (17, 30, 2)
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(axis=-1), 1, atol=1e-6)


def test_d4_is_the_mean_of_all_symmetries(network):
    """Each transformation applied and inverted by NumPy alone."""
    image = random_image(17, 30)
    expected = np.zeros((17, 30, 2))
    for k, mirrored in D4:
        transformed = np.rot90(image[:, ::-1] if mirrored else image, k)
        probs = np.rot90(network(transformed), -k)
        expected += (probs[:, ::-1] if mirrored else probs) / 8
    averaged = network(image, tta="d4")
    np.testing.assert_allclose(averaged, expected, atol=1e-6)
    assert np.abs(averaged - network(image)).max() > 1e-3


@pytest.mark.parametrize(("k", "mirrored"), D4)
def test_d4_does_not_know_how_the_image_lies(network, k, mirrored):
    def lay(array):
        return np.rot90(array[:, ::-1] if mirrored else array, k)

    image = random_image(18, 25)
    np.testing.assert_allclose(
        network(lay(image), tta="d4"),
        lay(network(image, tta="d4")),
        atol=1e-5,
    )


@pytest.mark.parametrize("kind", get_args(TTA))
@pytest.mark.parametrize("size", [(1, 1), (40, 1), (24, 31)])
def test_every_transform_is_inverted(kind, size):
    """A smooth image comes back: exactly, or blurred a little by interpolation."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    # Level at the border, where a mirror would make a kink of any slope.
    waves = [np.cos(np.pi * x / max(x.max(), 1)) for x in (rows, columns)]
    image = np.stack(waves, axis=-1)
    for transform in tta.transforms(kind):
        transformed = tta.apply(transform, image)
        assert transformed.shape[:2] == tta.transformed_shape(transform, *size)
        back = tta.invert(transform, transformed, *size)
        atol = 0 if transform.angle % 90 == 0 else 0.02
        np.testing.assert_allclose(back, image, atol=atol)


def test_rot7_keeps_a_pixelwise_function_up_to_interpolation(
    pixelwise,
):
    rows, columns = np.mgrid[:40, :31].astype(np.float32)
    image = 0.5 + 0.25 * (np.sin(rows / 8) + np.cos(columns / 9))
    np.testing.assert_allclose(
        pixelwise(image, tta="rot7"), pixelwise(image), atol=0.01
    )
    flat = np.full_like(image, 0.3)  # of the same shape: all programs are there
    np.testing.assert_allclose(pixelwise(flat, tta="rot7"), pixelwise(flat), atol=1e-6)


def test_any_angle_is_the_library_rotation():
    """SciPy's, about the centres of image and bounding box."""
    image = random_image(30, 21)
    transform = Transform(360 / 7)
    transformed = tta.apply(transform, image)
    angle = np.deg2rad(transform.angle)
    matrix = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    centers = [(np.array(x.shape[:2]) - 1) / 2 for x in (image, transformed)]
    expected = ndimage.affine_transform(
        image[..., 0],
        matrix,
        offset=centers[0] - matrix @ centers[1],
        output_shape=transformed.shape[:2],
        order=1,
        mode="mirror",
    )
    np.testing.assert_allclose(transformed[..., 0], expected, atol=1e-4)


def test_rotation_is_counter_clockwise_for_all_angles():
    """The interpolated path agrees with the exact one next to a right angle."""
    image = random_image(30, 21)
    almost = tta.apply(Transform(90 + 1e-7), image)
    right = tta.apply(Transform(90.0), image)
    np.testing.assert_allclose(almost, right, atol=1e-4)


def test_right_angles_move_values_of_any_type():
    image = np.arange(6, dtype=np.uint16).reshape(2, 3, 1)
    for transform in tta.transforms("d4"):
        transformed = tta.apply(transform, image)
        assert transformed.dtype == np.uint16
        np.testing.assert_array_equal(tta.invert(transform, transformed, 2, 3), image)


def test_the_eight_transforms_differ():
    image = np.arange(9.0).reshape(3, 3, 1)
    transformed = {tta.apply(v, image).tobytes() for v in tta.transforms("d4")}
    assert len(transformed) == 8


def test_mean_over_models_is_that_of_their_predictions():
    predictions = [random_image(4, 5, 3) + i for i in range(5)]
    mean = tta.mean(iter(predictions))
    np.testing.assert_allclose(mean, np.mean(predictions, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(predictions[0], random_image(4, 5, 3))  # untouched


def test_equal_predictions_are_retransformed_bit_for_bit():
    probs = random_image(4, 5, 3) / 3
    np.testing.assert_array_equal(tta.mean([probs] * 7), probs)


def test_no_prediction_is_refused():
    with pytest.raises(ValueError, match="no prediction to average; give at least one"):
        tta.mean([])


@pytest.mark.parametrize("kind", get_args(TTA))
def test_progress_counts_the_tiles_of_all_transforms(network, kind):
    seen = []
    network(
        random_image(30, 21),
        tta=kind,
        tile_size=26,
        batch_size=2,
        progress=lambda *args: seen.append(args),
    )
    done, totals = zip(*seen, strict=True)
    assert list(done) == sorted(set(done))
    assert set(totals) == {done[-1]}
    assert done[-1] >= 6 * len(tta.transforms(kind))


@pytest.mark.usefixtures("as_installed")
def test_refusals(network):
    with pytest.raises(ValueError, match="one of none, rot90, d4, rot7, got 'd8'"):
        network(random_image(9, 9), tta="d8")
    with pytest.raises(ValueError, match="averages probabilities, got softmax False"):
        network(random_image(9, 9), tta="d4", softmax=False)
    with pytest.raises(
        ValueError, match="'rot7' needs the pixels around the image, go"
    ):
        network(random_image(40, 40), tta="rot7", crop="valid")


def test_valid_crop_is_the_centre(network):
    """What sees no mirrored pixel is the same in both crops, averaged or not."""
    image = random_image(24, 31)
    whole = network(image, tta="d4")
    valid = network(image, tta="d4", crop="valid")
    np.testing.assert_allclose(valid, whole[8:-8, 8:-8], atol=1e-5)


def test_no_second_program_for_square_images(make_variables):
    """All transformations of a square image run the program of the first."""
    model = UNet(features=3, depth=1)
    trained = TrainedModel(model, make_variables(model)["params"])
    image = random_image(20, 20)
    predict(trained, image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unetjax.inference.predict.forward", None)  # no tracing any more
        predict(trained, image, tta="d4")
