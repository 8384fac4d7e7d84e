"""The self-check passes here, and notices what it is for."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from unetjax.cli import main
from unetjax.devices import self_check


@pytest.fixture(autouse=True)
def once_more():
    self_check.check.cache_clear()
    yield
    self_check.check.cache_clear()


def test_this_device_passes():
    self_check.check()


@pytest.mark.parametrize(
    ("which", "name"),
    [
        (0, "a sum over rows"),
        (1, "the loss of a small network"),
        (2, "its gradient"),
    ],
)
def test_a_wrong_result_is_named(monkeypatch, which, name):
    compute = self_check._compute

    def wrong(case):
        results = list(compute(case))
        results[which] = results[which] * 1.01
        return tuple(results)

    monkeypatch.setattr(self_check, "_compute", wrong)
    with pytest.raises(OSError, match=rf"computes {name} wrongly on .*; install"):
        self_check.check()


def test_the_command_ends_in_one_sentence(monkeypatch, tmp_path, capsys):
    def wrong(case):
        return np.zeros(1), 0.0, 0.0

    monkeypatch.setattr(self_check, "_compute", wrong)
    folder = str(tmp_path)
    assert main.main(["train", folder, folder, "--out", str(tmp_path / "m")]) == 2
    found = capsys.readouterr().err
    assert found.startswith("error: jaxlib ")
    assert found.count("\n") == 1


def test_a_device_that_fails_is_named_with_the_remedy(monkeypatch):
    def fail(case):
        raise jax.errors.JaxRuntimeError("INTERNAL: no algorithm worked\nmore")

    monkeypatch.setattr(self_check, "_compute", fail)
    with pytest.raises(OSError, match=r"\(INTERNAL: no algorithm"):
        self_check.check()


def test_too_little_memory_is_no_fault_of_the_driver(monkeypatch):
    def fail(case):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(self_check, "_compute", fail)
    with pytest.raises(jax.errors.JaxRuntimeError):
        self_check.check()


def test_a_platform_that_is_not_there_is_named():
    code = "from unetjax.devices import self_check; self_check.check()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"JAX_PLATFORMS": "nothing"},
        capture_output=True,
        text=True,
    )
    assert "OSError: JAX finds no device (" in done.stderr


@pytest.mark.skipif(
    self_check.jaxlib.__version__ != "0.10.2" or jax.default_backend() != "cpu",
    reason="jaxlib 0.10.2 on a CPU is known to compute wrongly without a flag",
)
def test_a_known_miscompilation_is_noticed():
    code = "from unetjax.devices import self_check; self_check.check()"
    environment = os.environ | {
        "XLA_FLAGS": "--xla_cpu_experimental_ynn_fusion_type=dot",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "computes a sum over rows wrongly" in done.stderr
