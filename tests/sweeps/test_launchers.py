"""Wherever the trials of a sweep run, its table is the same."""

import contextlib
import csv
import pprint
import shlex
import sys
import threading
import time

import pytest

from tests.commands import in_process
from unetjax.reporting import environment
from unetjax.sweeps import results, trials
from unetjax.training import config as configs

SWEEP = "experiments.sweep"


@pytest.fixture(scope="module")
def config(base, tmp_path_factory):
    """The base experiment as a config file."""
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    options = pprint.pformat(configs.to_dict(base))
    path.write_text(
        "import ml_collections\n\n\n"
        f"def get_config():\n    return ml_collections.ConfigDict({options})\n"
    )
    return path


@pytest.fixture(scope="module")
def local(config, tmp_path_factory):
    """The folder of a sweep of two seeds in this process."""
    folder = tmp_path_factory.mktemp("local") / "s"
    done = in_process(SWEEP, f"--config={config}", f"--workdir={folder}", "--seeds=2")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_printed_commands_make_the_table_of_a_local_sweep(local, config, tmp_path):
    """Also run in another order, and one of them twice."""
    folder = tmp_path / "s"
    args = [f"--config={config}", f"--workdir={folder}", "--seeds=2"]
    done = in_process(SWEEP, *args, "--launcher", "print")
    assert done.returncode == 0, done.stderr
    assert not folder.exists()
    commands = done.stdout.splitlines()
    assert len(commands) == 2
    for command in [*reversed(commands), commands[0]]:
        python, dash_m, module, *rest = shlex.split(command)
        assert (python, dash_m) == ("python", "-m")
        done = in_process(module, *rest)
        assert done.returncode == 0, done.stderr
    assert (folder / "table.csv").read_bytes() == (local / "table.csv").read_bytes()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--seeds=2", "--trial=2"], "--trial must be from 0 to 1, got 2."),
        (
            ["--side_by_side=2", "--launcher=ray"],
            "--side_by_side trains several trials",
        ),
        (["--search=seed=0..9", "--launcher=ray"], "--search chooses trials by the"),
        (["--search=seed=0..9", "--trial=0"], "start the command once per device"),
    ],
)
def test_launchers_that_do_not_fit_are_refused(config, tmp_path, args, message):
    folder = tmp_path / "s"
    done = in_process(SWEEP, f"--config={config}", f"--workdir={folder}", *args)
    assert done.returncode == 2
    assert message in done.stderr
    assert not folder.exists()


def test_without_ray_the_message_names_the_extra(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    args = [f"--config={config}", f"--workdir={tmp_path / 's'}", "--seeds=2"]
    done = in_process(SWEEP, *args, "--launcher=ray")
    assert done.returncode == 2
    assert 'pip install "unetjax[ray]"' in done.stderr
    assert not (tmp_path / "s").exists()


@pytest.fixture
def ray(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray", reason='ray is absent: pip install "unetjax[ray]"')
    yield ray
    ray.shutdown()


QUIET = pytest.mark.filterwarnings("ignore")  # what Ray and its libraries warn of


@pytest.mark.slow
@QUIET
def test_ray_makes_the_table_of_a_local_sweep(local, config, tmp_path, ray):
    ray.init(address="local", include_dashboard=False, num_cpus=2, log_to_driver=False)
    folder = tmp_path / "s"
    args = [f"--config={config}", f"--workdir={folder}", "--seeds=2", "--launcher=ray"]
    done = in_process(SWEEP, *args)
    assert done.returncode == 0, done.stderr
    assert (folder / "table.csv").read_bytes() == (local / "table.csv").read_bytes()
    done = in_process(SWEEP, *args, "--gpus=1")
    assert done.returncode == 2
    assert "no node of the Ray cluster has 1 cores and 1 GPUs" in done.stderr


@pytest.mark.slow
@QUIET
def test_a_dead_node_costs_at_most_the_last_interval(base, tmp_path, ray):
    """Ray's own cluster of several nodes on one machine, one of which is killed."""
    from ray.cluster_utils import Cluster

    from unetjax.sweeps import ray_tasks
    from unetjax.sweeps.workers import Sweep

    long = configs.override(base, {"num_steps": 60})
    (trial,) = trials.expand(long, seeds=1)
    sweep = Sweep(tmp_path / "s", long, ["train"], ["sweep"])
    checkpoints = sweep.folder / trial.name / "checkpoints"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    with contextlib.ExitStack() as stack:
        stack.callback(cluster.shutdown)
        first = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        stack.callback(ray.shutdown)
        tables = []

        def run():
            tables.append(ray_tasks.run(sweep, [trial], cpus=1.0, gpus=0.0))

        thread = threading.Thread(target=run)
        thread.start()
        end = time.monotonic() + 300
        while not (checkpoints / "10").exists():
            assert time.monotonic() < end
            assert thread.is_alive()
            time.sleep(0.02)
        cluster.remove_node(first, allow_graceful=False)
        saved = max(int(path.name) for path in checkpoints.glob("[0-9]*"))
        assert saved < 60
        cluster.add_node(num_cpus=1)
        thread.join(timeout=300)
        assert not thread.is_alive()
    (table,) = tables
    assert [row["state"] for row in table.rows] == ["finished"]
    begun, resumed = environment.read_starts(sweep.folder / trial.name)
    assert begun["step"] == 0
    assert resumed["step"] >= saved - 2  # an interval; the last save may be torn
    with (sweep.folder / "table.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1
    assert results.read_outcome(sweep.folder / trial.name).state == "finished"
