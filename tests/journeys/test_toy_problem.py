"""The toy problem of jakeret/tf_unet, trained for real by the command of docs/."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

import unetjax
from unetjax.data import synthetic
from unetjax.inference.predict import class_map
from unetjax.metrics import overlap

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "--config=ml_collections_configs/tf_unet.py"


@pytest.mark.slow
def test_fewer_pixels_are_wrong_than_published(tmp_path):
    """Of four new images, without the rim that no valid output shows: 5.1 % there.

    All background would be wrong at 17 %; what is asserted is half of what is
    published, so that only a real loss of quality fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", CONFIG, f"--workdir={tmp_path}/a"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    trained = unetjax.load_model(tmp_path / "a")
    rng, counts = np.random.RandomState(98765), np.zeros((2, 2), int)
    for _ in range(4):
        example = synthetic.discs(rng)
        probs = trained.predict(example.image, crop="valid")
        truth = example.label[20:-20, 20:-20]
        counts += overlap.confusion(truth, class_map(probs), num_classes=2)
    error = 100 * (1 - overlap.accuracy(counts))
    print(f"{error:.2f} % of the pixels are wrong.")
    assert error < 2.55
