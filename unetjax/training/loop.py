"""Training from a config to a model folder: step, record, evaluate, save."""

import contextlib
import functools
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, PRNGKeyArray, Shaped

from unetjax import losses
from unetjax.data import resident, sampling
from unetjax.data.batch import Transform
from unetjax.data.resident import Resident
from unetjax.data.splits import Split
from unetjax.devices import parallel, runtime
from unetjax.exchange import model_folder
from unetjax.exchange.model_folder import ModelFolder
from unetjax.files import folders
from unetjax.inference import tiles
from unetjax.metrics.table import Scores
from unetjax.network import input_scaling
from unetjax.network.forward import activations
from unetjax.reporting import console, pictures, records, sinks
from unetjax.reporting.records import Record
from unetjax.reporting.sink import NO_SINK, Sink
from unetjax.training import (
    checkpoints,
    environment,
    evaluation,
    optimizers,
    stopping,
    tuning,
    watching,
)
from unetjax.training import (
    config as configs,
)
from unetjax.training.checkpoints import Manager
from unetjax.training.config import ExperimentConfig
from unetjax.training.evaluation import Segmentation
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
      keys: The random keys.
      sink: Where else records and pictures are shown.
      transform: A change of every drawn tile, see `data.batch.Transform`.
    """

    config: ExperimentConfig
    workdir: pathlib.Path
    split: Split
    watch: Callable[[int, Mapping[str, float]], object] | None
    keys: Keys
    sink: Sink = NO_SINK
    transform: Transform | None = None


def train_and_evaluate(
    config: ExperimentConfig,
    split: Split,
    workdir: Path,
    *,
    watch: Callable[[int, Mapping[str, float]], object] | None = None,
    transform: Transform | None = None,
) -> ModelFolder:
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
    run = make_run(config, split, workdir, watch=watch, transform=transform)
    with open_run(run) as manager:
        _train(run, manager)
        folder = run.workdir / "model"
        if not config.tune_instances:
            return model_folder.load(folder)
        return tuning.tune(folder, split.held_out, best_metric=config.best_metric)


def make_run(
    config: ExperimentConfig,
    split: Split,
    workdir: Path,
    *,
    watch: Callable[[int, Mapping[str, float]], object] | None = None,
    transform: Transform | None = None,
) -> Run:
    """Returns a run with its random keys; the arguments are `train_and_evaluate`'s."""
    keys = Keys(*jax.random.split(jax.random.key(config.seed), 3))
    return Run(config, pathlib.Path(workdir), split, watch, keys, transform=transform)


@contextlib.contextmanager
def open_run(run: Run) -> Iterator[Manager]:
    """Claims the folder of a run, agrees on its config, and opens its checkpoints."""
    _check_folder(run.workdir)
    with folders.claim(run.workdir), _table_of_records(run.workdir):
        _agree_on_config(run)
        with checkpoints.open_checkpoints(
            run.workdir / "checkpoints", best_metric=run.config.best_metric
        ) as manager:
            yield manager


def load_data(run: Run) -> Resident:
    """Returns the training images of a run as arrays on the default device."""
    config = run.config
    return resident.load(
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
    step, scores = int(state.step), resume_records(run, int(state.step))
    advance = parallel.data_parallel(
        build_step(config, optimizer, transform=run.transform),
        num_devices=num_devices,
    )

    if not is_over(run, step, scores):
        environment.note_start(run.workdir, seed=config.seed, step=step)
    with (
        stopping.first_signal() as signals,
        open_sinks(run, step) as sink,
        console.progress("training", total=config.num_steps, done=step) as bar,
    ):
        run = run._replace(sink=sink)
        evaluate = functools.partial(evaluate_and_save, run, manager)
        if step == config.num_steps == 0:
            evaluate(state, scores)
        elif step == 0:
            draw_untrained(run, state)
        pending = None
        while not is_over(run, step, scores):
            items = items_of(step, config.batch_size, num_devices)
            state, metrics = advance(state, items, data, keys)
            step += 1
            # The metrics of the step before, so that nothing waits for this one.
            if pending is not None:
                bar.advance(loss=record(run, *pending))
            pending = (step, metrics)
            if step % config.evaluate_every == 0 or step == config.num_steps:
                bar.advance(loss=record(run, *pending))
                pending = None
                scores = evaluate(state, scores)
            if signals:
                if pending is not None:
                    record(run, *pending)
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
        return init_state(config.model, optimizer, key, jnp.zeros(shape))

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
        resident.draw_batch,
        tile_size=config.tile_size,
        output_size=configs.output_size(config),
        weight_map=config.weight_map,
        augmentation=config.augmentation,
        sampling=config.sampling,
        transform=transform,
    )
    update = functools.partial(
        train_step,
        model=config.model,
        optimizer=optimizer,
        loss=losses.build_loss(*config.loss),
        log_grad_norms=config.log_grad_norms,
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


def names_of(run: Run, step: int) -> list[str]:
    """Returns the images from which the tiles of an update were cut.

    Which they are is a function of the run's key and of the item's number alone, so
    that nothing has to be written down to know it.
    """
    draw = functools.partial(
        sampling.draw_image, run.keys.data, num_images=len(run.split.train)
    )
    drawn = jax.vmap(draw)(items_of(step - 1, run.config.batch_size, 1)[0])
    return [run.split.train[i].name for i in dict.fromkeys(drawn.tolist())]


def record(run: Run, step: int, metrics: Metrics) -> float:
    """Writes the metrics of a step if they are due, and returns the loss.

    Raises:
      NotFinite: If the loss is not finite.
    """
    loss = float(metrics.loss)
    if not math.isfinite(loss):
        stopping.check_finite_loss(loss, step, names_of(run, step))
    if step % run.config.log_every == 0 or step == 1:
        values: dict[str, int | float | str] = {
            "loss": loss,
            "accuracy": float(metrics.accuracy),
            "grad_norm": float(metrics.grad_norm),
            "learning_rate": _learning_rate(run.config, step),
        }
        for name, norm in (metrics.grad_norms or {}).items():
            values[f"grad_norm/{name}"] = float(norm)
        _tell(run, Record(step, "train", values))
    return loss


def is_over(run: Run, step: int, scores: list[float]) -> bool:
    """Whether the run is at its last step, or stopped before for want of progress."""
    return step >= run.config.num_steps or stopping.no_progress(
        scores, run.config.patience
    )


def _tell(run: Run, record: Record) -> None:
    """Writes a record down, and then shows it wherever somebody watches."""
    records.append(run.workdir / "records.jsonl", record)
    run.sink.record(record)


def _draw(run: Run, step: int, found: list[Segmentation]) -> None:
    """Draws the first held-out images with what was found in them."""
    if not found:
        return
    shown = run.split.held_out[: len(found)]
    picture = watching.strip(shown, found, run.config.weight_map)
    folder = run.workdir / "pictures"
    folder.mkdir(exist_ok=True)
    pictures.write_png(folder / f"step_{step:08d}.png", picture, replace=True)
    run.sink.picture(step, "pictures", picture)


def _show_activations(run: Run, state: TrainState) -> None:
    """Shows what each module makes of a tile of the first held-out image."""
    config, image = run.config, run.split.held_out[0].image
    rows, columns = (
        tiles.mirror_index(0, config.tile_size, size=size) for size in image.shape[:2]
    )
    tile = input_scaling.scale(image, config.scaling, config.clip)[rows][:, columns]
    compute = jax.jit(activations, static_argnames="model")
    shown = compute(config.model, state.params, state.model_state, tile[np.newaxis])
    for name, values in shown.items():
        run.sink.histogram(int(state.step), f"activations/{name}", np.asarray(values))


def draw_untrained(run: Run, state: TrainState) -> None:
    """Draws what the network makes of the held-out images before the first update."""
    trained = _as_model_folder(run, state)
    shown = run.split.held_out[: run.config.num_pictures]
    _draw(run, 0, [evaluation.segment(trained, example.image) for example in shown])


def evaluate_and_save(
    run: Run, manager: Manager, state: TrainState, earlier: list[float]
) -> list[float]:
    """Scores the held-out images, keeps the best model, saves the state.

    Returns the best metric of this evaluation after those of earlier ones.
    """
    config, step = run.config, int(state.step)
    stopping.check_finite_params(state.params, step)
    trained, found = _as_model_folder(run, state), list[Segmentation]()

    def segment(image: Shaped[np.ndarray, "H W C"]) -> Segmentation:
        segmentation = evaluation.segment(trained, image)
        if len(found) < config.num_pictures:
            found.append(segmentation)
        return segmentation

    counts = evaluation.evaluate(
        run.split.held_out, segment, num_classes=config.model.num_classes
    )
    scores = evaluation.total(counts)
    if config.best_metric not in scores:
        raise ValueError(
            f"config.best_metric must be one of {', '.join(scores)}, got "
            f"{config.best_metric!r}."
        )
    value = scores[config.best_metric]
    _tell(run, Record(step, "validation", {**scores}))
    _warn_of_collapse(run, step, counts, found)
    _draw(run, step, found)
    if config.histograms:
        _show_activations(run, state)
    best = max((x for x in earlier if math.isfinite(x)), default=-math.inf)
    if value > best or not (run.workdir / "model").exists():
        about = trained.about | {"step": step, "scores": _finite(scores)}
        model_folder.save(run.workdir / "model", trained._replace(about=about))
    checkpoints.save(manager, state, checkpoints.as_metrics(scores))
    records.write_csv(run.workdir / "records.jsonl")
    if run.watch is not None:
        run.watch(step, scores)
    return [*earlier, value]


def _warn_of_collapse(
    run: Run, step: int, counts: list[Scores], found: list[Segmentation]
) -> None:
    """Says so, on the console and in the records, where one class is all there is."""
    text = watching.collapse_warning(
        np.sum([scores.confusion for scores in counts], axis=0),
        [segmentation.probs for segmentation in found],
        step=step,
        learning_rate=_learning_rate(run.config, step),
    )
    if text:
        print(f"warning: {text}", flush=True)
        _tell(run, Record(step, "warning", {"text": text}))


def _learning_rate(config: ExperimentConfig, step: int) -> float:
    """That of the update which made `step` of them."""
    rate = optimizers.learning_rate(config.optimizer, config.num_steps)
    return float(jnp.asarray(rate(max(step - 1, 0))))


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
        clip=config.clip,
    )


def open_sinks(run: Run, step: int) -> contextlib.AbstractContextManager[Sink]:
    """Opens what shows the records of a run beside its folder, from a step on."""
    options = dict(configs.flatten(configs.to_dict(run.config)))
    return sinks.open_sinks(run.config.sinks, run.workdir, step=step, config=options)


@contextlib.contextmanager
def _table_of_records(workdir: pathlib.Path) -> Iterator[None]:
    """Leaves `records.csv` right, however the block ends."""
    try:
        yield
    finally:
        if (workdir / "records.jsonl").exists():
            records.write_csv(workdir / "records.jsonl")


def _finite(scores: dict[str, float]) -> dict[str, float | None]:
    """Scores as JSON has them, which knows no NaN."""
    return {name: x if math.isfinite(x) else None for name, x in scores.items()}


def resume_records(run: Run, step: int) -> list[float]:
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
