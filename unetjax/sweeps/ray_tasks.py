"""Trials of a sweep as tasks of a Ray cluster, which schedules and repeats them.

A task runs one trial in its folder, as a local worker does. If its node dies, Ray runs
it again on another one, where the trial resumes from its latest checkpoint. The folder
of the sweep must be on a file system that all nodes share.
"""

import logging
import os
import pathlib
import shlex
import types
from collections.abc import Sequence

from unetjax.devices import runtime
from unetjax.reporting.report import Table
from unetjax.sweeps import results, workers
from unetjax.sweeps.trials import Trial
from unetjax.sweeps.workers import Sweep

_log = logging.getLogger(__name__)


def run(sweep: Sweep, trials: Sequence[Trial], *, cpus: float, gpus: float) -> Table:
    """Runs trials as Ray tasks, and returns the table of the sweep.

    Ray finds its cluster by RAY_ADDRESS, or by what runs on this machine; where there
    is none, it starts one on this machine.

    Args:
      sweep: What trials have in common.
      trials: The trials; those that have ended are skipped.
      cpus: Cores that Ray reserves for each trial.
      gpus: GPUs that each trial sees, and shares with no other; 0 for none.

    Raises:
      ModuleNotFoundError: If Ray is not installed.
      ValueError: If no node of the cluster has so many cores or GPUs.
      Exception: What ends a run apart from divergence, see `experiment.run`.
    """
    ray = _import_ray()
    sweep = sweep._replace(folder=sweep.folder.absolute())
    results.open_folder(sweep.folder, sweep.base)
    is_ours = not ray.is_initialized()
    if is_ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported
        ray.init(include_dashboard=False, log_to_driver=False)
    try:
        _check_nodes(ray, cpus, gpus)
        # Endless retries are of tasks whose node or process died, not of errors.
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=-1)(_run_trial)
        here = pathlib.Path.cwd()
        waiting = [task.remote(sweep, trial, here) for trial in trials]
        while waiting:
            ended, waiting = ray.wait(waiting)
            try:
                ray.get(ended)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            done = len(trials) - len(waiting)
            _log.info("%d of %d trials have ended.", done, len(trials))
    finally:
        if is_ours:
            ray.shutdown()
    return results.write(sweep.folder, sweep.base, command=shlex.join(sweep.origin))


def _run_trial(sweep: Sweep, trial: Trial, folder: pathlib.Path) -> None:
    """Runs a trial in a process of Ray, with paths relative to a folder."""
    os.chdir(folder)
    runtime.set_compiler_flags(deterministic=trial.config.deterministic)
    runtime.keep_compiled_programs()
    workers.run(sweep, workers.Listed(sweep, [trial]))


def _check_nodes(ray: types.ModuleType, cpus: float, gpus: float) -> None:
    """Refuses what would wait for ever: more than any node has."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(n.get("CPU", 0) >= cpus and n.get("GPU", 0) >= gpus for n in nodes):
        return
    found = "; ".join(f"{n.get('CPU', 0):g} and {n.get('GPU', 0):g}" for n in nodes)
    raise ValueError(
        f"no node of the Ray cluster has {cpus:g} cores and {gpus:g} GPUs, which a "
        f"trial needs (found: {found}); lower --cpus and --gpus."
    )


def _import_ray() -> types.ModuleType:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'sweeps on a Ray cluster need Ray: pip install "unetjax[ray]".'
        ) from error
    return ray
