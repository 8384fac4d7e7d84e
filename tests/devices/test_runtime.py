"""What an entry point sets before JAX starts, seen in processes of their own."""

import os
import subprocess
import sys

import pytest

from unetjax.devices import runtime

STARTED = """
import sys
from experiments import launch

def main(config):
    import jax, os
    jax.numpy.ones(3).sum().block_until_ready()  # an unknown flag aborts here
    print(os.environ["XLA_FLAGS"])

sys.argv = ["x", "--config=ml_collections_configs/smoke.py", *sys.argv[1:]]
launch.launch(main)
"""


def flags_of(*words, flags=""):
    env = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": "."}
    command = [sys.executable, "-c", STARTED, *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_config_reaches_the_compiler():
    """The launcher reads it before JAX starts, and XLA knows the flag."""
    flag = "--xla_gpu_deterministic_ops=true"
    assert flag in flags_of("--config.deterministic=True")
    assert flag not in flags_of()


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
