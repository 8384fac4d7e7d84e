"""What an entry point sets before JAX starts."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import launch
from unetjax.devices import runtime

SMOKE = "--config=ml_collections_configs/smoke.py"
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"

STARTED = """
import sys
from experiments import launch

def run(invocation):
    import jax, os
    jax.numpy.ones(3).sum().block_until_ready()  # an unknown flag aborts here
    print(os.environ["XLA_FLAGS"])

argv = ["--config=ml_collections_configs/smoke.py", *sys.argv[1:]]
sys.exit(launch.launch(run, launch.make_parser("x", None), argv))
"""


def flags_of(*words, flags=""):
    env = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": "."}
    command = [sys.executable, "-c", STARTED, *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_config_reaches_the_compiler():
    """The launcher reads it before JAX starts, and XLA knows the flag."""
    assert DETERMINISTIC in flags_of("--config.deterministic=True")


@pytest.mark.parametrize(
    ("words", "expected"), [([], False), (["--config.deterministic=True"], True)]
)
def test_only_a_config_that_asks_is_deterministic(words, expected, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    seen = []

    def run(_):
        seen.extend(os.environ["XLA_FLAGS"].split())

    parser = launch.make_parser("x", None)
    assert launch.launch(run, parser, [SMOKE, *words]) == 0
    assert (DETERMINISTIC in seen) == expected


def test_what_the_user_has_set_stays(monkeypatch):
    mine = "--xla_gpu_deterministic_ops=false"
    monkeypatch.setenv("XLA_FLAGS", mine)
    runtime.set_compiler_flags(deterministic=True)
    assert mine in os.environ["XLA_FLAGS"].split()
    assert "--xla_gpu_deterministic_ops=true" not in os.environ["XLA_FLAGS"]


def test_flags_are_set_once(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    for _ in range(2):
        runtime.set_compiler_flags(deterministic=True)
    words = os.environ["XLA_FLAGS"].split()
    assert len(words) == len(set(words))


def test_a_gpu_that_was_not_told_in_time_is_refused(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=false")
    with pytest.raises(ValueError, match=r"config\.deterministic needs .* before the"):
        runtime.check_deterministic("gpu")
    runtime.check_deterministic("cpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    runtime.check_deterministic("gpu")


def test_a_mapped_sum_of_many_rows_is_right():
    """What jaxlib 0.10.2 computes wrongly without the flag (jax-ml/jax#39103)."""
    rows = np.zeros((32_769, 3), np.float32)
    rows[:, 0] = np.arange(len(rows))
    matrix = jnp.eye(3)
    squares = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(rows)
    np.testing.assert_array_equal(squares, rows[:, 0] ** 2)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "--xla_cpu_experimental_ynn_fusion_type="),
        ("--xla_a=1", "--xla_a=1 --xla_cpu_experimental_ynn_fusion_type="),
        ("--xla_cpu_experimental_ynn_fusion_type=dot",) * 2,
    ],
)
def test_flags_are_added_to_those_of_the_user(monkeypatch, before, after):
    monkeypatch.setattr(runtime.jaxlib, "__version__", "0.10.2")
    monkeypatch.setenv("XLA_FLAGS", before)
    runtime.set_compiler_flags()
    assert os.environ["XLA_FLAGS"] == after


def test_an_unknown_jaxlib_gets_no_flag_that_could_abort_it(monkeypatch):
    monkeypatch.setattr(runtime.jaxlib, "__version__", "99.0")
    monkeypatch.setenv("XLA_FLAGS", "")
    runtime.set_compiler_flags()
    assert os.environ["XLA_FLAGS"] == ""


def kept_in(environment):
    """The folder that a fresh process keeps compiled programs in, after compiling."""
    code = """
import jax
from unetjax.devices import runtime
runtime.prepare()
if jax.config.jax_compilation_cache_dir:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.jit(lambda x: x + 1)(1.0)
print(jax.config.jax_compilation_cache_dir)
"""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_programs_are_kept_where_only_their_user_writes(tmp_path):
    folder = pathlib.Path(kept_in({"XDG_CACHE_HOME": str(tmp_path)}))
    assert folder.parent == tmp_path / "unetjax"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir())


def test_a_folder_that_others_may_write_is_not_trusted(tmp_path):
    folder = pathlib.Path(kept_in({"XDG_CACHE_HOME": str(tmp_path)}))
    before = sorted(folder.iterdir())
    folder.chmod(0o777)
    assert kept_in({"XDG_CACHE_HOME": str(tmp_path)}) == "None"
    assert sorted(folder.iterdir()) == before


def test_the_folder_of_the_user_is_respected(tmp_path):
    mine = str(tmp_path / "mine")
    named = {"JAX_COMPILATION_CACHE_DIR": mine, "XDG_CACHE_HOME": str(tmp_path)}
    assert kept_in(named) == mine
    assert not (tmp_path / "unetjax").exists()


def test_a_home_that_cannot_be_written_is_no_error(tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert kept_in({"XDG_CACHE_HOME": str(file)}) == "None"
