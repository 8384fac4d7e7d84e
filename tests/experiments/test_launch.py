import sys

import pytest

from experiments import launch
from unetjax.sweeps import search, trials

SMOKE = "ml_collections_configs/smoke.py"


def test_overrides_reach_every_option():
    """Also those that the file does not spell."""
    config = launch.read_config(
        SMOKE,
        ["--config.optimizer.momentum=0.5", "--config.num_steps=7", "-config.seed=3"],
    )
    assert (config.optimizer.momentum, config.num_steps, config.seed) == (0.5, 7, 3)
    assert config.model.features == 4  # as the file has it


@pytest.mark.parametrize(
    ("text", "value"),
    [("True", True), ("true", True), ("1", True), ("false", False), ("0", False)],
)
def test_truth_is_spelt_in_any_usual_way(text, value):
    config = launch.read_config(SMOKE, [f"--config.deterministic={text}"])
    assert config.deterministic is value


def test_text_stays_text():
    args = ["data.name=folder", "data.images=1", "data.masks=02", "data.train="]
    config = launch.read_config(SMOKE, [f"--config.{arg}" for arg in args])
    data = config.data
    assert (data.images, data.masks, data.train) == ("1", "02", "")


def test_arguments_are_separated_from_the_config():
    args = ["--config", "a.py:cpu", "--config.seed", "3", "--workdir=w", "-v"]
    assert launch.split_args(args) == (
        "a.py:cpu",
        ["--config.seed=3"],
        ["--workdir=w", "-v"],
    )


def test_the_next_option_is_not_a_value():
    message = r"^--config\.seed has no value; write --config\.seed=VALUE\.$"
    with pytest.raises(ValueError, match=message):
        launch.split_args(["--config=a.py", "--config.seed", "--workdir=w"])
    args = ["--config=a.py", "--config.optimizer.momentum", "-1"]
    assert launch.split_args(args)[1] == ["--config.optimizer.momentum=-1"]


def test_sweeps_take_names_as_overrides_have_them():
    name, values = trials.parse_grid("config.optimizer.learning_rate=1,2")
    assert (name, values) == ("optimizer.learning_rate", ["1", "2"])
    (name,) = search.parse_space(["config.optimizer.learning_rate=1..2"])
    assert name == "optimizer.learning_rate"


def test_config_files_are_found_from_any_folder(tmp_path, monkeypatch):
    """A file of the same name in the current folder comes first."""
    brought = launch.load_file(SMOKE)
    monkeypatch.chdir(tmp_path)
    assert launch.load_file(SMOKE) == brought
    assert "  smoke.py " in launch.describe_configs()
    own = tmp_path / SMOKE
    own.parent.mkdir()
    own.write_text(
        "import ml_collections\n"
        "def get_config():\n    return ml_collections.ConfigDict(dict(seed=7))\n"
    )
    assert launch.load_file(SMOKE) == {"seed": 7}


def test_absent_ml_collections_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_collections", None)
    with pytest.raises(ModuleNotFoundError, match=r"install 'unetjax\[experiments\]'"):
        launch.load_file(SMOKE)


@pytest.mark.parametrize(
    ("file", "overrides", "error", "message"),
    [
        ("", [], ValueError, "--config names no file; try --config=ml_collections"),
        ("absent.py", [], FileNotFoundError, "--config=absent.py is no file"),
        ("experiments/launch.py", [], ValueError, "has no function get_config"),
        (
            SMOKE,
            ["--config.optimizer.lerning_rate=1"],
            ValueError,
            r"no option 'optimizer.lerning_rate'; did you mean optimizer.learning_rate",
        ),
        (
            SMOKE,
            ["--config.learning_rate=1"],
            ValueError,
            r"no option 'learning_rate'; did you mean optimizer.learning_rate",
        ),
        (
            SMOKE,
            ["--config.num_steps=many"],
            ValueError,
            "must be an integer, got 'many'",
        ),
        (SMOKE, ["--config.tile_size=90"], ValueError, "got 90; try 88 or 92"),
    ],
)
def test_errors_name_the_way_out(file, overrides, error, message):
    with pytest.raises(error, match=message):
        launch.read_config(file, overrides)


def test_lists_are_overridden_too():
    config = launch.read_config(SMOKE, ["--config.writers=mlflow"])
    assert config.writers == ("mlflow",)
    config = launch.read_config(
        "ml_collections_configs/falk2019.py",
        [
            "--config.input_scaling.clip=(None, 210.5)",
            "--config.weight_map.class_balance=(1, 3.0)",
        ],
    )
    assert config.input_scaling.clip == (None, 210.5)
    assert config.weight_map.class_balance == (1, 3.0)
