"""Every config file builds, and a whole step of it type-checks, without computing."""

import inspect
import pathlib
import runpy

import jax
import jax.numpy as jnp
import pytest

from experiments import launch
from unetjax.data.device_dataset import DeviceDataset
from unetjax.training import config as configs
from unetjax.training import optimizers, programs, run_folder, steps
from unetjax.training.config import ExperimentConfig

FOLDER = pathlib.Path(__file__).parents[1] / "ml_collections_configs"
FILES = sorted(FOLDER.glob("*.py"))


def variants(path):
    """The config of a file without and with each argument it knows."""
    get_config = runpy.run_path(str(path))["get_config"]
    takes_argument = inspect.signature(get_config).parameters
    return ["", "cpu"] if takes_argument else [""]


@pytest.mark.parametrize(
    ("path", "argument"),
    [(path, argument) for path in FILES for argument in variants(path)],
    ids=lambda x: getattr(x, "stem", x),
)
def test_config_traces_one_step(path, argument):
    config = configs.from_dict(launch.load_file(f"{path}:{argument}"))
    optimizer = optimizers.build_optimizer(config.optimizer, config.num_steps)
    spec = jax.ShapeDtypeStruct
    pixels, images = 10_000, 3
    data = DeviceDataset(
        image=spec((pixels, 1), jnp.float32),
        label=spec((pixels,), jnp.int32),
        instances=spec((pixels,), jnp.int32),
        start=spec((images,), jnp.int32),
        height=spec((images,), jnp.int32),
        width=spec((images,), jnp.int32),
        class_weights=spec((config.model.num_classes,), jnp.float32),
    )
    side = config.tile_size
    keys = run_folder.make_keys(0)
    state = jax.eval_shape(
        lambda key: steps.init_state(
            config.model, optimizer, key, jnp.zeros((1, side, side, 1))
        ),
        keys.init,
    )
    items = spec((config.batch_size,), jnp.int32)
    step = programs.build_step(config)

    new_state, metrics = jax.eval_shape(step, state, items, data, keys)

    def spec_of(tree):
        return jax.tree.map(lambda x: (x.shape, x.dtype), tree)

    assert spec_of(new_state) == spec_of(state)
    assert metrics.loss.shape == ()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_run_of_a_sweep_applies(path):
    namespace = runpy.run_path(str(path))
    for overrides in namespace.get("sweep", list)():
        args = [f"--config.{name}={value}" for name, value in overrides.items()]
        config = configs.to_dict(launch.read_config(str(path), args))
        for name, value in overrides.items():
            section, _, option = name.rpartition(".")
            assert (config[section] if section else config)[option] == value


def test_paper_config_holds_every_default():
    """The paper's numbers live in two places, which must agree."""
    spelled = launch.load_file(str(FOLDER / "paper.py"))
    assert spelled == configs.to_dict(ExperimentConfig())


def test_every_config_documents_its_command():
    for path in FILES:
        doc = inspect.cleandoc(runpy.run_path(str(path))["__doc__"])
        assert f"--config=ml_collections_configs/{path.name}" in doc, path
