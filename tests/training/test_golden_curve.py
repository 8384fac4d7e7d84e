"""The loss of twenty updates stays as it was; see tests/golden/loss_curve.txt."""

import pathlib
import tempfile

import numpy as np

from unetjax.data import synthetic
from unetjax.data.splits import Split
from unetjax.reporting import records
from unetjax.training import config as configs
from unetjax.training import loop

FILE = pathlib.Path(__file__).parents[1] / "golden" / "loss_curve.txt"
TOLERANCE = 1e-4  # relative; compilers and CPUs differ by some 1e-6 here
CONFIG = configs.from_dict(
    {
        "num_steps": 20,
        "batch_size": 1,  # on one device, however many there are
        "tile_size": 32,
        "log_every": 1,
        "evaluate_every": 20,
        "num_pictures": 0,
        "model": {"features": 4, "depth": 1, "dropout_rate": 0.2},
        "optimizer": {"learning_rate": 0.003, "momentum": 0.9},
    }
)


def train(workdir):
    """Returns the loss of every update."""
    cells = [
        synthetic.touching_cells(0, i, size=(40, 48), num_cells=4, radius=6.0)
        for i in range(3)
    ]
    loop.train_and_evaluate(CONFIG, Split(cells[:2], cells[2:]), workdir)
    lines = records.read(workdir / "records.jsonl")
    return [record.values["loss"] for record in lines if record.kind == "train"]


def test_the_loss_of_twenty_updates_is_the_golden_one(tmp_path):
    losses = train(tmp_path / "run")
    header = FILE.read_text().partition("\n\n")[0]
    message = f"the loss curve is not that of {FILE}, which says:\n{header}\n"
    np.testing.assert_allclose(losses, np.loadtxt(FILE), TOLERANCE, err_msg=message)


def write():
    """Regenerates the file below its header."""
    with tempfile.TemporaryDirectory() as folder:
        losses = train(pathlib.Path(folder) / "run")
    header, gap, _ = FILE.read_text().partition("\n\n")
    numbers = "".join(f"{loss:.7f}\n" for loss in losses)
    FILE.write_text(header + gap + numbers)


if __name__ == "__main__":
    from unetjax.devices import runtime

    runtime.set_compiler_flags()
    write()
