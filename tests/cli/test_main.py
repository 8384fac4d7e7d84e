"""Every bad input ends in one sentence and exit code 2, and nothing is written."""

import csv
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile

from tests import commands
from unetjax.cli import main
from unetjax.data import synthetic
from unetjax.evaluation import prediction_record
from unetjax.files import images
from unetjax.inference.predict import predict
from unetjax.inference.trained_model import Provenance, TrainedModel
from unetjax.instances.settings import InstanceSettings
from unetjax.metrics.em import EmMetric
from unetjax.model_io import model_folder, openvino
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet


@pytest.fixture
def annotated(tmp_path):
    """Folders of three images and their masks."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(3):
        cells = synthetic.touching_cells(0, i, size=(48, 56), num_cells=4, radius=6.0)
        images.write_image(tmp_path / "images" / f"{i}.tif", cells.image)
        images.write_labels(tmp_path / "masks" / f"{i}.tif", cells.instances)
    return tmp_path


def save_model(folder, seed, names=("background", "cell")):
    """Writes an untrained network, and returns it."""
    unet = UNet(features=2, depth=1, num_classes=len(names))
    params = unet.init(jax.random.key(seed), jnp.zeros((1, 20, 20, 1)), train=False)
    scaling = InputScaling("percentile")
    trained = TrainedModel(
        unet, params["params"], input_scaling=scaling, class_names=names
    )
    model_folder.save_model(folder, trained)
    return trained


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder of an untrained network."""
    folder = tmp_path_factory.mktemp("models") / "model"
    save_model(folder, seed=0)
    return folder


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def refused(capsys, folder, *words):
    """Runs a command that must be refused; returns its one message."""
    before = files(folder)
    assert main.main([str(word) for word in words]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert message.startswith("error: ")
    assert files(folder) == before
    return message


def train(folder, out="model"):
    return ("train", folder / "images", folder / "masks", "--out", folder / out)


def test_mask_missing(capsys, annotated):
    (annotated / "masks" / "1.tif").unlink()
    message = refused(capsys, annotated, *train(annotated))
    assert re.search(r"images/1.tif has no mask: looked for \S*masks/1.tif", message)


def test_sizes_differ(capsys, annotated):
    path = annotated / "masks" / "1.tif"
    path.unlink()
    images.write_labels(path, np.ones((48, 55), np.int32))
    message = refused(capsys, annotated, *train(annotated))
    assert "1.tif" in message
    assert "48x55" in message
    assert "48x56" in message


def test_channels_differ(capsys, annotated):
    path = annotated / "images" / "2.tif"
    path.unlink()
    images.write_image(path, np.zeros((48, 56, 3), np.uint16))
    message = refused(capsys, annotated, *train(annotated))
    assert "channel" in message
    assert "2.tif" in message


@pytest.mark.parametrize("content", [b"", b"not a tiff at all", None])
def test_unreadable_or_truncated_tiff(capsys, annotated, content):
    path = annotated / "images" / "0.tif"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    message = refused(capsys, annotated, *train(annotated))
    assert "images/0.tif" in message


def test_pixels_that_are_nan(capsys, annotated):
    broken = np.zeros((48, 56), np.float32)
    broken[3, 4] = np.nan
    for i in range(3):
        tifffile.imwrite(annotated / "images" / f"{i}.tif", broken)
    message = refused(capsys, annotated, *train(annotated))
    assert "images/0.tif" in message
    assert "NaN" in message


def test_label_values_that_mean_nothing(capsys, annotated):
    for i in range(3):
        path = annotated / "masks" / f"{i}.tif"
        path.unlink()
        mask = np.zeros((48, 56, 1), np.uint8)
        mask[::2, ::3], mask[1::4, 1::3] = 7, 200
        images.write_image(path, mask)
    words = (*train(annotated), "--mask-type", "classes")
    message = refused(capsys, annotated, *words)
    assert "values 0, 7, 200" in message
    assert "--mask-type=instances" in message


def test_out_holds_something_else(capsys, annotated):
    (annotated / "thesis").mkdir()
    (annotated / "thesis" / "chapter.txt").write_text("all of it")
    message = refused(capsys, annotated, *train(annotated, "thesis"))
    assert "thesis holds files and no run of unetjax" in message


def test_predictions_are_never_overwritten(capsys, annotated, model):
    words = ("predict", model, annotated / "images", "--out", annotated / "out")
    assert main.main([str(word) for word in words]) == 0
    assert "0_mask.png" in {path.name for path in (annotated / "out").iterdir()}
    message = refused(capsys, annotated, *words, "--tta", "d4")
    assert "out has results of another model or of other options (tta: " in message
    (annotated / "mine").mkdir()
    (annotated / "mine" / "0_overlay.png").write_text("mine")
    message = refused(capsys, annotated, *words[:-1], annotated / "mine")
    assert "0_overlay.png exists and is not overwritten; name another" in message


def test_models_and_versions_are_averaged(annotated, model):
    """The file holds the mean of the predictions of each model over all symmetries."""
    other = save_model(annotated / "other", seed=1)
    image = annotated / "images" / "0.tif"
    words = ("predict", model, image, "--out", annotated / "out", "--probabilities")
    words += ("--with", annotated / "other", "--tta", "d4")
    assert main.main([str(word) for word in words]) == 0
    expected = np.mean(
        [
            predict(each, images.read_image(image), tta="d4")
            for each in (model_folder.load_model(model), other)
        ],
        axis=0,
    )
    probs = images.read_image(annotated / "out" / "0_probs.tif")
    np.testing.assert_allclose(probs, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [(), ("--dtype", "bfloat16")])
def test_openvino_takes_the_place_of_jax(capsys, annotated, model, dtype):
    """With an error that is no more than that of the numbers it computes in."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    if dtype and "BF16" not in openvino.capabilities():
        pytest.skip("this CPU does not multiply bfloat16")
    probs = {}
    for name, words in {
        "jax": ("--engine", "jax"),
        "openvino": ("--engine", "openvino", *dtype),
    }.items():
        words = ("--out", annotated / name, "--probabilities", *words)
        words = ("predict", model, annotated / "images" / "0.tif", *words)
        assert main.main([str(word) for word in words]) == 0
        probs[name] = images.read_image(annotated / name / "0_probs.tif")
    error = np.abs(probs["openvino"] - probs["jax"]).max()
    assert (0 < error < 1e-5) if not dtype else (1e-4 < error < 0.05)


def test_the_engine_is_chosen_named_and_kept(
    capsys, annotated, model, monkeypatch, tmp_path
):
    """OpenVINO where it is installed, on a CPU; a folder begun with JAX stays so."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")

    def run(out, *options):
        words = ("predict", model, annotated / "images" / "0.tif", "--out", out)
        assert main.main([str(word) for word in (*words, *options)]) == 0
        record = (out / prediction_record.RECORD).read_text().splitlines()[0]
        first_line = capsys.readouterr().out.splitlines()[0]
        return first_line, json.loads(record)["origin"]["engine"]

    assert run(tmp_path / "a") == (
        f"engine: OpenVINO {importlib.metadata.version('openvino')} on the CPU",
        "openvino",
    )
    on_jax = f"engine: JAX {jax.__version__} on the CPU"
    assert run(tmp_path / "b", "--engine", "jax") == (on_jax, "jax")
    assert run(tmp_path / "b") == (on_jax, "jax")
    assert run(tmp_path / "b", "--overwrite")[1] == "openvino"
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert run(tmp_path / "c") == (on_jax, "jax")
    words = ("predict", model, annotated / "images", "--out", tmp_path / "d", "-q")
    assert main.main([str(word) for word in words]) == 0
    printed, problems = capsys.readouterr()
    # The model was hardly trained: nothing but that is said.
    assert [line.partition(" images")[0] for line in printed.splitlines()] in (
        *([], ["warning: 3 of 3"]),
    )
    assert problems == ""


def test_dtype_is_that_of_the_computation(annotated, model):
    words = ("predict", model, annotated / "images" / "0.tif", "--out", annotated / "a")
    words += ("--probabilities", "--dtype", "bfloat16", "--engine", "jax")
    assert main.main([str(word) for word in words]) == 0
    trained = model_folder.load_model(model)
    expected = predict(
        replace(trained, model=trained.model.clone(dtype="bfloat16")),
        images.read_image(annotated / "images" / "0.tif"),
    )
    probs = images.read_image(annotated / "a" / "0_probs.tif")
    np.testing.assert_allclose(probs, expected, atol=1e-6)


def test_absent_engine_is_named_with_the_way_to_it(
    capsys, annotated, model, monkeypatch
):
    monkeypatch.setitem(sys.modules, "openvino", None)
    words = ("predict", model, annotated / "images", "--out", annotated / "out")
    message = refused(capsys, annotated, *words, "--engine", "openvino")
    assert "pip install 'unetjax[openvino]'" in message


def test_models_of_other_classes_are_not_averaged(capsys, annotated, model):
    save_model(annotated / "other", seed=1, names=("background", "nucleus"))
    words = ("predict", model, annotated / "images", "--out", annotated / "out")
    message = refused(capsys, annotated, *words, "--with", annotated / "other")
    assert "background, cell and background, nucleus" in message


def test_classes_that_are_numbered_only_are_averaged_with_named_ones(annotated, model):
    save_model(annotated / "other", seed=1, names=("class 0", "class 1"))
    words = ("predict", model, annotated / "images", "--out", annotated / "out")
    words += ("--with", annotated / "other")
    assert main.main([str(word) for word in words]) == 0


def test_wrong_channel_count_at_prediction(capsys, annotated, model):
    colours = np.zeros((30, 30, 3), np.uint8)
    colours[..., 0] = 9
    images.write_image(annotated / "rgb.tif", colours)
    words = ("predict", model, annotated / "rgb.tif", "--out", annotated / "out")
    message = refused(capsys, annotated, *words)
    assert "rgb.tif is in colour, but the model was trained on grey images" in message


def test_no_such_image(capsys, annotated, model):
    words = ("predict", model, annotated / "none.tif", "--out", annotated / "out")
    assert "none.tif does not exist; name images" in refused(capsys, annotated, *words)


def test_two_images_of_one_name(capsys, annotated, model):
    (annotated / "more").mkdir()
    images.write_image(annotated / "more" / "0.png", np.zeros((9, 9, 1), np.uint8))
    words = ("predict", model, annotated / "images", annotated / "more")
    assert main.main([*map(str, words), "--out", str(annotated / "out")]) == 0
    written = {path.name for path in (annotated / "out").glob("*_mask.png")}
    assert written == {"0_png_mask.png", "0_tif_mask.png", "1_mask.png", "2_mask.png"}


def predict_all(model, folder, *words):
    """Status of `unetjax predict` of a folder, and what it wrote."""
    command = ("predict", model, folder, "--out", folder / "out", *words)
    status = main.main([str(word) for word in command])
    found = (folder / "out").glob("*_labels.tif")
    return status, {path.name: images.read_label_stack(path) for path in found}


def test_one_broken_file_stops_nothing(capsys, tmp_path, model):
    grey = np.random.default_rng(0).integers(0, 99, (24, 28), np.uint8)
    for name in "abc":
        tifffile.imwrite(tmp_path / f"{name}.tif", grey)
    whole = (tmp_path / "b.tif").read_bytes()
    (tmp_path / "b.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "._a.tif").write_bytes(b"of macOS")
    (tmp_path / "d.oib").write_bytes(b"ZISRAWFILE")
    status, found = predict_all(model, tmp_path, "--instances")
    printed = capsys.readouterr()
    assert status == 1
    assert found.keys() == {"a_labels.tif", "c_labels.tif"}
    assert "error: " in printed.err.splitlines()[-1]
    assert "b.tif" in printed.err.splitlines()[-1]
    assert "2 images segmented" in printed.out
    assert "1 file is not segmented: d.oib (a microscope's own format" in printed.out
    (tmp_path / "b.tif").write_bytes(whole)
    status, found = predict_all(model, tmp_path, "--instances")
    assert (status, len(found)) == (0, 3)
    assert "3 images segmented" in (printed := capsys.readouterr().out)
    assert "2 of them before" in printed


def test_a_stack_is_segmented_section_by_section(capsys, tmp_path, model):
    stack = np.random.default_rng(0).integers(0, 99, (2, 3, 24, 28), np.uint8)
    how = {"imagej": True, "metadata": {"axes": "TZYX", "unit": "um"}}
    how["resolution"] = (4, 4)
    tifffile.imwrite(tmp_path / "s.tif", stack, **how)
    tifffile.imwrite(tmp_path / "p.tif", stack[1, 0])
    status, found = predict_all(model, tmp_path, "--instances", "--probabilities")
    assert status == 0
    assert found["s_labels.tif"].shape == (6, 24, 28)
    with tifffile.TiffFile(tmp_path / "out" / "s_labels.tif") as file:
        assert file.series[0].axes == "TZYX"
        assert file.imagej_metadata["unit"] == "um"
        assert file.pages[0].tags[282].value == (4, 1)
    np.testing.assert_array_equal(found["s_labels.tif"][3], found["p_labels.tif"][0])
    assert images.read_stack(tmp_path / "out" / "s_probs.tif").shape == (6, 24, 28, 2)
    assert images.read_stack(tmp_path / "out" / "s_overlay.tif").shape[-1] == 3
    shutil.rmtree(tmp_path / "out")
    assert predict_all(model, tmp_path)[0] == 0
    assert len(images.read_label_stack(tmp_path / "out" / "s_mask.tif")) == 6


def test_every_object_is_measured(tmp_path, model):
    """In pixels and in the unit of the file, page by page, as the labels show them."""
    stack = np.random.default_rng(0).integers(0, 99, (2, 24, 28), np.uint8)
    how = {"imagej": True, "resolution": (2, 2)}
    how["metadata"] = {"axes": "ZYX", "unit": "um"}
    tifffile.imwrite(tmp_path / "s.tif", stack, **how)
    trained = model_folder.load_model(model)
    threshold = float(np.quantile(predict(trained, stack[0])[..., 1], 0.6))
    other = replace(trained, instances=InstanceSettings(threshold=threshold))
    model_folder.save_model(tmp_path / "m", other)
    _, found = predict_all(tmp_path / "m", tmp_path, "--instances", "--table")
    labels = found["s_labels.tif"]
    with (tmp_path / "out" / "s_objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [(page, int(i)) for page in (0, 1) for i in np.unique(labels[page])[1:]]
    assert [(int(row["page"]), int(row["id"])) for row in rows] == expected
    assert rows
    for row in rows:
        pixels = labels[int(row["page"])] == int(row["id"])
        assert float(row["area"]) == np.count_nonzero(pixels)
        assert float(row["area_um2"]) == np.count_nonzero(pixels) / 4
        mean = stack[int(row["page"])][pixels].mean()
        assert float(row["mean_0"]) == pytest.approx(mean)
        assert threshold < float(row["confidence"]) <= 1


def test_grey_values_may_be_stored_as_colours(tmp_path, model):
    grey = np.random.default_rng(0).integers(0, 99, (24, 28, 1), np.uint8)
    images.write_image(tmp_path / "a.png", grey)
    images.write_image(tmp_path / "b.png", np.repeat(grey, 3, axis=-1))
    status, found = predict_all(model, tmp_path, "--instances")
    assert status == 0
    np.testing.assert_array_equal(found["a_labels.tif"], found["b_labels.tif"])


def test_numbered_cells_are_written_by_default_if_they_were_learned(tmp_path, model):
    """What is written is what was scored."""
    trained = model_folder.load_model(model)
    provenance = Provenance(config={"tune_instances": True})
    other = replace(trained, provenance=provenance)
    model_folder.save_model(tmp_path / "cells", other)
    (tmp_path / "i").mkdir()
    grey = np.random.default_rng(0).integers(0, 99, (24, 28, 1), np.uint8)
    images.write_image(tmp_path / "i" / "a.png", grey)
    _, found = predict_all(tmp_path / "cells", tmp_path / "i")
    assert found.keys() == {"a_labels.tif"}
    shutil.rmtree(tmp_path / "i" / "out")
    _, found = predict_all(tmp_path / "cells", tmp_path / "i", "--masks")
    assert not found
    assert (tmp_path / "i" / "out" / "a_mask.png").exists()


@pytest.mark.parametrize("name", ["weights.npz", "model.json"])
def test_damaged_model(capsys, annotated, model, tmp_path, name):
    copy = tmp_path / "damaged"
    shutil.copytree(model, copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    words = ("predict", copy, annotated / "images", "--out", annotated / "out")
    assert name in refused(capsys, annotated, *words)


def test_no_model(capsys, annotated):
    words = ("predict", annotated, annotated / "images", "--out", annotated / "out")
    assert str(annotated) in refused(capsys, annotated, *words)


def test_prediction_of_another_size_is_not_scored(capsys, annotated):
    (annotated / "found").mkdir()
    for i in range(3):
        path = annotated / "found" / f"{i}_labels.tif"
        images.write_labels(path, np.ones((40, 56), np.int32))
    words = ("evaluate", annotated / "found", annotated / "masks")
    message = refused(capsys, annotated, *words)
    assert "0_labels.tif has 40x56 pixels, and its truth 0.tif has 48x56" in message


def test_check_lists_all_problems(capsys, annotated):
    (annotated / "masks" / "0.tif").unlink()
    (annotated / "images" / "1.tif").write_bytes(b"")
    words = ("check", annotated / "images", annotated / "masks")
    assert main.main([str(word) for word in words]) == 2
    printed = capsys.readouterr().out
    assert "images/0.tif has no mask" in printed
    assert "images/1.tif is empty" in printed


def test_check_says_what_it_understood(capsys, annotated):
    words = ("check", annotated / "images", annotated / "masks")
    assert main.main([str(word) for word in words]) == 0
    printed = capsys.readouterr().out
    assert "3 images 48x56 uint16, 1 channel; masks: numbered cells" in printed


def test_evaluate_finds_the_truth_perfect(capsys, annotated):
    shutil.copytree(annotated / "masks", annotated / "found")
    words = ["evaluate", str(annotated / "found"), str(annotated / "masks")]
    assert main.main(words) == 0
    printed = capsys.readouterr().out
    assert re.search(r"AP at IoU 0.5 +1.00$", printed, re.MULTILINE)


def test_evaluate_as_in_the_tracking_challenge(capsys, annotated):
    shutil.copytree(annotated / "masks", annotated / "found")
    words = ["evaluate", str(annotated / "found"), str(annotated / "masks")]
    assert main.main([*words, "--scores", "tracking"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"0.tif +1.00 +1.00 +1.00$", printed, re.MULTILINE)
    assert re.search(r"OP_CSB +1.00$", printed, re.MULTILINE)


@pytest.fixture
def membranes(annotated):
    """The same cells as masks of 0 and 255."""
    (annotated / "membranes").mkdir()
    for i in range(3):
        cells = images.read_labels(annotated / "masks" / f"{i}.tif")
        mask = np.where(cells > 0, 255, 0).astype(np.uint8)
        images.write_image(annotated / "membranes" / f"{i}.tif", mask[..., None])
    return annotated


def test_evaluate_probabilities_of_membranes(capsys, membranes, model):
    """What predict writes is read back; cell everywhere stands beside it."""
    words = ("predict", model, membranes / "images", "--out", membranes / "out")
    assert main.main([*map(str, words), "--probabilities"]) == 0
    words = ("evaluate", membranes / "out", membranes / "membranes", "--scores", "em")
    assert main.main([*map(str, words)]) == 0
    printed = capsys.readouterr().out
    probs = images.read_image(membranes / "out" / "0_probs.tif")
    assert probs.shape == (48, 56, 2)
    label = images.read_labels(membranes / "membranes" / "0.tif") // 255
    expected = EmMetric.from_image(label, probs[..., 1]).compute()
    line = re.search(r"^ *0.tif +0_probs.tif (.*)$", printed, re.MULTILINE)[1].split()
    names = ("v_rand", "v_info", "warping_error", "rand_error", "pixel_error")
    for text, name in zip(line, names, strict=True):
        assert float(text) == pytest.approx(expected[name], abs=5e-3)
    assert "cell everywhere" in printed


def test_a_mask_is_a_probability_of_0_and_1(capsys, membranes):
    shutil.copytree(membranes / "membranes", membranes / "found")
    words = ("evaluate", membranes / "found", membranes / "membranes")
    assert main.main([*map(str, words), "--scores", "em"]) == 0
    line = r"warping error +0(\.0+)? +0\.[0-9]*[1-9][0-9]*$"
    assert re.search(line, capsys.readouterr().out, re.MULTILINE)


def test_membranes_are_not_numbered_cells(capsys, membranes):
    words = ("evaluate", membranes / "membranes", membranes / "masks")
    message = refused(capsys, membranes, *words, "--scores", "em")
    assert "masks has numbered cells, but --scores em compares membranes" in message


def test_grey_values_are_no_probabilities(capsys, membranes):
    grey = np.arange(48 * 56, dtype=np.uint8).reshape(48, 56, 1)
    images.write_image(membranes / "grey_probs.tif", grey)
    words = ("evaluate", membranes / "grey_probs.tif", membranes / "membranes/0.tif")
    message = refused(capsys, membranes, *words, "--scores", "em")
    assert "grey_probs.tif has 256 integers up to 255, neither" in message


@pytest.mark.parametrize("words", [[], ["segment"], ["train"], ["demo", "--step"]])
def test_usage_errors(words):
    assert main.main([*words, "--nonsense"]) == 2


def test_help_of_every_command(capsys):
    for command in ("demo", "check", "train", "predict", "evaluate", "info", "export"):
        assert main.main([command, "--help"]) == 0
        assert len(capsys.readouterr().out) > 200


def test_closed_output_ends_without_traceback(annotated):
    """As with `unetjax check ... | head -0`."""
    read, write = os.pipe()
    os.close(read)
    args = ("check", annotated / "images", annotated / "masks")
    done = commands.run_program("unetjax", *args, stdout=write)
    os.close(write)
    assert "Traceback" not in done.stderr
    assert done.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "there is no command 'trian'; did you mean train?"),
        (
            ["segment"],
            "'segment'; accepted are demo, check, train, predict, view, evaluate, ",
        ),
        # Required arguments are missing as well: the misspelt one may be one of them.
        (["train", "--otu", "a"], "there is no option '--otu'; did you mean --out?"),
        (["predict"], "the following arguments are required: "),
    ],
)
def test_misspelt_words_are_answered_with_the_nearest(capsys, tmp_path, words, message):
    assert message in refused(capsys, tmp_path, *words)
