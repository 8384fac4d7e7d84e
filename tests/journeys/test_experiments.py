"""The README's commands for a researcher."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "--config=ml_collections_configs/smoke.py"


def launch(name, *words):
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "a"
    words = (CONFIG, f"--workdir={workdir}", "--config.optimizer.learning_rate=1e-4")
    done = launch("train", *words)
    assert done.returncode == 0, done.stderr
    assert "AP at IoU 0.5" in done.stdout
    assert "checkpoint" not in done.stderr  # Orbax keeps quiet
    return workdir


def test_train_leaves_a_run_folder(workdir):
    config = json.loads((workdir / "config.json").read_text())
    assert config["optimizer"]["learning_rate"] == 1e-4
    assert (workdir / "report.html").exists()
    assert (workdir / "model" / "weights.npz").exists()


def test_a_dry_run_says_what_it_would_take_and_touches_nothing(tmp_path):
    done = launch("train", CONFIG, "--dry_run", f"--workdir={tmp_path / 'a'}")
    assert done.returncode == 0, done.stderr
    assert "GFLOP for a tile of 92x92x1" in done.stdout
    assert "memory of the step: 0.0" in done.stdout
    assert "92 *" in done.stdout
    assert not list(tmp_path.iterdir())


def test_the_largest_tile_is_chosen_by_the_memory_of_the_step(tmp_path):
    small = ("model.depth=1", "model.features=2", "augmentation.elastic_sigma=0")
    words = [f"--config.{word}" for word in small]
    done = launch("train", CONFIG, "--dry_run", "--largest=tile", *words)
    assert done.returncode == 0, done.stderr
    # This machine holds a tile whose output is as long as the images, and no more.
    assert "tile_size 272, batch_size 2: the largest tile whose" in done.stdout
    assert "272 *" in done.stdout


def test_a_training_needs_a_folder():
    done = launch("train", CONFIG)
    assert done.returncode == 2
    assert done.stderr == "error: --workdir names no folder; try --workdir=runs/a.\n"


def test_another_config_is_refused(workdir):
    done = launch("train", CONFIG, f"--workdir={workdir}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "optimizer.learning_rate: 0.0001, now 0.001" in done.stderr
    assert "Traceback" not in done.stderr


def test_misspelt_option_is_refused(tmp_path):
    done = launch("train", CONFIG, f"--workdir={tmp_path}", "--config.num_step=3")
    assert done.returncode == 2
    assert "did you mean num_steps" in done.stderr
    assert not list(tmp_path.iterdir())


def test_evaluate_and_predict(workdir, tmp_path):
    done = launch("evaluate", CONFIG, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "Otsu + components" in done.stdout
    done = launch("evaluate", CONFIG, f"--workdir={workdir}", "--scores=em")
    assert done.returncode == 0, done.stderr
    assert "V_rand, borders thinned" in done.stdout
    averaged = ("--tta=rot90", f"--with={workdir}")
    again = launch("evaluate", CONFIG, f"--workdir={workdir}", *averaged)
    assert again.returncode == 0, again.stderr
    assert again.stdout != done.stdout
    out = tmp_path / "out"
    words = (CONFIG, f"--workdir={workdir}", f"--out={out}", "--tta=d4")
    done = launch("predict", *words)
    assert done.returncode == 0, done.stderr
    ends = sorted(path.name.rpartition("_")[2] for path in out.iterdir())
    assert ends == ["labels.tif", "overlay.png", "probs.tif"]


def test_runs_are_compared_in_a_picture(workdir, tmp_path):
    words = (CONFIG, f"--out={tmp_path}", f"--runs={workdir}", f"--runs={workdir}")
    done = launch("pictures", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "runs.png")
    assert (tmp_path / "runs.png").stat().st_size > 10_000
    again = launch("pictures", *words)
    assert again.returncode == 2
    assert "runs.png" in again.stderr
