"""What an earlier version wrote is read: a model predicts the same, a run resumes."""

import json
import shutil

import numpy as np
import pytest

import unetjax
from tests.training.runs import OLD_RUN
from unetjax.data import synthetic
from unetjax.data.splits import Split
from unetjax.network.input_scaling import InputScaling
from unetjax.reporting import records
from unetjax.training import config, loop

CELLS = [
    synthetic.touching_cells(0, i, size=(24, 28), num_cells=2, radius=5.0)
    for i in range(3)
]


@pytest.fixture
def workdir(tmp_path):
    """A copy of the run, as its process left it when it ended after two updates."""
    folder = tmp_path / "run"
    shutil.copytree(OLD_RUN, folder)
    archive = folder / "checkpoints.tar.xz"
    shutil.unpack_archive(archive, folder, filter="data")
    archive.unlink()
    return folder


def test_an_old_model_predicts_what_it_predicted():
    trained = unetjax.load_model(OLD_RUN / "model")
    assert trained.input_scaling == InputScaling("percentile", (0, 4000))
    assert trained.model.kernel_init == "truncated_he"  # formerly tf_unet
    assert trained.provenance.step == 2
    assert trained.provenance.num_train_images == 2
    lines = records.read(OLD_RUN / "records.jsonl")
    (scores,) = [record.values for record in lines if record.kind == "validation"]
    assert trained.provenance.scores["mean_iou"] == scores["mean_iou"]

    probs = trained.predict(CELLS[2].image)
    expected = np.loadtxt(OLD_RUN / "prediction.txt")
    np.testing.assert_allclose(probs[..., 1], expected, rtol=0, atol=1e-6)
    assert np.ptp(expected) > 1e-3


def test_an_old_run_resumes_with_the_losses_that_it_had(workdir):
    """Parameters, moments of Adam, random keys and images are those of that version."""
    saved = json.loads((workdir / "config.json").read_text())
    experiment = config.from_saved(saved, where="config.json")
    loop.train_and_evaluate(experiment, Split(CELLS[:2], CELLS[2:]), workdir)
    lines = records.read(workdir / "records.jsonl")
    losses = [record.values["loss"] for record in lines if record.kind == "train"]
    np.testing.assert_allclose(losses, np.loadtxt(OLD_RUN / "losses.txt"), rtol=1e-5)
    steps = [record.step for record in lines if record.kind == "validation"]
    assert steps == [2, 4]
