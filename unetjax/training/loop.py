"""Training from a config to a model folder: step, record, evaluate, save."""

import functools
import math
import os
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, PRNGKeyArray, Shaped

from unetjax import losses
from unetjax.data import device_dataset
from unetjax.data.batch import Transform
from unetjax.data.device_dataset import DeviceDataset
from unetjax.data.splits import Split
from unetjax.devices import parallel, runtime
from unetjax.evaluation import postprocessing_search, scoring
from unetjax.inference.segment import Segmentation, segment
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import model_folder
from unetjax.reporting import console, environment, records
from unetjax.reporting.records import Record
from unetjax.training import (
    checkpoints,
    optimizers,
    run_folder,
    run_log,
    steps,
    stopping,
)
from unetjax.training import (
    config as configs,
)
from unetjax.training.checkpoints import Manager
from unetjax.training.config import ExperimentConfig
from unetjax.training.run_folder import Keys, Run
from unetjax.training.steps import Metrics, TrainState

Path = str | os.PathLike[str]


def train_and_evaluate(
    config: ExperimentConfig,
    split: Split,
    workdir: Path,
    *,
    watch: Callable[[int, Mapping[str, float]], object] | None = None,
    transform: Transform | None = None,
) -> TrainedModel:
    """Trains, or goes on where an earlier call was interrupted, to the last step.

    The run folder receives `config.json`, `environment.json`, `records.jsonl`, the same
    as `records.csv`, `checkpoints/`, `pictures/` of some held-out images, one before
    the first update and one at every evaluation, and the best model so far as `model/`,
    complete at any time. A run that stopped for want of progress is finished, and a
    further call does nothing.

    Args:
      config: The experiment.
      split: Images to train on and to validate on.
      workdir: The run folder, new or of an earlier call with the same config.
      watch: Called with step and scores after every evaluation, the state being saved;
        what it raises ends the run.
      transform: A change of one's own of every drawn tile, see `data.batch.Transform`.
        No config holds it: to go on with a run, give the same one.

    Returns:
      The best model by `config.best_metric` on the held-out images.

    Raises:
      FileExistsError: If `workdir` holds other files, or another process uses it.
      ValueError: If `workdir` was made with another config, or a loss is not finite;
        the last checkpoint is then one from before.
      Interrupted: On SIGINT or SIGTERM, after the state was saved.
    """
    run = run_folder.make_run(config, split, workdir, watch=watch, transform=transform)
    with run_folder.open_run(run) as manager:
        _train(run, manager)
        folder = run.workdir / "model"
        if not config.tune_instances:
            return model_folder.load(folder)
        return postprocessing_search.tune(
            folder, split.validation, best_metric=config.best_metric
        )


def load_data(run: Run) -> DeviceDataset:
    """Returns the training images of a run as arrays on the default device."""
    config = run.config
    return device_dataset.load(
        run.split.train,
        scaling=config.scaling,
        clip=config.clip,
        num_classes=config.model.num_classes,
        weight_map=config.weight_map,
        sampling=config.sampling,
    )


def _train(run: Run, manager: Manager) -> None:
    config = run.config
    if config.deterministic:
        runtime.check_deterministic(jax.default_backend())
    num_devices = parallel.usable_devices(config.batch_size)
    data = load_data(run)
    optimizer = optimizers.build_optimizer(config.optimizer, config.num_steps)
    state = initial_state(config, run.keys.init, channels=data.image.shape[-1])
    state, data, keys = parallel.replicate((state, data, run.keys), num_devices)
    state = checkpoints.restore_latest(manager, state) or state
    step, scores = int(state.step), run_folder.resume_records(run, int(state.step))
    advance = parallel.data_parallel(
        build_step(config, optimizer, transform=run.transform),
        num_devices=num_devices,
    )

    if not is_over(run, step, scores):
        environment.note_start(run.workdir, seed=config.seed, step=step)
    with (
        stopping.first_signal() as signals,
        run_folder.open_sinks(run, step) as sink,
        console.progress("training", total=config.num_steps, done=step) as bar,
    ):
        run = run._replace(sink=sink)
        evaluate = functools.partial(evaluate_and_save, run, manager)
        if step == config.num_steps == 0:
            evaluate(state, scores)
        elif step == 0:
            run_log.draw_untrained(run, state)
        pending = None
        while not is_over(run, step, scores):
            items = steps.items_of(step, config.batch_size, num_devices)
            state, metrics = advance(state, items, data, keys)
            step += 1
            # The metrics of the step before, so that nothing waits for this one.
            if pending is not None:
                bar.advance(loss=run_log.record(run, *pending))
            pending = (step, metrics)
            if step % config.evaluate_every == 0 or step == config.num_steps:
                bar.advance(loss=run_log.record(run, *pending))
                pending = None
                scores = evaluate(state, scores)
            if signals:
                if pending is not None:
                    run_log.record(run, *pending)
                    stopping.check_finite_params(state.params, step)
                    checkpoints.save(manager, state, {config.best_metric: -1.0})
                raise stopping.Interrupted(
                    signals[0],
                    f"stopped at step {step} of {config.num_steps}; the same command "
                    "goes on from there.",
                )
    checkpoints.finish(manager, step)


def initial_state(
    config: ExperimentConfig, key: PRNGKeyArray, *, channels: int
) -> TrainState:
    """Returns the state before the first update.

    Args:
      config: The experiment.
      key: Random key of the parameters.
      channels: Number of channels of the images.
    """
    optimizer = optimizers.build_optimizer(config.optimizer, config.num_steps)
    shape = (1, config.tile_size, config.tile_size, channels)

    def make(key: PRNGKeyArray) -> TrainState:
        return steps.init_state(config.model, optimizer, key, jnp.zeros(shape))

    return jax.jit(make)(key)  # compiled, the zeros are never convolved


def build_step(
    config: ExperimentConfig,
    optimizer: optax.GradientTransformation,
    *,
    transform: Transform | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Returns the function that draws a batch and updates the state, not compiled.

    It takes (state, items, data, keys, *, axis_name): see `resident.draw_batch` and
    `steps.train_step`.
    """
    draw = functools.partial(
        device_dataset.draw_batch,
        tile_size=config.tile_size,
        output_size=configs.output_size(config),
        weight_map=config.weight_map,
        augmentation=config.augmentation,
        sampling=config.sampling,
        transform=transform,
    )
    update = functools.partial(
        steps.train_step,
        model=config.model,
        optimizer=optimizer,
        loss=losses.build_loss(config.loss.name, config.loss.reduction),
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
        batch = draw(data, keys.data, items)
        return update(state, batch, keys.dropout, axis_name=axis_name)

    return step


def is_over(run: Run, step: int, scores: list[float]) -> bool:
    """Whether the run is at its last step, or stopped before for want of progress."""
    return step >= run.config.num_steps or stopping.no_progress(
        scores, run.config.patience
    )


def evaluate_and_save(
    run: Run, manager: Manager, state: TrainState, earlier: list[float]
) -> list[float]:
    """Scores the held-out images, keeps the best model, saves the state.

    Returns the best metric of this evaluation after those of earlier ones.
    """
    config, step = run.config, int(state.step)
    stopping.check_finite_params(state.params, step)
    trained, found = run_log.as_model_folder(run, state), list[Segmentation]()

    def segment_image(image: Shaped[np.ndarray, "H W C"]) -> Segmentation:
        segmentation = segment(trained, image)
        if len(found) < config.num_pictures:
            found.append(segmentation)
        return segmentation

    counts = scoring.evaluate(
        run.split.validation, segment_image, num_classes=config.model.num_classes
    )
    scores = scoring.total(counts)
    value = scores[config.best_metric]
    run_log.tell(run, Record(step, "validation", {**scores}))
    run_log.warn_of_collapse(run, step, counts, found)
    run_log.draw(run, step, found)
    if config.histograms:
        run_log.show_activations(run, state)
    best = max((x for x in earlier if math.isfinite(x)), default=-math.inf)
    if value > best or not (run.workdir / "model").exists():
        about = trained.about | {"step": step, "scores": _finite(scores)}
        model_folder.save(run.workdir / "model", trained._replace(about=about))
    checkpoints.save(manager, state, checkpoints.as_metrics(scores))
    records.write_csv(run.workdir / "records.jsonl")
    if run.watch is not None:
        run.watch(step, scores)
    return [*earlier, value]


def _finite(scores: dict[str, float]) -> dict[str, float | None]:
    """Scores as JSON has them, which knows no NaN."""
    return {name: x if math.isfinite(x) else None for name, x in scores.items()}
