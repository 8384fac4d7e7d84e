"""Large pages of memory, which a process has to ask for when it starts."""

import os
import pathlib
import sys
from collections.abc import Mapping

_VARIABLE = "GLIBC_TUNABLES"
_TUNABLE = "glibc.malloc.hugetlb"
_SETTING = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def ask() -> None:
    """Starts the program again with large pages, where they must be asked for.

    Every step of a training on a CPU takes its memory from the system and gives it
    back. In pages of 4 KB that is a tenth to a fifth of its time, in pages of 2 MB next
    to nothing. Linux gives large pages always, or to those who ask, or never; the C
    library asks if a variable says so when the process starts. Does nothing where there
    is nothing to ask for. To be called before anything is done, and by programs only:
    what was imported is imported again.
    """
    try:
        setting = _SETTING.read_text()
    except OSError:
        return
    environment = asking(os.environ, setting)
    if environment is not None:
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, environment)


def asking(environment: Mapping[str, str], setting: str) -> dict[str, str] | None:
    """Returns the environment of a process that asks; None if there is no need.

    Args:
      environment: That of this process; what its user has said on the matter stands.
      setting: What the system says, such as `always [madvise] never`.

    Example:
      >>> asking({}, "always [madvise] never")
      {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'}
      >>> asking({}, "[always] madvise never")
    """
    said = environment.get(_VARIABLE, "")
    if "[madvise]" not in setting or _TUNABLE in said:
        return None
    tunables = [said] if said else []
    return {**environment, _VARIABLE: ":".join([*tunables, f"{_TUNABLE}=1"])}
