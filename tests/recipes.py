"""The configurations in `ml_collections_configs/`, for tests."""

import pathlib

from experiments import launch
from unetjax.training import config as configs
from unetjax.training.config import ExperimentConfig

FOLDER = pathlib.Path(__file__).parents[1] / "ml_collections_configs"


def load(name: str) -> ExperimentConfig:
    """Returns the configuration of a file, named without its folder and suffix."""
    return configs.from_dict(launch.load_file(str(FOLDER / f"{name}.py")))


FALK2019 = load("falk2019")
