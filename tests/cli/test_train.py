"""The options of `unetjax train` that split the images."""

import json
import pathlib
import shlex
import types

import pytest

from tests.training import runs
from unetjax.cli import main
from unetjax.data import synthetic
from unetjax.files import images
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
        return types.SimpleNamespace(text="", report=pathlib.Path(workdir))

    monkeypatch.setattr(experiment, "run", run)

    def start(*args):
        if "--minutes" not in args:
            args = ("--steps", "1500", *args)
        out = ["--out", str(tmp_path / "out")]
        assert main.main(["train", *folders[0], *out, *args]) == 0
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
    assert config.data.test_images == images
    assert shlex.split(command)[-4:] == ["--test-images", images, "--test-masks", masks]


def test_holdout_is_the_old_name_of_validation(start):
    config, names, command, _ = start("--holdout", "0.4")
    assert sizes(names) == [3, 2, None]
    assert config.data.validation_fraction == 0.4
    assert "--validation 0.4" in command


def test_the_command_in_the_report_repeats_the_split(start):
    config, names, command, _ = start("--test", "0.2", "--seed", "3")
    again = start(*shlex.split(command)[6:])
    assert again[:3] == (config, names, command)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--test", "1.5"], "test_fraction must be at least 0 and below 1, got 1.5"),
        (["--validation", "0"], "validation_fraction must be above 0 and below 1"),
        (["--test-images", "."], "test_images and test_masks must be given together"),
        (["--test", "0.5", "--test-images", ".", "--test-masks", "."], "in one way"),
    ],
)
def test_messages(args, message, folders, tmp_path, capsys):
    argv = ["train", *folders[0], "--out", str(tmp_path / "m"), *args]
    assert main.main(argv) == 2
    assert message in capsys.readouterr().err


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
    assert "--minutes must be above 0, got 0.0" in capsys.readouterr().err
