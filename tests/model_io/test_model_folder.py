"""What is loaded must be what was saved, or be refused in one sentence."""

import errno
import functools
import json
import pathlib
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.files import manifests
from unetjax.inference.trained_model import Provenance, TrainedModel
from unetjax.instances.settings import InstanceSettings
from unetjax.model_io.model_folder import load_model, read_provenance, save_model
from unetjax.network import presets
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet

FILES = ["README.md", "manifest.json", "model.json", "weights.npz"]


def make_trained(model=None, channels=1):
    """A network with random variables, made without compiling an initialiser."""
    model = UNet(features=2, depth=1) if model is None else model
    side = 32 if model.padding == "SAME" else 60
    image = jnp.zeros((1, side, side, channels))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.random(leaf.shape, np.float32),
        jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False)),
    )
    return TrainedModel(
        model=model,
        params=variables.pop("params"),
        model_state=variables,
        input_scaling=InputScaling("percentile", (None, 5.0)),
        class_names=("background", "cell"),
        instances=InstanceSettings(threshold=0.4, min_size=3),
        provenance=Provenance(
            step=7,
            scores={"iou": 0.91234, "ap": None},
            num_train_images=4,
            image_dtype="uint8",
            config={"seed": 3},
            instances_chosen="among 60",
            trial="lr=1",
            notes="by hand",
        ),
    )


def rewrite(folder, edit):
    """Changes model.json as a person might, with a manifest that fits."""
    fields = json.loads((folder / "model.json").read_text())
    edit(fields)
    (folder / "model.json").write_text(json.dumps(fields))
    manifests.write_manifest(folder)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.*")}


@pytest.fixture
def folder(tmp_path):
    save_model(tmp_path / "cells", make_trained())
    return tmp_path / "cells"


@pytest.mark.parametrize(
    "model",
    [
        UNet(features=2, depth=1, padding="SAME", dtype="bfloat16"),
        UNet(features=2, depth=0, kernel_size=5),
        UNet(features=2, depth=1, norm="batch"),
        presets.tf_unet().clone(features=2),
        presets.falk2019().clone(features=1, depth=2),
    ],
)
def test_what_is_loaded_is_what_was_saved(tmp_path, model):
    trained = make_trained(model, channels=3)
    save_model(tmp_path / "cells", trained)
    loaded = load_model(str(tmp_path / "cells"))
    old, new = vars(trained), vars(loaded)
    for name in ("params", "model_state"):
        jax.tree.map(np.testing.assert_array_equal, new.pop(name), old.pop(name))
    assert new == old
    assert read_provenance(tmp_path / "cells" / "model.json") == trained.provenance


def test_arrays_of_any_memory_order_are_read_back(tmp_path):
    trained = make_trained()
    params = jax.tree.map(np.asfortranarray, trained.params)
    save_model(tmp_path / "cells", replace(trained, params=params))
    loaded = load_model(tmp_path / "cells").params
    jax.tree.map(np.testing.assert_array_equal, loaded, trained.params)


def test_dtype_objects_are_saved_by_name(tmp_path):
    save_model(
        tmp_path / "cells", make_trained(UNet(features=2, depth=1, dtype=jnp.bfloat16))
    )
    assert load_model(tmp_path / "cells").model.dtype == "bfloat16"


def test_neither_clip_nor_batch_statistics_are_lost(tmp_path):
    """A loaded model must scale, clip and normalise as the one that was trained."""
    trained = make_trained(UNet(features=2, depth=1, norm="batch"))
    save_model(tmp_path / "cells", trained)
    image = 10 * np.random.default_rng(1).random((36, 36, 1), np.float32)
    clipped = np.minimum(image, 5.0)
    low, high = np.percentile(clipped, (1, 99.8))
    pixels = ((clipped - low) / (high - low)).astype(np.float32)
    variables = {"params": trained.params, **trained.model_state}
    apply = jax.jit(functools.partial(trained.model.apply, train=False))
    expected = jax.nn.softmax(apply(variables, pixels[np.newaxis])[0])
    loaded = load_model(tmp_path / "cells")
    actual = loaded.predict(image, crop="valid")
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    np.testing.assert_array_equal(loaded.segment(image).probs[8:-8, 8:-8], actual)


def test_files_and_array_names(folder):
    """Others read these files without unetjax: their names are a promise."""
    assert sorted(path.name for path in folder.iterdir()) == FILES
    with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
        assert arrays["params/encoder_0/conv_1/kernel"].shape == (3, 3, 2, 2)
        assert "params/head/bias" in arrays
    fields = json.loads((folder / "model.json").read_text())
    assert fields["architecture"]["depth"] == 1
    assert fields["channels"] == 1
    assert set(fields["architecture"]) == {
        *(
            "num_classes",
            "target",
            "features",
            "depth",
            "kernel_size",
            "padding",
            "dropout_rate",
        ),
        *("dropout_sites", "negative_slope", "up_activation", "wide_last_up"),
        *(
            "concat_order",
            "input_shift",
            "kernel_init",
            "bias_init",
            "norm",
            "remat",
            "dtype",
        ),
    }


def test_readme_says_what_matters(folder):
    text = (folder / "README.md").read_text()
    for line in ("# cells", "background, cell", "num_train_images: 4", "iou: 0.912"):
        assert line in text
    assert 'model = unetjax.load_model("cells")' in text
    assert "None" not in text


def test_saving_again_replaces_the_earlier_model(folder):
    params = jax.tree.map(lambda x: x + 1, make_trained().params)
    save_model(folder, replace(make_trained(), params=params))
    jax.tree.map(np.testing.assert_array_equal, load_model(folder).params, params)
    assert [path.name for path in folder.parent.iterdir()] == ["cells"]


def test_an_empty_folder_and_remains_of_a_killed_process_are_no_obstacle(tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / ".cells.new").mkdir()
    (tmp_path / ".cells.new" / "weights.npz").write_bytes(b"half")
    save_model(tmp_path / "cells", make_trained())
    load_model(tmp_path / "cells")
    assert [path.name for path in tmp_path.iterdir()] == ["cells"]


def test_a_full_disk_leaves_the_earlier_model(folder, monkeypatch):
    before = contents(folder)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(folder, make_trained())
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["cells"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("notes.txt", r"cells holds notes\.txt, which is not part of a model folder"),
        ("README.md", r"cells was changed .*README\.md has changed.* move it away"),
    ],
)
def test_nothing_of_the_user_is_replaced(folder, name, message):
    (folder / name).write_text("mine")
    before = contents(folder)
    with pytest.raises(FileExistsError, match=message):
        save_model(folder, make_trained())
    assert contents(folder) == before


def test_a_file_is_not_replaced(tmp_path):
    (tmp_path / "cells").write_text("mine")
    with pytest.raises(FileExistsError, match="cells is a file; name a new folder"):
        save_model(tmp_path / "cells", make_trained())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.1, 0.37, 0.5, 0.83, 1.0])
def test_one_flipped_bit_is_refused(folder, name, place):
    path = folder / name
    content = bytearray(path.read_bytes())
    content[round(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"changed|damaged|missing"):
        load_model(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        load_model(folder)


def test_a_run_folder_stands_for_the_model_in_it(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model\.json; name another folder"):
        load_model(tmp_path)
    model = load_model(folder).model
    folder.rename(tmp_path / "model")
    assert load_model(tmp_path).model == model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architecture.featurs": 3},
            r"model\.json cannot be used: model\.json\.architecture has no option "
            r"'featurs'; did you mean features\?",
        ),
        ({"chanels": 1}, "no option 'chanels'; did you mean channels"),
        ({"format": 3}, "format is 3, .* 1 to 2; update unetjax"),
        ({"format": "2"}, "format is '2', .* 1 to 2; update unetjax"),
        ({"unetjax": 0.1}, r"model\.json\.unetjax must be a string, got 0\.1"),
        ({"architecture": None}, "architecture must be a section"),
        ({"architecture.depth": "1"}, "architecture.depth must be an integer, got '1'"),
        (
            {"architecture.features": 0},
            "features must be at least 1 and .*, got 0",
        ),
        ({"architecture.kernel_size": 2}, "kernel_size must be odd, got 2"),
        ({"architecture.padding": "FULL"}, "one of VALID, SAME, got 'FULL'"),
        ({"architecture.dtype": "int8"}, "dtype must be a floating type .*'int8'"),
        ({"channels": 0}, "channels must be at least 1 and at most .*, got 0"),
        ({"channels": "1"}, "channels must be an integer, got '1'"),
        ({"input_scaling.method": "log"}, "one of unit, .*, got 'log'"),
        ({"input_scaling.clip": [2.0, 1.0]}, "clip must be a least grey value"),
        ({"input_scaling.clip": [2.0]}, "clip must be a list of 2 values"),
        ({"class_names": ["cell"]}, "name all 2 classes or none, got 1 names"),
        ({"class_names": "ab"}, "class_names must be a list, each a string, got 'ab'"),
        ({"instances.threshold": 128}, "threshold must be .* got 128"),
        ({"instances.min_size": -1}, "min_size must be at least 0, got -1"),
        ({"provenance.steps": 7}, "no option 'steps'; did you mean step"),
        ({"provenance.step": "7"}, "step must be an integer or None, got '7'"),
        ({"provenance.scores": {"iou": "?"}}, "each value a number or None, got"),
        ({"provenance.config": [1]}, "config must be a dictionary"),
        (
            {"architecture.features": 3},
            r"weights\.npz cannot be used: .*params/bottleneck/conv_0/bias must be "
            r"float32 \[6\], got float32 \[4\]; use",
        ),
    ],
)
@pytest.mark.usefixtures("as_installed")
def test_every_field_is_checked(folder, changes, message):
    def change(fields):
        for name, value in changes.items():
            *section, last = name.split(".")
            (fields[section[0]] if section else fields)[last] = value

    rewrite(folder, change)
    with pytest.raises(ValueError, match=message):
        load_model(folder)


def test_no_field_may_be_missing(folder):
    rewrite(folder, lambda fields: (fields.pop("provenance"), fields.pop("channels")))
    message = r"model\.json cannot be used: it has no channels, provenance\."
    with pytest.raises(ValueError, match=message):
        load_model(folder)


def test_broken_json_is_refused(folder):
    (folder / "model.json").write_text("{")
    manifests.write_manifest(folder)
    with pytest.raises(ValueError, match=r"model\.json is damaged \(Expecting"):
        load_model(folder)


def test_hostile_arrays_run_nothing(folder, tmp_path):
    """An object array is a pickle, and a pickle may run anything when read."""
    marker = tmp_path / "marker"

    class Hostile:
        def __reduce__(self):
            return pathlib.Path.touch, (marker,)

    arrays = np.array([Hostile()], dtype=object)
    with (folder / "weights.npz").open("wb") as file:
        np.savez(file, **{"params/head/bias": arrays})
    manifests.write_manifest(folder)
    with pytest.raises(ValueError, match=r"weights\.npz cannot be used: "):
        load_model(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"provenance": Provenance(config={"seed": float("nan")})},
            "must be JSON data without NaN",
        ),
        (
            {"provenance": Provenance(config={"seed": np.float32(1)})},
            "provenance must be JSON data .*float32",
        ),
        ({"class_names": ("cell",)}, "name all 2 classes or none, got 1 names"),
        (
            {"model": UNet(features=2, depth=2)},
            r"bottleneck/conv_0/bias .*\[8\]",
        ),
        ({"model_state": {"extra": np.ones(1)}}, r"extra must be nothing, got float64"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        save_model(tmp_path / "cells", replace(make_trained(), **changes))
    assert not list(tmp_path.iterdir())


FORMAT_1 = {  # written by version 0.1.0
    "format": 1,
    "unetjax": "0.1.0",
    "scaling": "percentile",
    "clip": [None, 5.0],
    "instances": {"threshold": 0.4, "min_size": 3, "fill_holes": False},
    "about": {
        "num_train_images": 4,
        "image_dtype": "uint8",
        "config": {"seed": 3},
        "step": 7,
        "scores": {"iou": 0.5, "ap": None},
        "trained on": "noise",
    },
}


def test_older_folders_load(folder):
    """Those of format 1, with the fields of the time; the oldest have no clip."""

    def as_format_1(fields):
        for name in ("input_scaling", "provenance"):
            del fields[name]
        fields.update(FORMAT_1)

    rewrite(folder, as_format_1)
    loaded = load_model(folder)
    assert loaded.input_scaling == InputScaling("percentile", (None, 5.0))
    assert loaded.instances == InstanceSettings(threshold=0.4, min_size=3)
    assert loaded.class_names == ("background", "cell")
    assert loaded.provenance == Provenance(
        step=7,
        scores={"iou": 0.5, "ap": None},
        num_train_images=4,
        image_dtype="uint8",
        config={"seed": 3},
        notes="trained on: noise",
    )
    rewrite(folder, lambda fields: fields.pop("clip"))
    assert load_model(folder).input_scaling == InputScaling("percentile")


def test_a_rule_of_initial_kernels_has_its_new_name(folder):
    rewrite(folder, lambda fields: fields["architecture"].update(kernel_init="tf_unet"))
    assert load_model(folder).model.kernel_init == "truncated_he"


def test_folders_of_earlier_versions_have_no_selected_channels(folder):
    rewrite(folder, lambda fields: fields.pop("selected_channels"))
    assert load_model(folder).selected_channels == ()


def test_a_training_without_a_model_is_called_that(tmp_path):
    for name in ("config.json", "data.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(FileNotFoundError, match="has not stored a model yet; resume"):
        load_model(tmp_path)
