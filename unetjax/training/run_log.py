"""What a run says of itself while it goes on: records, pictures, warnings."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from unetjax.data import sampling
from unetjax.evaluation import panels
from unetjax.inference import tiles
from unetjax.inference.segment import Segmentation, segment
from unetjax.inference.trained_model import TrainedModel
from unetjax.metrics.cells import Scores
from unetjax.network import input_scaling
from unetjax.network.forward import activations
from unetjax.reporting import pictures
from unetjax.reporting.records import Record
from unetjax.training import config as configs
from unetjax.training import optimizers, steps, stopping
from unetjax.training.config import ExperimentConfig
from unetjax.training.run_folder import Run

_COLLAPSED = 0.01  # of the pixels that are truly of other classes
_DEAD = 1e-3  # difference of probabilities over an image


def record(run: Run, step: int, metrics: steps.Metrics) -> float:
    """Writes the metrics of a step if they are due, and returns the loss.

    Raises:
      NotFiniteError: If the loss is not finite.
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
        tell(run, Record(step, "train", values))
    return loss


def tell(run: Run, record: Record) -> None:
    """Passes a record to the metric writers."""
    run.writer.write_record(record)


def names_of(run: Run, step: int) -> list[str]:
    """Returns the images from which the tiles of an update were cut.

    Which they are is a function of the run's key and of the item's number alone, so
    that nothing has to be written down to know it.
    """
    draw = functools.partial(
        sampling.draw_image, run.keys.data, num_images=len(run.split.train)
    )
    drawn = jax.vmap(draw)(steps.items_of(step - 1, run.config.batch_size, 1)[0])
    return [run.split.train[i].name for i in dict.fromkeys(drawn.tolist())]


def draw_untrained(run: Run, state: steps.TrainState) -> None:
    """Draws what the network makes of the held-out images before the first update."""
    trained = as_model_folder(run, state)
    shown = run.split.validation[: run.config.num_pictures]
    draw(run, 0, [segment(trained, example.image) for example in shown])


def draw(run: Run, step: int, found: list[Segmentation]) -> None:
    """Draws the first held-out images with what was found in them."""
    if not found:
        return
    shown = run.split.validation[: len(found)]
    picture = panels.strip(shown, found, run.config.weight_map)
    folder = run.workdir / "pictures"
    folder.mkdir(exist_ok=True)
    pictures.write_png(folder / f"step_{step:08d}.png", picture, replace=True)
    run.writer.write_picture(step, "pictures", picture)


def show_activations(run: Run, state: steps.TrainState) -> None:
    """Shows what each module makes of a tile of the first held-out image."""
    config, image = run.config, run.split.validation[0].image
    rows, columns = (
        tiles.mirror_index(0, config.tile_size, size=size) for size in image.shape[:2]
    )
    tile = input_scaling.scale(image, config.scaling, config.clip)[rows][:, columns]
    compute = jax.jit(activations, static_argnames="model")
    shown = compute(config.model, state.params, state.model_state, tile[np.newaxis])
    for name, values in shown.items():
        run.writer.write_histogram(
            int(state.step), f"activations/{name}", np.asarray(values)
        )


def warn_of_collapse(
    run: Run, step: int, counts: list[Scores], found: list[Segmentation]
) -> None:
    """Says so, on the console and in the records, where one class is all there is."""
    text = collapse_warning(
        np.sum([scores.confusion for scores in counts], axis=0),
        [segmentation.probs for segmentation in found],
        step=step,
        learning_rate=_learning_rate(run.config, step),
    )
    if text:
        print(f"warning: {text}", flush=True)
        tell(run, Record(step, "warning", {"text": text}))


def as_model_folder(run: Run, state: steps.TrainState) -> TrainedModel:
    """Returns the network of a state, with what it takes to use it."""
    config, train = run.config, run.split.train
    return TrainedModel(
        model=config.model,
        params=state.params,
        model_state=state.model_state,
        scaling=config.scaling,
        class_names=tuple(f"class {k}" for k in range(config.model.num_classes)),
        instances=dict(vars(config.instances)),
        about={
            "num_train_images": len(train),
            "image_dtype": str(train[0].image.dtype),
            "config": configs.to_dict(config),
        },
        clip=config.clip,
    )


def _learning_rate(config: ExperimentConfig, step: int) -> float:
    """That of the update which made `step` of them."""
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

    That is so where all other classes together get less than a hundredth of the pixels
    that are truly theirs.

    Args:
      confusion: Pixels of every true class (row) and predicted class (column).
      probs: Of some of the images.
      step: Updates done so far.
      learning_rate: That of the last update.

    Example:
      >>> told_apart = np.array([[80, 10], [5, 5]])
      >>> collapse_warning(told_apart, [], step=500, learning_rate=0.01)
      ''
    """
    true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    only = int(predicted.argmax())
    others = np.arange(len(confusion)) != only
    theirs = true[others].sum()
    if not theirs or predicted[others].sum() >= _COLLAPSED * theirs:
        return ""
    what = (
        f"step {step}: nearly every held-out pixel is predicted as class {only}, which "
        f"{true[only] / true.sum():.1%} are."
    )
    # A living network follows the image even where one class wins everywhere.
    spread = max((float(np.ptp(p, axis=(0, 1)).max()) for p in probs), default=1.0)
    if spread < _DEAD:
        return (
            f"{what} Its output is the same everywhere, the activations are dead: "
            f"lower optimizer.learning_rate ({learning_rate:.3g} now) or set "
            "optimizer.clip_norm, and start again."
        )
    return (
        f"{what} It may be early, as the output follows the image; if it stays so, a "
        "class weighs too little (weight_map.class_balance), masks are misread (see "
        "pictures/), or optimizer.learning_rate is unfit "
        f"({learning_rate:.3g} now)."
    )
