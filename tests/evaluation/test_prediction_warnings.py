"""Results that should not be trusted are named, with the remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile

from unetjax.cli import main
from unetjax.evaluation.prediction_warnings import PredictionWarnings, pixel_sizes
from unetjax.files.pages import Metadata
from unetjax.inference import image_statistics
from unetjax.inference.segment import Segmentation
from unetjax.inference.trained_model import Provenance, TrainedModel
from unetjax.model_io import model_folder
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet

IMAGE = (np.arange(1600) ** 3 // 70_000).astype(np.uint16).reshape(1, 40, 40, 1)


def make(pixel_size=0.5, bias=(5, -5)):
    """A model that finds nothing, by the bias of its classes."""
    model, scaling = UNet(features=2, depth=1), InputScaling("percentile")

    def init():
        return model.init(jax.random.key(0), jnp.zeros((1, 20, 20, 1)), train=False)

    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), jax.eval_shape(init))
    params = params["params"]
    params["head"]["bias"] = jnp.array(bias, jnp.float32)
    images = image_statistics.measure(IMAGE, scaling, pixel_size=pixel_size)
    provenance = Provenance(images=images, image_dtype="uint16")
    return TrainedModel(
        model,
        params,
        input_scaling=scaling,
        object_diameter=8.0,
        provenance=provenance,
    )


def segmentation(side, count=6):
    """Squares in a row, numbered."""
    instances = np.zeros((40, 200), np.int32)
    for i in range(count):
        instances[1 : 1 + side, 30 * i : 30 * i + side] = i + 1
    label = (instances > 0).astype(np.int32)
    return Segmentation(np.stack([1.0 - label, label], -1), label, instances)


def sentences(prediction, *, image=IMAGE, scale=1.0, numbers_cells=True):
    odd = PredictionWarnings(make(), numbers_cells=numbers_cells, scale=scale)
    odd.inspect("a.tif", image, [prediction])
    odd.inspect("b.tif", IMAGE, [segmentation(7)])
    return odd.sentences()


def test_a_usual_result_is_not_reported():
    assert sentences(segmentation(7)) == []


def test_nothing_and_everything_are_reported():
    (empty,) = sentences(segmentation(0))
    assert empty.startswith("1 of 2 images has no foreground in the result: a.tif; ")
    full = np.ones((40, 40), np.int32)
    (all_of_it,) = sentences(Segmentation(np.stack([full, full], -1), full, full))
    assert "nothing but foreground in the result: a.tif; compare" in all_of_it


def test_objects_of_another_size_are_reported():
    (text,) = sentences(segmentation(20))
    assert "another size than those learned: a.tif (22.6 pixels wide, 8 in tr" in text
    assert "use --scale auto" in text
    assert sentences(segmentation(20), scale="auto") == []
    assert sentences(segmentation(20), numbers_cells=False) == []
    assert sentences(segmentation(20, count=3)) == []  # too few to tell
    # Found in an image that was reduced to a third: as large as those learned.
    odd = PredictionWarnings(make(), numbers_cells=True, scale=1 / 3)
    odd.inspect("a.tif", IMAGE, [segmentation(20)])
    assert odd.sentences() == []


def test_grey_values_unlike_those_of_training_are_reported():
    (text,) = sentences(segmentation(7), image=IMAGE.max() - IMAGE)
    assert text.startswith("1 of 2 images has grey values far from those of the")
    assert "a.tif (median at 0.8" in text


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        (1.0, 1.0, "use --scale 2,"),
        (0.25, 1.0, "use --scale 0.5,"),
        (1.0, 2.0, ""),
        (0.55, 1.0, ""),
        (None, 1.0, ""),
        (1.0, "auto", ""),
    ],
)
def test_pixels_of_another_size_have_a_factor(size, scale, expected):
    metadata = Metadata(pixel_size=size and (size, size), unit="um" if size else "")
    text = pixel_sizes([("a.tif", metadata)], make(), scale)
    assert expected in text
    assert bool(text) == bool(expected)
    assert pixel_sizes([("a.tif", metadata)], make(pixel_size=None), scale) == ""


def test_the_command_warns_after_reading_the_model_again(tmp_path, capsys):
    model_folder.save_model(tmp_path / "model", make())
    tifffile.imwrite(
        tmp_path / "a.tif",
        IMAGE[0, ..., 0],
        imagej=True,
        resolution=(1, 1),
        metadata={"unit": "um"},
    )
    argv = ["predict", str(tmp_path / "model"), str(tmp_path / "a.tif")]
    assert main.main([*argv, "--out", str(tmp_path / "out"), "-q"]) == 0
    printed = capsys.readouterr().out
    assert "1 of 1 images has other pixels than the training images" in printed
    assert "a.tif (1 um); use --scale 2" in printed
    assert "1 of 1 images has no foreground in the result: a; nothing was" in printed
