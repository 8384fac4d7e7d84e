"""Logging during training: records of metrics, pictures, warnings of collapse."""

import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from unetjax.data import sampling
from unetjax.evaluation import panels
from unetjax.inference import tiles
from unetjax.inference.segment import Segmentation, segment
from unetjax.metrics.cells import CellMetric
from unetjax.network.forward import activations
from unetjax.network.input_scaling import scale
from unetjax.reporting import pictures, records
from unetjax.reporting.records import Record
from unetjax.training import optimizers, run_folder, steps, stopping
from unetjax.training.config import ExperimentConfig
from unetjax.training.run_folder import Run

_COLLAPSED = 0.01  # of the pixels that truly belong to other classes
_DEAD = 1e-3  # difference of probabilities over an image
_CONSTANT = "The output is constant"  # in warnings

_log = logging.getLogger(__name__)


class DelayedLog:
    """Writes the metrics of each step once the next one has been started.

    Steps are computed asynchronously, and reading a metric waits for its step. Reading
    that of the step before leaves the device with work to do meanwhile.

    Example:
      >>> log = DelayedLog(print)
      >>> log.push("step 1")
      >>> log.push("step 2")
      step 1
      >>> log.flush()
      step 2
    """

    def __init__(self, write: Callable[..., object]) -> None:
        self._write = write
        self._pending: tuple[Any, ...] | None = None

    def push(self, *entry: object) -> None:
        """Writes the entry before this one, and keeps this one back."""
        self.flush()
        self._pending = entry

    def flush(self) -> None:
        """Writes the entry that is kept back, if there is one."""
        entry, self._pending = self._pending, None
        if entry is not None:
            self._write(*entry)


def write_metrics(run: Run, step: int, metrics: steps.Metrics) -> float:
    """Writes the metrics of a step if a record is due, and returns its loss.

    Raises:
      NotFiniteError: If the loss is not finite.
    """
    loss = float(metrics.loss)
    if not math.isfinite(loss):
        stopping.check_finite_loss(loss, step, image_names(run, step))
    if step % run.config.log_every == 0 or step == 1:
        values: dict[str, int | float | str] = {
            "loss": loss,
            "accuracy": float(metrics.accuracy),
            "grad_norm": float(metrics.grad_norm),
            "learning_rate": _learning_rate(run.config, step),
        }
        for name, norm in (metrics.grad_norms or {}).items():
            values[f"grad_norm/{name}"] = float(norm)
        run.writer.write_record(Record(step, "train", values))
    return loss


def image_names(run: Run, step: int) -> list[str]:
    """Returns the names of the images from which the tiles of an update were cut.

    They are recomputed: draws depend on the run's key and the item's number alone.
    """
    draw = functools.partial(
        sampling.draw_image, run.keys.data, num_images=len(run.split.train)
    )
    drawn = jax.vmap(draw)(steps.items_of(step - 1, run.config.batch_size, 1)[0])
    return [run.split.train[i].name for i in dict.fromkeys(drawn.tolist())]


def draw_untrained(run: Run, state: steps.TrainState) -> None:
    """Draws the predictions of the untrained network on some validation images."""
    trained = run_folder.as_trained_model(run, state)
    shown = run.split.validation[: run.config.num_pictures]
    draw_predictions(run, 0, [segment(trained, example.image) for example in shown])


def draw_predictions(run: Run, step: int, predictions: list[Segmentation]) -> None:
    """Draws the first validation images with their predictions."""
    if not predictions:
        return
    shown = run.split.validation[: len(predictions)]
    picture = panels.strip(shown, predictions, run.config.weight_map)
    folder = run.workdir / "pictures"
    folder.mkdir(exist_ok=True)
    pictures.write_png(folder / f"step_{step:08d}.png", picture, replace=True)
    run.writer.write_picture(step, "pictures", picture)


def write_activations(run: Run, state: steps.TrainState) -> None:
    """Passes histograms of each module's output to the metric writers.

    The input is the first tile of the first validation image.
    """
    config, image = run.config, run.split.validation[0].image
    rows, columns = (
        tiles.mirror_index(0, config.tile_size, size=size) for size in image.shape[:2]
    )
    tile = scale(image, config.input_scaling)[rows][:, columns]
    compute = jax.jit(activations, static_argnames="model")
    outputs = compute(config.model, state.params, state.model_state, tile[np.newaxis])
    for name, values in outputs.items():
        run.writer.write_histogram(
            int(state.step), f"activations/{name}", np.asarray(values)
        )


def warn_of_collapse(
    run: Run, step: int, metric: CellMetric, predictions: list[Segmentation]
) -> None:
    """Records a warning where one class is predicted nearly everywhere.

    The first one of a run is logged as well, and the first of a constant output.
    """
    text = collapse_warning(
        metric.confusion,
        [prediction.probs for prediction in predictions],
        step=step,
        learning_rate=_learning_rate(run.config, step),
    )
    if text:
        lines = records.read(run.workdir / run_folder.RECORDS)
        told = [str(line.values["text"]) for line in lines if line.kind == "warning"]
        is_worse = _CONSTANT in text and not any(_CONSTANT in each for each in told)
        if not told or is_worse:
            _log.warning("%s", text)
        run.writer.write_record(Record(step, "warning", {"text": text}))


def _learning_rate(config: ExperimentConfig, step: int) -> float:
    """Returns the learning rate of the update that completed `step` of them."""
    rate = optimizers.learning_rate(config.optimizer, config.num_steps)
    return float(jnp.asarray(rate(max(step - 1, 0))))


def collapse_warning(
    confusion: Int[np.ndarray, "K K"],
    probs: Sequence[Float[np.ndarray, "H W K"]],
    *,
    step: int,
    learning_rate: float,
) -> str:
    """Returns likely causes where one class is predicted nearly everywhere, else "".

    That is the case where all other classes together are predicted for less than one
    hundredth of the pixels that truly belong to them.

    Args:
      confusion: Pixels of each true class (row) and predicted class (column).
      probs: Probabilities of some of the images.
      step: Number of updates done.
      learning_rate: Learning rate of the last update.

    Example:
      >>> confusion = np.array([[80, 10], [5, 5]])
      >>> collapse_warning(confusion, [], step=500, learning_rate=0.01)
      ''
    """
    true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    only = int(predicted.argmax())
    others = np.arange(len(confusion)) != only
    expected = true[others].sum()
    if not expected or predicted[others].sum() >= _COLLAPSED * expected:
        return ""
    finding = (
        f"step {step}: nearly every validation pixel is predicted as class {only}, "
        f"which is the true class of {true[only] / true.sum():.1%}."
    )
    # A network that learns follows the image even where one class wins everywhere;
    # one whose activations are dead (ReLU) returns its biases.
    spread = max((float(np.ptp(p, axis=(0, 1)).max()) for p in probs), default=1.0)
    if spread < _DEAD:
        return (
            f"{finding} {_CONSTANT}, the activations are dead: lower "
            f"optimizer.learning_rate (now {learning_rate:.3g}) or set "
            "optimizer.clip_norm, and start again."
        )
    return (
        f"{finding} This is common early in training, and the output does follow the "
        "image. If it lasts, give rare classes more weight (weight_map.class_balance), "
        "check that the masks are read correctly (see pictures/), or change "
        f"optimizer.learning_rate (now {learning_rate:.3g})."
    )
