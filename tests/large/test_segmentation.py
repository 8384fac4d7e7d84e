"""Images that are predicted by blocks: equal to one pass, resumed, bounded."""

import dataclasses
import json

import numpy as np
import pytest

from unetjax.inference.predict import predict
from unetjax.inference.segment import segment
from unetjax.inference.trained_model import TrainedModel
from unetjax.instances.settings import InstanceSettings
from unetjax.large import arrays, segmentation
from unetjax.large.segmentation import segment_large
from unetjax.large.sources import Source
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet

SHAPE = (83, 118)
EVERYTHING = (slice(0, SHAPE[0]), slice(0, SHAPE[1]))


@pytest.fixture(scope="module")
def trained(make_variables):
    model = UNet(features=2, depth=2, padding="SAME", target="distances")
    return TrainedModel(
        model,
        make_variables(model)["params"],
        input_scaling=InputScaling("percentile"),
        instances=InstanceSettings(threshold=0.6, min_size=3),
    )


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 4000, (*SHAPE, 1)).astype(np.uint16)


def source_of(image, log=None):
    def read(rows, columns):
        if log is not None:
            log.append((rows, columns))
        return image[rows, columns]

    return Source(*image.shape[:2], read)


def pixels(part):
    return (part[0].stop - part[0].start) * (part[1].stop - part[1].start)


@pytest.mark.parametrize("block_size", [16, 60, 128])
def test_it_is_the_segmentation_of_the_whole_image(
    tmp_path, trained, image, block_size
):
    found = segment_large(
        trained, source_of(image), tmp_path / "a", block_size=block_size
    )
    whole = segment(trained, image)
    outputs = predict(trained, image, maps=True)
    np.testing.assert_allclose(found.outputs.read(), outputs, atol=1e-5)
    is_sure = np.abs(np.diff(outputs[..., :2])[..., 0]) > 1e-4
    label = found.read_label(*EVERYTHING)
    np.testing.assert_array_equal(label[is_sure], whole.label[is_sure])
    assert found.num_instances == whole.instances.max() > 1
    cells = found.read_instances(*EVERYTHING)
    pairs = np.unique(np.stack([cells.ravel(), whole.instances.ravel()]), axis=1)
    assert pairs.shape[1] == found.num_instances + 1


@pytest.mark.slow
def test_averages_over_transformations_have_no_seams(tmp_path, trained, image):
    square = image[:80, :112]  # sides are multiples of the period
    found = segment_large(
        *(trained, source_of(square), tmp_path / "a"), tta="d4", block_size=16
    )
    expected = predict(trained, square, tta="d4", maps=True)
    np.testing.assert_allclose(found.outputs.read(), expected, atol=1e-5)


def test_models_are_averaged_each_with_its_own_scaling(tmp_path, trained, image):
    other = dataclasses.replace(trained, input_scaling=InputScaling("zscore"))
    found = segment_large(
        *(trained, source_of(image), tmp_path / "a"), others=[other], block_size=60
    )
    each = [predict(model, image, maps=True) for model in (trained, other)]
    np.testing.assert_allclose(found.outputs.read(), sum(each) / 2, atol=1e-5)


def test_only_a_block_and_its_context_is_read_at_once(tmp_path, trained, image):
    log = []
    segment_large(trained, source_of(image, log), tmp_path / "a", block_size=16)
    margin = trained.model.geometry.margin
    whole_image = [SHAPE]  # its digest is taken in blocks of the usual size
    most = max(pixels(part) for part in log[len(whole_image) :])
    assert most <= (16 + 2 * margin) ** 2


def test_an_interrupted_segmentation_is_resumed(tmp_path, trained, image):
    def stop_after(count):
        def engine(batch):
            calls.append(1)
            if len(calls) > count:
                raise KeyboardInterrupt
            return real(batch)

        return engine

    calls, real = [], segmentation.predict.jax_engine(trained)
    options = {"block_size": 60, "origin": {"model": "a"}}
    with pytest.raises(KeyboardInterrupt):
        segment_large(
            *(trained, source_of(image), tmp_path / "a"),
            engines=[stop_after(2)],
            **options,
        )
    with (tmp_path / "a" / "done.jsonl").open("a") as file:
        file.write("3")  # half a line
    calls.clear()
    found = segment_large(
        *(trained, source_of(image), tmp_path / "a"),
        engines=[stop_after(100)],
        **options,
    )
    assert len(calls) == 2
    undisturbed = segment_large(trained, source_of(image), tmp_path / "b", **options)
    np.testing.assert_array_equal(found.outputs.read(), undisturbed.outputs.read())
    assert (tmp_path / "a" / "done.jsonl").read_text() == "0\n1\n2\n3\n"


@pytest.mark.parametrize("change", ["image", "model"])
def test_blocks_of_another_image_or_model_are_refused(tmp_path, trained, image, change):
    segment_large(
        *(trained, source_of(image), tmp_path / "a"),
        origin={"model": "a"},
        block_size=60,
    )
    other = image + 1 if change == "image" else image
    origin = {"model": "b" if change == "model" else "a"}
    with pytest.raises(ValueError, match=f"of another image .*{change}: .*, now "):
        segment_large(
            *(trained, source_of(other), tmp_path / "a"), origin=origin, block_size=60
        )
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["model"] == "a"


def test_a_rotation_of_the_whole_image_is_refused(tmp_path, trained, image):
    with pytest.raises(ValueError, match="'rot7' rotates the whole image"):
        segment_large(trained, source_of(image), tmp_path / "a", tta="rot7")


@pytest.fixture
def one_block_to_go(tmp_path, trained, image, monkeypatch):
    """The outputs of a segmentation that was killed while its last block was written.

    Blocks have the size of a chunk, 4 of them in all.
    """
    monkeypatch.setattr(segmentation, "CHUNK", 64)
    folder = tmp_path / "a"
    segment_large(trained, source_of(image), folder, block_size=64)
    (folder / "done.jsonl").write_text("0\n1\n2\n")
    return folder


def chunk(folder, row, column):
    (found,) = (folder / "outputs").glob(f"c/{row}/{column}/0")
    return found


@pytest.mark.parametrize("damage", [b"", b"torn"])
def test_a_torn_chunk_is_written_anew(one_block_to_go, trained, image, damage):
    folder = one_block_to_go
    before = arrays.open_array(folder / "outputs").crop(*SHAPE).read()
    chunk(folder, 1, 1).write_bytes(damage)
    found = segment_large(trained, source_of(image), folder, block_size=64)
    np.testing.assert_array_equal(found.outputs.read(), before)


def test_a_flipped_bit_is_noticed(one_block_to_go, trained, image):
    path = chunk(one_block_to_go, 0, 0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"outputs is damaged .* delete this folder"):
        segment_large(trained, source_of(image), one_block_to_go, block_size=64)
