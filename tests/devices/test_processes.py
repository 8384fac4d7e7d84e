"""What an environment says about other processes; real ones are in tests/training."""

import importlib.util
import os

import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.data import device_dataset, synthetic
from unetjax.data.sampling import SamplingSettings
from unetjax.devices import parallel, processes

SLURM = {"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}
STEP = {"SLURM_STEP_NODELIST": "node[1-2]"}
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
INDEXED = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        (SLURM | STEP, True),
        (SLURM, False),  # the batch script itself, without srun
        (SLURM | STEP | {"SLURM_NTASKS": "1"}, False),
        (OPEN_MPI, True),
        (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, False),
        (INDEXED, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a"}, False),
    ],
)
def test_several_processes_are_noticed(environment, expected, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "JOB_", "TPU_")):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "kubernetes")
    assert processes.in_cluster() == expected


def test_kubernetes_is_noticed_only_where_jax_can_ask_it(monkeypatch):
    for name, value in INDEXED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not processes.in_cluster()


def test_a_batch_that_the_processes_cannot_share_is_refused(monkeypatch):
    monkeypatch.setattr(parallel.jax, "process_count", lambda: 3)
    with pytest.raises(ValueError, match="a multiple of the 3 processes, got 8; start"):
        parallel.usable_devices(8)
    assert parallel.usable_devices(6) == 3 * 2


def test_a_process_takes_its_own_rows(monkeypatch):
    batch = jnp.arange(8).reshape(4, 2)
    monkeypatch.setattr(parallel.jax, "process_count", lambda: 2)
    monkeypatch.setattr(parallel.jax, "process_index", lambda: 1)
    np.testing.assert_array_equal(parallel.own_rows(batch), [[4, 5], [6, 7]])


@pytest.mark.parametrize("centers", ["uniform", "weighted"])
def test_a_data_set_survives_as_named_arrays(centers):
    """By which process 0 gives it to the others; with centres and without."""
    cells = synthetic.touching_cells(0, 0, size=(24, 24), num_cells=2, radius=4.0)
    pipeline = device_dataset.DataPipeline(
        tile_size=20, output_size=12, sampling=SamplingSettings(centers)
    )
    data = device_dataset.load([cells], pipeline)
    arrays = device_dataset.to_arrays(data)
    assert ("centers.pixels" in arrays) == (centers == "weighted")
    assert "maps" not in arrays
    again = device_dataset.to_arrays(device_dataset.from_arrays(arrays))
    assert arrays.keys() == again.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, again[name])
        assert values.dtype == again[name].dtype
