"""StarDist, a peer of `experiments.compare` for objects that are counted.

Network, patches, augmentation and learning rate are those of StarDist's example
notebook for 2-D images; a time replaces its number of epochs. It is imported where it
is used, as TensorFlow may be absent.
"""

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Integer, Shaped

from unetjax.data.examples import Example
from unetjax.inference.segment import Segmentation

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported
import keras
import tensorflow as tf
from csbdeep.utils import normalize
from stardist.models import Config2D, StarDist2D

_PATCH = 256  # pixels; smaller in smaller images
_UNIT = 16  # pixels, of which the side of a patch is a multiple
_EPOCHS = 10_000  # of 100 updates: more than any time allows

Instances = Integer[np.ndarray, "H W"]


def train(
    train: Sequence[Example],
    validation: Sequence[Example],
    *,
    minutes: float,
    seed: int,
    num_threads: int,
) -> tuple[Callable[[Example], Segmentation], int]:
    """Trains for some minutes; returns the best network's predictions, and its steps.

    As StarDist does by itself, the validation loss chooses the best epoch, and the
    validation images the thresholds.

    Args:
      train: The training images.
      validation: The validation images. Their time is not counted, nor is that of the
        first update, in which TensorFlow compiles the network.
      minutes: Time of training.
      seed: Seed of the weights, the patches and the augmentation.
      num_threads: Cores to use.

    Raises:
      RuntimeError: If TensorFlow was used before in this process.
    """
    tf.config.threading.set_intra_op_parallelism_threads(num_threads)
    keras.utils.set_random_seed(seed)
    side = min(_PATCH, *(n // _UNIT * _UNIT for e in train for n in e.label.shape))
    settings = Config2D(
        n_rays=32,
        grid=(2, 2),
        n_channel_in=train[0].image.shape[-1],
        train_patch_size=(side, side),
        train_tensorboard=False,
    )
    clock = _Clock(60 * minutes)
    checked = [_scaled(example.image) for example in validation]
    truths = [_truth(example) for example in validation]
    with (
        tempfile.TemporaryDirectory() as folder,  # of the weights of the best epoch
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),  # progress bars
    ):
        network = StarDist2D(settings, name="stardist", basedir=folder)
        network.prepare_for_training()
        network.callbacks.append(clock)
        network.train(
            [_scaled(example.image) for example in train],
            [_truth(example) for example in train],
            validation_data=(checked, truths),
            augmenter=_augmenter(np.random.default_rng(seed)),
            seed=seed,
            epochs=_EPOCHS,
        )
        network.optimize_thresholds(checked, truths)

    def predict(example: Example) -> Segmentation:
        instances, _ = network.predict_instances(_scaled(example.image))
        label = (instances > 0).astype(np.int32)
        probs = np.stack([1 - label, label], axis=-1).astype(np.float32)
        return Segmentation(probs, label, instances)

    return predict, clock.num_steps


class _Clock(keras.callbacks.Callback):
    """Counts updates, and ends the training when their time is used up."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.num_steps = 0
        self._left = seconds
        self._start = 0.0

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        now = time.perf_counter()
        if self.num_steps and batch:  # neither compilation nor validation
            self._left -= now - self._start
        self._start = now
        self.num_steps += 1
        if self._left <= 0:
            self.model.stop_training = True


def _augmenter(
    rng: np.random.Generator,
) -> Callable[
    [Float[np.ndarray, "H W *C"], Instances], tuple[Float[np.ndarray, "..."], Instances]
]:
    """Flips, right angles, gain of 0.6 to 2, offset of -0.2 to 0.2, and noise."""

    def augment(
        image: Float[np.ndarray, "H W *C"], instances: Instances
    ) -> tuple[Float[np.ndarray, "..."], Instances]:
        turns, is_mirrored = int(rng.integers(4)), rng.integers(2)
        image, instances = (
            np.rot90(x, turns)[:: -1 if is_mirrored else 1] for x in (image, instances)
        )
        image = image * rng.uniform(0.6, 2.0) + rng.uniform(-0.2, 0.2)
        deviation = 0.02 * rng.uniform()
        return image + deviation * rng.standard_normal(image.shape), instances

    return augment


def _truth(example: Example) -> Instances:
    """The numbered cells; -1, which StarDist does not learn, where not annotated."""
    return np.where(example.label < 0, -1, example.instances)


def _scaled(image: Shaped[np.ndarray, "H W C"]) -> Float[np.ndarray, "H W *C"]:
    """Each channel's 1st percentile becomes 0, its 99.8th becomes 1."""
    scaled = normalize(image.astype(np.float32), 1, 99.8, axis=(0, 1))
    return scaled[..., 0] if image.shape[-1] == 1 else scaled
