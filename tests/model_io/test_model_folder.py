"""What is loaded must be what was saved, or be refused in one sentence."""

import errno
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.files import manifests
from unetjax.inference.predict import predict
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io.model_folder import load, save
from unetjax.network import presets
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
        scaling="percentile",
        class_names=("background", "cell"),
        instances={"threshold": 0.5, "min_size": 3},
        about={"num_train_images": 4, "scores": {"iou": 0.91234, "ap": None}},
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
    save(tmp_path / "cells", make_trained())
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
    save(tmp_path / "cells", trained)
    loaded = load(str(tmp_path / "cells"))
    jax.tree.map(np.testing.assert_array_equal, loaded[1:3], trained[1:3])
    assert loaded._replace(params=0, model_state=0) == trained._replace(
        params=0, model_state=0
    )


def test_dtype_objects_are_saved_by_name(tmp_path):
    save(
        tmp_path / "cells", make_trained(UNet(features=2, depth=1, dtype=jnp.bfloat16))
    )
    assert load(tmp_path / "cells").model.dtype == "bfloat16"


def test_loaded_in_one_call_it_predicts_as_before(folder):
    trained = make_trained()
    image = np.random.default_rng(1).random((9, 13))
    model, params, *_ = load(folder)
    np.testing.assert_array_equal(
        predict(model, params, image), predict(trained.model, trained.params, image)
    )


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
        *("num_classes", "features", "depth", "kernel_size", "padding", "dropout_rate"),
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
    for words in ("# cells", "background, cell", "num_train_images: 4", "iou: 0.9123"):
        assert words in text
    assert "None" not in text


def test_saving_again_replaces_the_earlier_model(folder):
    params = jax.tree.map(lambda x: x + 1, make_trained().params)
    save(folder, make_trained()._replace(params=params))
    jax.tree.map(np.testing.assert_array_equal, load(folder).params, params)
    assert [path.name for path in folder.parent.iterdir()] == ["cells"]


def test_an_empty_folder_and_remains_of_a_killed_process_are_no_obstacle(tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / ".cells.new").mkdir()
    (tmp_path / ".cells.new" / "weights.npz").write_bytes(b"half")
    save(tmp_path / "cells", make_trained())
    load(tmp_path / "cells")
    assert [path.name for path in tmp_path.iterdir()] == ["cells"]


def test_a_full_disk_leaves_the_earlier_model(folder, monkeypatch):
    before = contents(folder)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        save(folder, make_trained())
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
        save(folder, make_trained())
    assert contents(folder) == before


def test_a_file_is_not_replaced(tmp_path):
    (tmp_path / "cells").write_text("mine")
    with pytest.raises(FileExistsError, match="cells is a file; name a new folder"):
        save(tmp_path / "cells", make_trained())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.1, 0.37, 0.5, 0.83, 1.0])
def test_one_flipped_bit_is_refused(folder, name, place):
    path = folder / name
    content = bytearray(path.read_bytes())
    content[round(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"changed|damaged|missing"):
        load(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        load(folder)


def test_a_run_folder_stands_for_the_model_in_it(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model\.json; name another folder"):
        load(tmp_path)
    model = load(folder).model
    folder.rename(tmp_path / "model")
    assert load(tmp_path).model == model


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda fields: fields["architecture"].update(featurs=3),
            r"model\.json cannot be used: architecture has no field 'featurs'; did you "
            r"mean features\?",
        ),
        (
            lambda fields: fields.update(scalling=1),
            "no field 'scalling'; did you mean scaling",
        ),
        (lambda fields: fields.update(format=2), "format is 2, .* 1; update unetjax"),
        (lambda fields: fields.pop("about"), "about must be of type dict, got None"),
        (lambda fields: fields.update(scaling="log"), "one of unit, .*, got 'log'"),
        (
            lambda fields: fields["architecture"].update(padding="FULL"),
            r"padding must be one of VALID, SAME, got 'FULL'",
        ),
        (
            lambda fields: fields["architecture"].update(features=3),
            r"weights\.npz cannot be used: .*params/bottleneck/conv_0/bias must be "
            r"float32 \[6\], got float32 \[4\]; use",
        ),
    ],
)
@pytest.mark.usefixtures("as_installed")
def test_a_model_that_cannot_be_understood_is_refused(folder, edit, message):
    rewrite(folder, edit)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_broken_json_is_refused(folder):
    (folder / "model.json").write_text("{")
    manifests.write_manifest(folder)
    with pytest.raises(ValueError, match=r"model\.json cannot be used: Expecting"):
        load(folder)


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
    with pytest.raises(ValueError, match=r"weights\.npz cannot be used: .*pickle"):
        load(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"about": {"loss": float("nan")}}, "must be JSON data without NaN"),
        ({"about": {"loss": np.float32(1)}}, "about must be JSON data .*float32"),
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
        save(tmp_path / "cells", make_trained()._replace(**changes))
    assert not list(tmp_path.iterdir())


def test_bounds_of_grey_values_are_kept_and_older_folders_have_none(tmp_path):
    save(tmp_path / "a", make_trained()._replace(clip=(None, 5.0)))
    assert load(tmp_path / "a").clip == (None, 5.0)
    rewrite(tmp_path / "a", lambda fields: fields.pop("clip"))
    assert load(tmp_path / "a").clip == (None, None)
    rewrite(tmp_path / "a", lambda fields: fields.update(clip=[2.0, 1.0]))
    with pytest.raises(ValueError, match="cannot be used: clip must be a least grey"):
        load(tmp_path / "a")


def test_a_rule_of_initial_kernels_has_its_new_name(folder):
    rewrite(folder, lambda fields: fields["architecture"].update(kernel_init="tf_unet"))
    assert load(folder).model.kernel_init == "truncated_he"
