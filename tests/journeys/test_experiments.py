"""The README's commands for a researcher."""

import json

import pytest

from tests import commands
from unetjax.evaluation.shifts import SHIFTS

CONFIG = "--config=ml_collections_configs/smoke.py"
# Fewer and smaller steps, compiled faster.
SHORT = (
    "--config.num_steps=4",
    "--config.evaluate_every=2",
    "--config.model.depth=1",
    "--config.augmentation.elastic_sigma=0",
    "--config.weight_map.w0=0",
)


def launch(name, *args):
    return commands.in_process(f"experiments.{name}", *args)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "a"
    rate = "--config.optimizer.learning_rate=1e-4"
    args = (CONFIG, *SHORT, f"--workdir={workdir}", rate)
    done = commands.run_program("experiments.train", *args)  # as users start it
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
    plain = ("model.depth=1", "augmentation.elastic_sigma=0", "weight_map.w0=0")
    args = (*(f"--config.{word}" for word in plain), f"--workdir={tmp_path / 'a'}")
    done = launch("train", CONFIG, "--dry_run", *args)
    assert done.returncode == 0, done.stderr
    assert "GFLOP for a tile of 92x92x1" in done.stdout
    assert "memory of the step: 0.0" in done.stdout
    assert "92 *" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_largest_tile_is_chosen_by_the_memory_of_the_step(tmp_path):
    small = ("model.depth=1", "model.features=2", "augmentation.elastic_sigma=0")
    args = [f"--config.{word}" for word in small]
    done = launch("train", CONFIG, "--dry_run", "--largest=tile", *args)
    assert done.returncode == 0, done.stderr
    # This machine holds a tile whose output is as long as the images, and no more.
    assert "tile_size 272, batch_size 2: the largest tile whose" in done.stdout
    assert "272 *" in done.stdout


def test_a_training_needs_a_folder():
    done = launch("train", CONFIG)
    assert done.returncode == 2
    assert done.stderr == "error: --workdir names no folder; try --workdir=runs/a.\n"


def test_another_config_is_refused(workdir):
    done = launch("train", CONFIG, *SHORT, f"--workdir={workdir}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "optimizer.learning_rate: 0.0001, now 0.001" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("as_installed")
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
    args = (CONFIG, f"--workdir={workdir}", f"--out={out}", "--tta=d4")
    done = launch("predict", *args)
    assert done.returncode == 0, done.stderr
    ends = sorted(path.name.rpartition("_")[2] for path in out.glob("*_*"))
    assert ends == ["labels.tif", "overlay.png", "probs.tif"]


def test_robustness(workdir):
    done = launch("robustness", CONFIG, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for title in SHIFTS:
        assert any(line.startswith(title) for line in lines), title
    assert "the fraction of AP at IoU 0.5 kept" in done.stdout


def test_test_images_are_used_where_there_are_any(workdir, tmp_path):
    args = (CONFIG, "--config.data.test=3:", f"--workdir={workdir}")
    done = launch("evaluate", *args, "--scores=tracking")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("The test images took no part in")
    asked = launch("evaluate", *args, "--scores=tracking", "--split=validation")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.splitlines()[-1].startswith("These are the scores of the valid")
    assert asked.stdout.splitlines()[:-1] != done.stdout.splitlines()[:-1]
    done = launch("predict", *args, f"--out={tmp_path}")
    assert done.stdout.endswith(f"predictions of 1 test images: {tmp_path}\n")


def test_absent_test_images_are_refused(workdir):
    args = (CONFIG, f"--workdir={workdir}", "--split=test")
    done = launch("evaluate", *args)
    assert done.returncode == 2
    assert "there are no test images; select some by config.data.test" in done.stderr


def test_runs_are_compared_in_a_picture(workdir, tmp_path):
    args = (CONFIG, f"--out={tmp_path}", f"--runs={workdir}", f"--runs={workdir}")
    done = launch("pictures", *args)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "runs.png")
    assert (tmp_path / "runs.png").stat().st_size > 10_000
    again = launch("pictures", *args)
    assert again.returncode == 2
    assert "runs.png" in again.stderr


def test_help_lists_configs_and_options():
    done = launch("train", "--help")
    assert done.returncode == 0
    assert "  smoke.py " in done.stdout
    lines = [line.strip() for line in done.stdout.splitlines()]
    place = lines.index("--config.optimizer.momentum=0.99")
    assert lines[place + 1].startswith("Of SGD: v = m v + g")


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("--dryrun", "there is no option '--dryrun'; did you mean --dry_run?"),
        ("--dry", "there is no option '--dry'; did you mean --dry_run?"),
        ("--largest=tiles", "argument --largest: invalid choice: 'tiles'"),
        ("--config.optimizer.lr=1", "did you mean optimizer.learning_rate?"),
        ("--config.num_steps=1.5", "config.num_steps must be an integer, got 1.5."),
        ("--config.sinks=()", "config.sinks is now called config.writers."),
        ("--config.num_steps", "--config.num_steps has no value; write --config.num_s"),
        (
            "--config.no.such=1",
            "option 'no.such'; accepted are seed, num_steps, batch_",
        ),
        (
            "--config.loss.zzzz=1",
            "option 'loss.zzzz'; accepted are loss.name, loss.reduct",
        ),
        ("smoke", "unexpected argument 'smoke'; --help lists what is accepted."),
    ],
)
def test_a_wrong_argument_ends_in_one_sentence(arg, message):
    done = launch("train", CONFIG, arg)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
