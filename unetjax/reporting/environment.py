"""Where a run was computed: versions, commit, devices; one entry for every start."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
from typing import Any

import jax

from unetjax.files import folders

FILE = "environment.json"
_SECONDS = 10  # that git may take


def environment() -> dict[str, str]:
    """Returns what the numbers of a run may depend on, by names for people."""
    device = jax.local_devices()[0]
    commit = _commit(pathlib.Path(__file__).parents[2])
    return {
        **({"commit": commit} if commit else {}),
        "Python": platform.python_version(),
        **_versions(),
        "devices": f"{jax.local_device_count()} x {device.device_kind}",
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "compiler flags": os.environ.get("XLA_FLAGS", ""),
    }


def note_start(workdir: pathlib.Path, *, seed: int, step: int) -> None:
    """Adds an entry to the `environment.json` of a run folder, a list in JSON.

    Args:
      workdir: The run folder.
      seed: Of the run.
      step: Where the run starts: 0, or the step that it goes on from.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    entry = {"started": now, "step": step, "seed": seed, **environment()}
    entries = [*read_starts(workdir), entry]
    with folders.write_atomically(workdir / FILE, replace=True) as temporary:
        temporary.write_text(json.dumps(entries, indent=2) + "\n")


def read_starts(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the entries of a run folder, the first start first."""
    path = workdir / FILE
    return json.loads(path.read_text()) if path.exists() else []


def _versions() -> dict[str, str]:
    """Versions of this package and of what it depends on."""
    needs = importlib.metadata.requires("unetjax") or []
    names = [re.split(r"[^\w.-]", need)[0] for need in needs if "extra ==" not in need]
    versions = {}
    for name in ["unetjax", "jaxlib", *names]:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # not needed on this system
            continue
    return versions


def _commit(root: pathlib.Path) -> str:
    """The commit of a checkout; "" for an installed package, or if git does not say."""
    if not (root / ".git").exists():
        return ""
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *words],
                capture_output=True,
                check=True,
                text=True,
                timeout=_SECONDS,
            ).stdout.strip()
            for words in (
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no"],
            )
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit}, with changes" if changes else commit
