"""A program that tests start several times: one of the processes of a tiny run."""

import json
import os
import pathlib
import socket
import subprocess
import sys
from dataclasses import replace

from tests.training import runs
from unetjax import signals
from unetjax.cli.command import run_command
from unetjax.devices import processes, runtime
from unetjax.devices.settings import DeviceSettings
from unetjax.training import loop

ROOT = pathlib.Path(__file__).parents[2]
# Without what depends on the number of devices: dropout, and its default momentum is
# small enough that rounding does not grow over the steps.
CONFIG = replace(
    runs.PLAIN,
    batch_size=8,
    tile_size=20,
    log_every=1,
    num_pictures=0,
    model=runs.PLAIN.model.clone(dropout_rate=0.0),
    optimizer=replace(
        runs.PLAIN.optimizer, name="sgd", learning_rate=0.1, momentum=0.0
    ),
)


def configured(options):
    """The config with some options; a partition stands for its section."""
    partition = options.pop("partition", "pmap")
    return replace(CONFIG, devices=DeviceSettings(partition), **options)


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def start(workdir, num_processes, num_devices, **options):
    """Starts the processes, each with so many devices; `wait` for them."""
    address = free_address() if num_processes > 1 else "none"
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.training.together", str(workdir)),
                *(address, str(num_processes), str(i), json.dumps(options)),
            ],
            cwd=ROOT,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": str(num_devices)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(num_processes)
    ]


def wait(started, timeout=None):
    """The exit status of each process, and what they wrote to standard error."""
    ended = [process.communicate(timeout=timeout) for process in started]
    return [process.returncode for process in started], [err for _, err in ended]


def train(workdir, address, num_processes, process_id, options):
    alone = (None, None)
    numbers = alone if address == "none" else (int(num_processes), int(process_id))
    config = configured(json.loads(options))
    runtime.set_compiler_flags()
    with processes.joined(address, *numbers):
        if processes.is_leader():
            loop.train_and_evaluate(config, runs.make_split(), workdir)
        else:
            loop.follow()


if __name__ == "__main__":
    signals.exit_program(run_command(lambda: train(*sys.argv[1:])))
