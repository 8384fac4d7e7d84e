"""Compiled programs of a run: its first state and its step; equal ones are shared."""

import functools
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from unetjax import losses
from unetjax.data import device_dataset
from unetjax.data.batch import Transform
from unetjax.data.device_dataset import DeviceDataset
from unetjax.devices import parallel
from unetjax.model_io import model_folder
from unetjax.network.transfer import transfer
from unetjax.training import config as configs
from unetjax.training import optimizers, steps
from unetjax.training.config import ExperimentConfig
from unetjax.training.run_folder import Keys, Run
from unetjax.training.steps import Metrics, TrainState

# Options that no update depends on, see `step_config`.
UNREAD_OPTIONS = (
    *("seed", "log_every", "evaluate_every", "patience", "best_metric"),
    *("tune_instances", "writers", "num_pictures", "histograms", "data"),
    "pretrained",
)


def load_data(run: Run) -> DeviceDataset:
    """Returns the training images of a run as arrays on the default device."""
    return device_dataset.load(run.split.train, configs.data_pipeline(run.config))


def initial_state(
    config: ExperimentConfig, key: PRNGKeyArray, *, channels: int
) -> TrainState:
    """Returns the state before the first update.

    Args:
      config: The experiment.
      key: Random key of the parameters.
      channels: Number of channels of the images.
    """
    return _compile_init(step_config(config), channels)(key)


def warm_start(config: ExperimentConfig, state: TrainState) -> TrainState:
    """Returns the state before the first update, from `config.pretrained` if any.

    Args:
      config: The experiment.
      state: From `initial_state`.

    Raises:
      FileNotFoundError: If the folder of the trained model is missing.
      ValueError: If that model is damaged, or has another architecture.
    """
    if not config.pretrained:
        return state
    trained = model_folder.load_model(config.pretrained)
    try:
        params = transfer(trained.model, trained.params, config.model, state.params)
    except ValueError as error:
        raise ValueError(f"{config.pretrained}: {error}") from None
    optimizer = optimizers.build_optimizer(config.optimizer, config.num_steps)
    model_state = jax.tree.map(jnp.asarray, dict(trained.model_state))
    return TrainState(state.step, params, model_state, optimizer.init(params))


def build_step(
    config: ExperimentConfig,
    *,
    rate: Float[Array, ""] | None = None,
    transform: Transform | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Returns the function that draws a batch and updates the state, not compiled.

    It takes (state, items, data, keys, *, axis_name): see `device_dataset.draw_batch`
    and `steps.train_step`.

    Args:
      config: The experiment.
      rate: Learning rate instead of `config.optimizer.learning_rate`; may be traced.
      transform: A custom change to every drawn tile.
    """
    pipeline = configs.data_pipeline(config, transform=transform)
    update = functools.partial(
        steps.train_step,
        model=config.model,
        optimizer=optimizers.build_optimizer(
            config.optimizer, config.num_steps, peak=rate
        ),
        loss=losses.build_loss(
            config.loss.name, config.loss.reduction, config.model.target
        ),
        log_grad_norms=config.log_grad_norms,
    )

    def step(
        state: TrainState,
        items: Int[Array, " B"],
        data: DeviceDataset,
        keys: Keys,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        batch = device_dataset.draw_batch(data, keys.data, items, pipeline)
        return update(state, batch, keys.dropout, axis_name=axis_name)

    return step


def compile_step(
    build: Callable[..., Callable[..., PyTree]],
    config: ExperimentConfig,
    *,
    transform: Transform | None,
    num_devices: int,
) -> Callable[..., PyTree]:
    """Returns the compiled step of a config; equal steps are traced and compiled once.

    Args:
      build: From a config and a keyword `transform` to a step, such as `build_step`.
      config: The experiment.
      transform: A custom change to every drawn tile. What such a function reads may
        have changed since it was traced, so a step that has one is never shared.
      num_devices: How many local devices to use.
    """
    if transform is None:
        return _compile_step(build, step_config(config), num_devices)
    return parallel.data_parallel(
        build(config, transform=transform),
        num_devices=num_devices,
        partition=config.devices.partition,
    )


def step_config(config: ExperimentConfig) -> ExperimentConfig:
    """Returns the config with the options that no update reads at fixed values.

    Configs for which it is equal share their compiled programs.
    """
    # Only the cosine schedule reads the number of steps.
    is_cosine = config.optimizer.schedule == "cosine"
    num_steps = config.num_steps if is_cosine else config.optimizer.warmup_steps + 1
    default = ExperimentConfig()
    fixed = {name: getattr(default, name) for name in UNREAD_OPTIONS}
    return replace(config, num_steps=num_steps, **fixed)


# Both functions receive nothing but the key of their cache, so no entry can depend on
# any other option; shapes and settings of JAX are in the keys of JAX's own caches.
# Few entries suffice, as trials run one after another; each keeps its programs.
@functools.lru_cache(maxsize=4)
def _compile_step(
    build: Callable[..., Callable[..., PyTree]],
    config: ExperimentConfig,
    num_devices: int,
) -> Callable[..., PyTree]:
    return parallel.data_parallel(
        build(config), num_devices=num_devices, partition=config.devices.partition
    )


@functools.lru_cache(maxsize=4)
def _compile_init(
    config: ExperimentConfig, channels: int
) -> Callable[[PRNGKeyArray], TrainState]:
    optimizer = optimizers.build_optimizer(config.optimizer, config.num_steps)
    shape = (1, config.tile_size, config.tile_size, channels)

    def make(key: PRNGKeyArray) -> TrainState:
        return steps.init_state(config.model, optimizer, key, jnp.zeros(shape))

    return jax.jit(make)  # compiled, the zeros are never convolved
