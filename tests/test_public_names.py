"""The frozen lists of what others build on: edit a list to mean the change."""

import pathlib
import tomllib

import unetjax
from unetjax.cli import main

ROOT = pathlib.Path(__file__).parents[1]


def test_public_names():
    assert sorted(unetjax.__all__) == [
        "Geometry",
        "InputScaling",
        "InstanceSettings",
        "Segmentation",
        "TrainState",
        "TrainedModel",
        "UNet",
        "augment",
        "load_model",
        "output_size",
        "predict",
        "presets",
        "save_model",
        "segment",
        "separation_weight_map",
        "soft_dice",
        "train_step",
        "weighted_cross_entropy",
    ]
    assert all(hasattr(unetjax, name) for name in unetjax.__all__)


def test_the_version_is_that_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert unetjax.__version__ == project["version"]


def test_types_are_shipped():
    """PEP 561: type checkers read annotations of packages with this file only."""
    assert (ROOT / "unetjax" / "py.typed").is_file()


def test_commands():
    _, commands = main.make_parsers()
    options = {
        name: sorted(
            option
            for action in command._actions
            for option in action.option_strings[:1] or [action.dest]
            if option not in ("-h", "-q", "-v")  # that all of them have
        )
        for name, command in commands.items()
    }
    assert options == {
        "demo": ["--out", "--steps"],
        "check": [
            *(
                "--channels",
                "--csv",
                "--ignore",
                "--image-suffix",
                "--mask-suffix",
                "--mask-type",
            ),
            *("--within", "images", "masks"),
        ],
        "train": [
            "--channels",
            "--features",
            "--from",
            "--holdout",
            "--ignore",
            "--image-suffix",
            "--keep-split",
            "--learning-curve",
            "--mask-suffix",
            "--mask-type",
            "--minutes",
            "--out",
            "--seed",
            "--set",
            "--steps",
            "--test",
            "--test-images",
            "--test-masks",
            "--validation",
            "--within",
            "images",
            "masks",
        ],
        "predict": [
            "--channels",
            "--dtype",
            "--engine",
            "--instances",
            "--masks",
            "--out",
            "--overwrite",
            "--part",
            "--probabilities",
            "--recursive",
            "--rois",
            "--scale",
            "--table",
            "--tta",
            "--uncertainty",
            "--with",
            "input",
            "model",
        ],
        "view": ["--images", "--masks", "--no-browser", "--port", "out"],
        "import": ["--padding", "--scaling", "file", "model"],
        "export": [
            *("--author", "--cite", "--format", "--license"),
            "--tile-size",
            "file",
            "model",
        ],
        "info": ["model"],
        "evaluate": [
            "--csv",
            "--ignore",
            "--json",
            *("--mask-type", "--partial", "--scores", "--shifts"),
            *("--tolerance", "--within"),
            *("predicted", "truth"),
        ],
    }
