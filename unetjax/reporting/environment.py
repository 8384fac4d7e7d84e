"""Environment of a run: versions, commit and devices, noted at every start."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
import warnings
from typing import Any

import jax

from unetjax.files import json_files

FILE = "environment.json"
_GIT_TIMEOUT = 10  # seconds


def environment() -> dict[str, str]:
    """Returns what the results of a run may depend on, by readable names."""
    device, processes = jax.local_devices()[0], jax.process_count()
    shared = f" in {processes} processes" if processes > 1 else ""
    commit = _commit(pathlib.Path(__file__).parents[2])
    return {
        **({"commit": commit} if commit else {}),
        "Python": platform.python_version(),
        **_versions(),
        "devices": f"{jax.device_count()} x {device.device_kind}{shared}",
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "compiler flags": os.environ.get("XLA_FLAGS", ""),
    }


def note_start(workdir: pathlib.Path, *, seed: int, step: int) -> None:
    """Appends an entry to the list in the `environment.json` of a run folder.

    Args:
      workdir: The run folder.
      seed: Seed of the run.
      step: Step at which the run starts (0) or resumes.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    entry = {"started": now, "step": step, "seed": seed, **environment()}
    json_files.write(workdir / FILE, [*read_starts(workdir), entry])


def read_starts(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the entries of a run folder in the order of starts.

    The file decides nothing: if it is damaged, a warning is issued and none returned.
    """
    path = workdir / FILE
    if not path.exists():
        return []
    try:
        entries = json_files.read(path)
        if all("step" in entry for entry in entries):
            return [dict(entry) for entry in entries]
    except (ValueError, TypeError):
        pass
    warnings.warn(f"{path} is damaged; earlier starts are forgotten.", stacklevel=2)
    return []


def _versions() -> dict[str, str]:
    """Returns the versions of this package and of its dependencies."""
    needs = importlib.metadata.requires("unetjax") or []
    names = [re.split(r"[^\w.-]", need)[0] for need in needs if "extra ==" not in need]
    versions = {}
    for name in ["unetjax", "jaxlib", *names]:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # not required on this system
            continue
    return versions


def _commit(root: pathlib.Path) -> str:
    """Returns the commit of a checkout; "" if this is none, or if git fails."""
    if not (root / ".git").exists():
        return ""
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *args],
                capture_output=True,
                check=True,
                text=True,
                timeout=_GIT_TIMEOUT,
            ).stdout.strip()
            for args in (
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no"],
            )
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit}, with changes" if changes else commit
