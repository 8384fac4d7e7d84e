"""A run is the same, bit for bit, whichever function of JAX spreads its steps."""

from dataclasses import replace

import jax

from tests.training.runs import CONFIG, assert_equal_runs, make_split
from unetjax.devices.settings import DeviceSettings
from unetjax.training import loop

JIT = replace(CONFIG, devices=DeviceSettings("jit"))


def test_jit_on_two_devices_trains_as_pmap_does(uninterrupted, tmp_path, monkeypatch):
    """Half of the steps by each, as a run may change over when it is resumed."""
    assert jax.local_device_count() == 2
    with monkeypatch.context() as without:
        without.delattr(jax, "pmap")
        half = replace(JIT, num_steps=3)
        loop.train_and_evaluate(half, make_split(), tmp_path / "r")
    loop.train_and_evaluate(CONFIG, make_split(), tmp_path / "r")
    assert_equal_runs(tmp_path / "r", uninterrupted)
