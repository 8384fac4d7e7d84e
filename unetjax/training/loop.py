"""Training from a config to a model folder: step, record, evaluate, save."""

import functools
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PRNGKeyArray

from unetjax import losses
from unetjax.data import resident
from unetjax.data.resident import Resident
from unetjax.data.splits import Split
from unetjax.devices import parallel
from unetjax.exchange import model_folder
from unetjax.exchange.model_folder import ModelFolder
from unetjax.files import folders
from unetjax.reporting import console, records
from unetjax.reporting.records import Record
from unetjax.training import (
    checkpoints,
    environment,
    evaluation,
    optimizers,
    stopping,
)
from unetjax.training import (
    config as configs,
)
from unetjax.training.checkpoints import Manager
from unetjax.training.config import ExperimentConfig
from unetjax.training.steps import Metrics, TrainState, init_state, train_step

Path = str | os.PathLike[str]


class Keys(NamedTuple):
    """The random keys of a run, one for each use."""

    init: PRNGKeyArray
    data: PRNGKeyArray
    dropout: PRNGKeyArray


class Run(NamedTuple):
    """What a run needs beside its state.

    Attributes:
      config: The experiment.
      workdir: The run folder.
      split: Images to train on and to validate on.
      watch: Called with step and scores after every evaluation, the state being saved.
    """

    config: ExperimentConfig
    workdir: pathlib.Path
    split: Split
    watch: Callable[[int, Mapping[str, float]], object] | None = None


def train_and_evaluate(
    config: ExperimentConfig,
    split: Split,
    workdir: Path,
    *,
    watch: Callable[[int, Mapping[str, float]], object] | None = None,
) -> ModelFolder:
    """Trains, or goes on where an earlier call was interrupted, to the last step.

    The run folder receives `config.json`, `environment.json`, `records.jsonl`,
    `checkpoints/` and the best model so far as `model/`, complete at any time. A run
    that stopped for want of progress is finished, and a further call does nothing.

    Args:
      config: The experiment.
      split: Images to train on and to validate on.
      workdir: The run folder, new or of an earlier call with the same config.
      watch: Called with step and scores after every evaluation, the state being saved;
        what it raises ends the run.

    Returns:
      The best model by `config.best_metric` on the held-out images.

    Raises:
      FileExistsError: If `workdir` holds other files, or another process uses it.
      ValueError: If `workdir` was made with another config, or a loss is not finite.
      Interrupted: On SIGINT or SIGTERM, after the state was saved.
    """
    run = Run(config, pathlib.Path(workdir), split, watch)
    _check_folder(run.workdir)
    with folders.claim(run.workdir):
        _agree_on_config(run)
        with checkpoints.open_checkpoints(
            run.workdir / "checkpoints", best_metric=config.best_metric
        ) as manager:
            _train(run, manager)
        return model_folder.load(run.workdir / "model")


def _train(run: Run, manager: Manager) -> None:
    config = run.config
    num_devices = parallel.usable_devices(config.batch_size)
    keys = Keys(*jax.random.split(jax.random.key(config.seed), 3))
    data = resident.load(
        run.split.train,
        scaling=config.scaling,
        num_classes=config.model.num_classes,
        weight_map=config.weight_map,
        sampling=config.sampling,
    )
    optimizer = optimizers.build_optimizer(config.optimizer, config.num_steps)
    state = initial_state(config, keys.init, channels=data.image.shape[-1])
    state, data, keys = parallel.replicate((state, data, keys), num_devices)
    state = checkpoints.restore_latest(manager, state) or state
    step, scores = int(state.step), _resume_records(run, int(state.step))
    advance = parallel.data_parallel(
        build_step(config, optimizer), num_devices=num_devices
    )

    evaluate = functools.partial(_evaluate_and_save, run, manager)
    if not _is_over(run, step, scores):
        environment.note_start(run.workdir, seed=config.seed, step=step)
    if step == config.num_steps == 0:
        evaluate(state, scores)
    with (
        stopping.first_signal() as signals,
        console.progress("training", total=config.num_steps, done=step) as bar,
    ):
        pending = None
        while not _is_over(run, step, scores):
            items = items_of(step, config.batch_size, num_devices)
            state, metrics = advance(state, items, data, keys)
            step += 1
            # The metrics of the step before, so that nothing waits for this one.
            if pending is not None:
                bar.advance(loss=_record(run, *pending))
            pending = (step, metrics)
            if step % config.evaluate_every == 0 or step == config.num_steps:
                bar.advance(loss=_record(run, *pending))
                pending = None
                scores = evaluate(state, scores)
            if signals:
                if pending is not None:
                    _record(run, *pending)
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
        return init_state(config.model, optimizer, key, jnp.zeros(shape))

    return jax.jit(make)(key)  # compiled, the zeros are never convolved


def build_step(
    config: ExperimentConfig, optimizer: optax.GradientTransformation
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Returns the function that draws a batch and updates the state, not compiled.

    It takes (state, items, data, keys, *, axis_name): see `resident.draw_batch` and
    `steps.train_step`.
    """
    draw = functools.partial(
        resident.draw_batch,
        tile_size=config.tile_size,
        output_size=configs.output_size(config),
        weight_map=config.weight_map,
        augmentation=config.augmentation,
        sampling=config.sampling,
    )
    update = functools.partial(
        train_step,
        model=config.model,
        optimizer=optimizer,
        loss=losses.build_loss(*config.loss),
    )

    def step(
        state: TrainState,
        items: Int[Array, " B"],
        data: Resident,
        keys: Keys,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        batch = draw(data, keys.data, items)
        return update(state, batch, keys.dropout, axis_name=axis_name)

    return step


def items_of(step: int, batch_size: int, num_devices: int) -> Int[Array, "D B"]:
    """Returns the numbers of the items of a step, split over devices."""
    items = step * batch_size + jnp.arange(batch_size)
    return parallel.shard(items, num_devices)


def _record(run: Run, step: int, metrics: Metrics) -> float:
    """Writes what is due, and returns the loss."""
    loss = float(metrics.loss)
    stopping.check_finite_loss(loss, step)
    if step % run.config.log_every == 0 or step == 1:
        rate = optimizers.learning_rate(run.config.optimizer, run.config.num_steps)
        values: dict[str, int | float | str] = {
            "loss": loss,
            "accuracy": float(metrics.accuracy),
            "grad_norm": float(metrics.grad_norm),
            "learning_rate": float(jnp.asarray(rate(step - 1))),
        }
        records.append(run.workdir / "records.jsonl", Record(step, "train", values))
    return loss


def _is_over(run: Run, step: int, scores: list[float]) -> bool:
    """Whether the run is at its last step, or stopped before for want of progress."""
    return step >= run.config.num_steps or stopping.no_progress(
        scores, run.config.patience
    )


def _evaluate_and_save(
    run: Run, manager: Manager, state: TrainState, earlier: list[float]
) -> list[float]:
    """Scores the held-out images, keeps the best model, saves the state.

    Returns the best metric of this evaluation after those of earlier ones.
    """
    config, step = run.config, int(state.step)
    stopping.check_finite_params(state.params, step)
    trained = _as_model_folder(run, state)
    scores = evaluation.total(
        evaluation.evaluate(
            run.split.held_out,
            functools.partial(evaluation.segment, trained),
            num_classes=config.model.num_classes,
        )
    )
    if config.best_metric not in scores:
        raise ValueError(
            f"config.best_metric must be one of {', '.join(scores)}, got "
            f"{config.best_metric!r}."
        )
    value = scores[config.best_metric]
    records.append(
        run.workdir / "records.jsonl", Record(step, "validation", {**scores})
    )
    best = max((x for x in earlier if math.isfinite(x)), default=-math.inf)
    if value > best or not (run.workdir / "model").exists():
        about = trained.about | {"step": step, "scores": _finite(scores)}
        model_folder.save(run.workdir / "model", trained._replace(about=about))
    checkpoints.save(manager, state, checkpoints.as_metrics(scores))
    if run.watch is not None:
        run.watch(step, scores)
    return [*earlier, value]


def _as_model_folder(run: Run, state: TrainState) -> ModelFolder:
    """The network of a state, with what it takes to use it."""
    config, train = run.config, run.split.train
    return ModelFolder(
        model=config.model,
        params=state.params,
        model_state=state.model_state,
        scaling=config.scaling,
        class_names=tuple(f"class {k}" for k in range(config.model.num_classes)),
        instances=config.instances._asdict(),
        about={
            "num_train_images": len(train),
            "image_dtype": str(train[0].image.dtype),
            "config": configs.to_dict(config),
        },
    )


def _finite(scores: dict[str, float]) -> dict[str, float | None]:
    """Scores as JSON has them, which knows no NaN."""
    return {name: x if math.isfinite(x) else None for name, x in scores.items()}


def _resume_records(run: Run, step: int) -> list[float]:
    """Drops records of updates that are lost, and returns the scores so far."""
    path = run.workdir / "records.jsonl"
    records.truncate_after(path, step)
    return [
        float(record.values[run.config.best_metric])
        for record in records.read(path)
        if record.kind == "validation"
    ]


def _check_folder(workdir: pathlib.Path) -> None:
    """Refuses a folder with files that no run of ours has written."""
    if workdir.is_dir() and any(workdir.iterdir()):
        if not (workdir / "config.json").exists():
            raise FileExistsError(
                f"{workdir} holds files and no run of unetjax; nothing of it was "
                "touched. Name a new or empty folder."
            )
    elif workdir.exists() and not workdir.is_dir():
        raise FileExistsError(f"{workdir} is a file; name a new or empty folder.")


def _agree_on_config(run: Run) -> None:
    """Writes the config of a new run, and refuses another one for an old run."""
    path, options = run.workdir / "config.json", configs.to_dict(run.config)
    text = json.dumps(options, indent=2) + "\n"
    if path.exists():
        # Built anew, so that options younger than the run have their defaults.
        old = configs.to_dict(configs.from_dict(json.loads(path.read_text())))
        changed = configs.differences(old, options)
        if changed:
            raise ValueError(
                f"{run.workdir} holds a run with another config ("
                + "; ".join(changed)
                + "); use that config to go on with it, or another folder."
            )
    with folders.write_atomically(path, replace=True) as temporary:
        temporary.write_text(text)
