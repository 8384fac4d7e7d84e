"""The options of `unetjax train` that split the images."""

import json
import pathlib
import re
import shlex
import types

import jax
import numpy as np
import pytest

from tests import networks
from tests.training import runs
from unetjax.cli import main
from unetjax.data import open_data, synthetic
from unetjax.files import images
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import model_folder
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet
from unetjax.training import config as configs
from unetjax.training import cost, experiment


def write_cells(folder, indices):
    for i in indices:
        cells = synthetic.touching_cells(0, i, size=(48, 56), num_cells=4, radius=6.0)
        images.write_image(folder / "images" / f"{i}.tif", cells.image)
        images.write_labels(folder / "masks" / f"{i}.tif", cells.instances)
    return str(folder / "images"), str(folder / "masks")


@pytest.fixture
def folders(tmp_path):
    """Five annotated images and, in other folders, two more."""
    own, new = tmp_path / "own", tmp_path / "new"
    for folder in (own, new):
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
    return write_cells(own, range(5)), write_cells(new, range(5, 7))


@pytest.fixture
def start(folders, tmp_path, monkeypatch, capsys):
    """Returns a function that runs the command up to the training.

    It returns the config, the image names of each part, and the printed text.
    """
    calls = []

    def run(config, split, workdir, *, title, command):
        names = [None if x is None else {e.name for e in x} for x in split]
        calls.append((config, names, command))
        return types.SimpleNamespace(text="", verdict="", report=pathlib.Path(workdir))

    monkeypatch.setattr(experiment, "run", run)

    def start(*args, data=folders[0]):
        if "--minutes" not in args:
            args = ("--steps", "1500", *args)
        out = ["--out", str(tmp_path / "out")]
        assert main.main(["train", *data, *out, *args]) == 0
        return *calls[-1], capsys.readouterr().out

    return start


def sizes(names):
    return [None if part is None else len(part) for part in names]


def test_by_default_a_fifth_of_the_images_is_for_validation(start):
    _, names, _, printed = start()
    assert sizes(names) == [4, 1, None]
    assert "images: 4 for training, 1 for validation, none for testing" in printed


def test_test_images_are_drawn_before_validation_images(start):
    config, names, _, printed = start("--test", "0.4", "--validation", "0.4")
    assert sizes(names) == [2, 1, 2]
    assert "images: 2 for training, 1 for validation, 2 for testing" in printed
    assert (config.data.test_fraction, config.data.validation_fraction) == (0.4, 0.4)


def test_test_images_may_have_their_own_folder(start, folders):
    images, masks = folders[1]
    config, names, command, _ = start("--test-images", images, "--test-masks", masks)
    assert sizes(names) == [4, 1, 2]
    assert names[2] == {"5.tif", "6.tif"}
    assert config.data.test_images == str(pathlib.Path(images).resolve())
    assert shlex.split(command)[-4:] == ["--test-images", images, "--test-masks", masks]


def test_holdout_is_the_old_name_of_validation(start):
    config, names, command, _ = start("--holdout", "0.4")
    assert sizes(names) == [3, 2, None]
    assert config.data.validation_fraction == 0.4
    assert "--validation 0.4" in command


def test_the_command_in_the_report_repeats_the_split(start):
    own = ("--set", "optimizer.name=sgd", "--set", "augmentation.noise=0.2")
    config, names, command, _ = start("--test", "0.2", "--seed", "3", *own)
    again = start(*shlex.split(command)[6:])
    assert again[:3] == (config, names, command)


def test_unannotated_pixels_are_named_by_their_number(start, folders, tmp_path):
    for path in (tmp_path / "own" / "masks").iterdir():
        mask = images.read_labels(path)
        mask[:6] = 250
        path.unlink()
        images.write_labels(path, mask)
    config, _, command, printed = start("--ignore", "250")
    assert config.data.ignore == 250
    assert "250 ignored as not annotated" in printed
    assert "--ignore 250" in command


def test_pixels_outside_of_the_field_of_view_are_not_learned(start, tmp_path):
    fields = tmp_path / "fields"
    fields.mkdir()
    inside = np.ones((48, 56), np.uint8)
    inside[:, :20] = 0
    for i in range(5):
        images.write_labels(fields / f"{i}.png", inside)
    config, names, command, _ = start("--within", str(fields))
    split = open_data.open_split(config.data)
    examples = [example for part in split for example in part or ()]
    assert sizes(names) == [4, 1, None]
    assert all(((e.label == -1) == (inside == 0)).all() for e in examples)
    assert shlex.split(command)[-2:] == ["--within", str(fields)]


def test_a_pretrained_model_gives_architecture_and_scaling(start, tmp_path):
    model = UNet(features=4, depth=2, norm="layer", dropout_rate=0.1)
    image = np.zeros((1, 44, 44, 1), np.float32)
    trained = TrainedModel(
        model,
        networks.init(model, jax.random.key(0), image)["params"],
        input_scaling=InputScaling("minmax"),
    )
    model_folder.save_model(tmp_path / "old", trained)
    config, _, command, text = start("--from", str(tmp_path / "old"))
    assert config.model == model.clone(target="distances")
    assert config.input_scaling.method == "minmax"
    assert config.pretrained == str(tmp_path / "old")
    assert f"--from {tmp_path / 'old'}" in command
    assert "a network of depth 2" in text
    assert "4 features" in text


@pytest.mark.slow
def test_a_learning_curve_tells_whether_more_images_would_help(
    folders, tmp_path, capsys
):
    out = tmp_path / "curve"
    argv = ["train", *folders[0], "--out", str(out), "--learning-curve"]
    argv += ["--steps", "2", "--features", "2", "--validation", "0.6"]
    for option in ("model.depth=1", "tile_size=20", "weight_map.w0=0"):
        argv += ["--set", option]
    argv += ["--set", "augmentation.elastic_sigma=0"]
    assert main.main(argv) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^From 1 to 2 images, AP at IoU 0.5 ", printed, re.MULTILINE)
    assert (out / "2 images, draw 2" / "model" / "model.json").exists()
    page = (out / "report.html").read_text()
    assert "--learning-curve" in page


def test_options_set_by_hand_replace_the_derived_ones(start):
    config, _, _, text = start("--set", "optimizer.learning_rate=1e-3")
    assert config.optimizer.learning_rate == 1e-3
    assert "optimizer.learning_rate is set to 1e-3" in text
    *_, text = start("--set=batch_size=4", "--set=instances.min_size=3")
    assert "updates of 4 tiles each" in text
    assert "components of fewer" not in text
    config, _, _, text = start("--set=model.depth=2", "--set=config.tile_size=64")
    assert (config.model.depth, config.tile_size) == (2, 64)
    assert "a network of depth 2" in text
    assert "tiles of 64 pixels" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--set", "optimizer.lr=1"], "no option 'optimizer.lr'; did you mean opt"),
        (["--set", "optimizer"], "must be of the form optimizer.learning_rate=1e-3"),
        (["--set", "num_steps=4"], "num_steps is set by --steps or --minutes"),
        (["--from", "nowhere"], "nowhere"),
        (["--from", ".", "--features", "8"], "--features cannot differ from those of"),
        (["--learning-curve", "--keep-split"], "leave out --keep-split"),
        (["--set", "pretrained=a"], "pretrained is set by --from"),
        (["--set", "data.name=smoke"], "data.name is set by the options that name"),
        (["--set", "batch_size=x"], "batch_size must be an integer, got 'x'"),
        (["--set", "tile_size=61"], "tile_size"),
        (["--test", "1.5"], "--test: must be a fraction of at least 0 and below 1, go"),
        (["--validation", "0"], "--validation must be above 0: the best step is chos"),
        (["--validation", "half"], "--validation: must be a fraction of at least 0 a"),
        (["--test-images", "."], "--test-images and --test-masks must be given togeth"),
        (["--test", "0.5", "--test-images", ".", "--test-masks", "."], "one of both"),
        (["--steps", "-5"], "--steps: must be an integer from 1 on, got '-5'"),
        (["--steps", "0"], "--steps: must be an integer from 1 on, got '0'"),
        (["--features", "1.5"], "--features: must be an integer from 1 on, got '1.5'"),
        (["--seed", "-1"], "--seed must be from 0 to 4294967295, got -1"),
        (["--out", ""], "--out: a path must not be empty"),
        (["--out", "~nobody-of-this-name/a"], "a user who does not exist; write ./~"),
    ],
)
def test_messages(args, message, folders, tmp_path, capsys):
    argv = ["train", *folders[0], "--out", str(tmp_path / "m"), *args]
    assert main.main(argv) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_training_images_are_refused_as_test_images(folders, tmp_path, capsys):
    own_images, own_masks = folders[0]
    argv = ["train", own_images, own_masks, "--out", str(tmp_path / "m")]
    argv += ["--test-images", own_images, "--test-masks", own_masks]
    assert main.main(argv) == 2
    error = capsys.readouterr().err
    assert "training, validation and test images must differ, but by content" in error


def test_the_number_of_steps_follows_from_the_minutes_and_this_machine(
    start, monkeypatch
):
    monkeypatch.setattr(cost, "step_seconds", lambda *args, **options: 0.25)
    config, _, command, printed = start("--minutes", "2")
    assert config.num_steps == 2 * 60 * 4
    assert config.evaluate_every == 48
    assert "480 updates" in printed
    assert "--minutes 2.0" in command


def test_a_resumed_run_keeps_its_number_of_steps(start, tmp_path):
    """Whatever the speed of the machine is now."""
    (tmp_path / "out").mkdir()
    saved = configs.to_dict(runs.CONFIG)
    (tmp_path / "out" / "config.json").write_text(json.dumps(saved))
    config, *_ = start("--minutes", "100000")
    assert config.num_steps == runs.CONFIG.num_steps


def test_minutes_and_steps_exclude_each_other(folders, tmp_path, capsys):
    command = ["train", *folders[0], "--out", str(tmp_path / "out")]
    assert main.main([*command, "--minutes", "2", "--steps", "3"]) == 2
    assert "not allowed with argument" in capsys.readouterr().err
    assert main.main([*command, "--minutes", "0"]) != 0
    assert (
        "argument --minutes: must be a number above 0, got '0'"
        in capsys.readouterr().err
    )


def test_the_home_folder_is_meant_by_a_tilde(start, folders, monkeypatch):
    """A shell expands it at the beginning of a word only, not after =."""
    home = pathlib.Path(folders[1][0]).parent
    monkeypatch.setenv("HOME", str(home))
    config, *_ = start("--test-images=~/images", "--test-masks=~/masks")
    assert config.data.test_images == str((home / "images").resolve())


def test_a_run_does_not_depend_on_the_working_folder(start, folders, monkeypatch):
    images, masks = folders[1]
    words = ("--test-images", images, "--test-masks", masks)
    config, *_ = start(*words)
    monkeypatch.chdir(pathlib.Path(images).parent)
    again, *_ = start("--test-images", "images", "--test-masks", "masks")
    assert again == config


@pytest.mark.parametrize("side", [pytest.param(24, marks=pytest.mark.slow), 64])
def test_a_small_single_image_is_cut_with_a_narrower_band(
    tmp_path, capsys, monkeypatch, side
):
    splits = []
    monkeypatch.setattr(
        experiment,
        "run",
        lambda config, split, workdir, **_: (
            splits.append((config, split))
            or types.SimpleNamespace(text="", verdict="", report=pathlib.Path(workdir))
        ),
    )
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    cells = synthetic.touching_cells(0, size=(side, side), num_cells=3, radius=4.0)
    images.write_image(tmp_path / "images" / "a.tif", cells.image)
    images.write_labels(tmp_path / "masks" / "a.tif", cells.instances)
    argv = ["train", str(tmp_path / "images"), str(tmp_path / "masks")]
    assert main.main([*argv, "--out", str(tmp_path / "m"), "--test", "0.2"]) == 0
    ((config, split),) = splits
    assert config.data.guard == side // 8
    assert all(len(part) == 1 and min(part[0].label.shape) > 0 for part in split)
    assert f"only {side // 8} pixels lie between its parts" in capsys.readouterr().out


def test_a_model_no_better_than_a_threshold_is_not_offered(
    folders, tmp_path, monkeypatch, capsys
):
    outcome = types.SimpleNamespace(text="", verdict="", report=tmp_path)
    monkeypatch.setattr(experiment, "run", lambda *args, **options: outcome)
    command = ["train", *folders[0], "--steps", "3", "--out", str(tmp_path / "out")]
    assert main.main(command) == 0
    assert "use it:  unetjax predict" in capsys.readouterr().out
    outcome.verdict = "This model is no better than a threshold."
    assert main.main(command) == 0
    assert "use it" not in capsys.readouterr().out


def write_classes(folder, *masks):
    """Images and masks of the same content; returns their folders."""
    for i, mask in enumerate(masks):
        noise = np.random.default_rng(i).integers(0, 40, mask.shape, np.uint8)
        for name, pixels in {"images": noise + 60 * mask, "masks": mask}.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            images.write_image(folder / name / f"{i}.png", pixels[..., np.newaxis])
    return str(folder / "images"), str(folder / "masks")


STRIPES = np.kron(np.arange(48) // 8 % 2, np.ones((56, 1), np.uint8)).T.astype(np.uint8)
TWO = np.where(np.arange(56) < 20, 2 * STRIPES, STRIPES).astype(np.uint8)


@pytest.mark.parametrize(
    ("masks", "gap"),
    [
        ([STRIPES, TWO, STRIPES, STRIPES], "no training image has class 2"),
        ([STRIPES, STRIPES, 0 * STRIPES, STRIPES], "no validation image has an object"),
    ],
)
def test_every_part_has_what_it_is_for(start, tmp_path, masks, gap):
    """Whichever image a seed would draw: the odd one is validated on by one of them."""
    paths = write_classes(tmp_path / "odd", *masks)
    drawn_again = 0
    for seed in range(8):
        words = ("--mask-type", "classes", "--seed", str(seed))
        config, names, _, printed = start(*words, data=paths)
        drawn_again += gap in printed
        assert (gap in printed) == (config.data.seed != seed)
        odd = "1.png" if "class 2" in gap else "2.png"
        assert odd in names[0]
    assert drawn_again


def test_a_class_that_cannot_be_learned_is_named(start, tmp_path):
    """With two images one is validated on, whatever the seed."""
    paths = write_classes(tmp_path / "odd", np.where(TWO == 1, 2, TWO), STRIPES)
    config, _, _, printed = start("--mask-type", "classes", data=paths)
    assert "warning: no training image has class" in printed
    assert config.model.num_classes == 3
