"""What an entry point sets before JAX starts: compiler flags and caches."""

import contextlib
import hashlib
import os
import pathlib
import platform
import stat
import sys
from collections.abc import Iterator

import jax
import jaxlib

# jaxlib versions known to accept the flag; an unknown flag aborts the process.
_YNN_VERSIONS = {"0.10.1", "0.10.2", "0.11.0", "0.12.0.1"}
_YNN_FLAG = "--xla_cpu_experimental_ynn_fusion_type="
_DETERMINISTIC_FLAG = "--xla_gpu_deterministic_ops="
_CACHE_BYTES = 2**31  # of compiled programs; the least recently used one goes first


def prepare() -> None:
    """Sets what every entry point needs: to be called before the first computation."""
    set_compiler_flags()
    keep_compiled_programs()


def set_compiler_flags(*, deterministic: bool = False) -> None:
    """Appends to XLA_FLAGS what right and fast numbers need on the CPU.

    With its default fusions, jaxlib 0.10.2 computes some vmapped reductions wrongly
    (jax-ml/jax#39103) and runs float32 convolutions two to three times slower. To be
    called before the first computation; a value the user has set is respected.

    Args:
      deterministic: Whether a GPU shall compute equal programs to equal bits; slower.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if jaxlib.__version__ in _YNN_VERSIONS and _YNN_FLAG not in flags:
        flags = f"{flags} {_YNN_FLAG}"
    if deterministic and _DETERMINISTIC_FLAG not in flags:
        flags = f"{flags} {_DETERMINISTIC_FLAG}true"
    os.environ["XLA_FLAGS"] = flags.strip()


@contextlib.contextmanager
def silent_compiler() -> Iterator[None]:
    """Discards what XLA logs, such as that a compilation is slow; errors are raised."""
    if sys.stderr is None:  # closed by the shell
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)  # XLA knows the file descriptor only
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def check_deterministic(platform: str) -> None:
    """Refuses a platform that would not repeat a run bit for bit.

    Args:
      platform: Where it would be computed, such as `jax.default_backend()`.

    Raises:
      ValueError: On a GPU, if the compiler was not told in time.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    if platform == "gpu" and f"{_DETERMINISTIC_FLAG}true" not in flags:
        raise ValueError(
            "config.deterministic needs the compiler flag "
            f"{_DETERMINISTIC_FLAG}true on a GPU: call "
            "unetjax.devices.runtime.set_compiler_flags(deterministic=True) before the "
            "first computation, or set XLA_FLAGS."
        )


def keep_compiled_programs() -> None:
    """Lets a program that was compiled once start at once the next time.

    Programs are kept below the user's cache folder, XDG_CACHE_HOME or ~/.cache, in a
    folder that nobody else may write, because what is read from it is executed; one for
    each kind of processor, as home folders are shared by machines. Where no such folder
    can be had, nothing is kept. A folder that the user has named by
    JAX_COMPILATION_CACHE_DIR is respected.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        cache = pathlib.Path(home).expanduser()
    except RuntimeError:  # no HOME, and no entry in the list of users
        return
    folder = cache / "unetjax" / f"xla-{_processor()}"
    if _make_private(folder):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_compilation_cache_max_size", _CACHE_BYTES)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _make_private(folder: pathlib.Path) -> bool:
    """Makes a folder that only its user may write; whether there is one now."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    if not hasattr(os, "getuid"):  # Windows: a user's folders are private there
        return stat.S_ISDIR(found.st_mode)
    others_may_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return is_ours and not others_may_write


def _processor() -> str:
    """A name for what compiled programs may use of this processor."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = list[str]()
    features = next((x for x in lines if x.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256(features.encode() + platform.processor().encode())
    return f"{platform.machine()}-{digest.hexdigest()[:8]}"
