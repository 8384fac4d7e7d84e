"""Small runs that tests train, and comparisons of run folders."""

import pathlib
import signal
from dataclasses import replace

import jax
import numpy as np

from unetjax.data import synthetic
from unetjax.data.splits import Split
from unetjax.training import checkpoints, programs
from unetjax.training import config as configs

CONFIG = configs.from_dict(
    {
        "num_steps": 6,
        "batch_size": 2,
        "tile_size": 32,
        "input_scaling": {"method": "percentile"},
        "log_every": 2,
        "evaluate_every": 3,
        "model": {"features": 2, "depth": 1},
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "augmentation": {"elastic_sigma": 1.0},
    }
)
# Compiled faster, for tests whose steps no other test shares.
PLAIN = replace(
    CONFIG,
    augmentation=replace(CONFIG.augmentation, elastic_sigma=0.0),
    weight_map=replace(CONFIG.weight_map, w0=0.0),
)


# A run of an earlier version, see its README.md.
OLD_RUN = pathlib.Path(__file__).parent / "old_run"


class Alarm(list):
    """Validation images that send SIGTERM once, when they are scored in training."""

    sent = False

    def __iter__(self):
        if not self.sent and signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
            self.sent = True
            signal.raise_signal(signal.SIGTERM)
        return super().__iter__()


def make_split(validation=list):
    """Two images to train on and one to validate on, in a list of some class."""
    cells = [
        synthetic.touching_cells(0, i, size=(40, 48), num_cells=4, radius=6.0)
        for i in range(3)
    ]
    return Split(cells[:2], validation(cells[2:]))


def final_state(workdir, config=CONFIG):
    """The state in the last checkpoint of a run."""
    like = programs.initial_state(config, jax.random.key(1), channels=1)
    with checkpoints.open_checkpoints(workdir / "checkpoints") as manager:
        saved = checkpoints.restore_latest(manager, like, damaged=workdir / "damaged")
    return saved.state


def assert_equal_runs(one, other, config=CONFIG):
    """Compares bit for bit: parameters, optimizer state, records, best model."""
    states = (
        jax.tree.leaves_with_path(final_state(run, config)) for run in (one, other)
    )
    for (path, a), (_, b) in zip(*states, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
    weights = [np.load(run / "model" / "weights.npz") for run in (one, other)]
    for name in weights[0]:
        np.testing.assert_array_equal(weights[0][name], weights[1][name], err_msg=name)
    names = ["records.jsonl", "records.csv"]
    names += sorted(
        f"pictures/{path.name}" for path in (one / "pictures").glob("step_*")
    )
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
