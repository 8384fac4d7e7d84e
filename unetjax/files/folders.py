"""Atomic writing of files, and locks by which one process at a time uses a folder."""

import contextlib
import itertools
import math
import os
import pathlib
import re
import secrets
import shutil
import socket
from collections.abc import Iterator

import filelock

LOCK = ".unetjax.lock"  # stays in the folder; it is the kernel's lock on it that counts
_POLL = 0.1  # seconds
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{8}(\..*)?")


class FolderInUseError(FileExistsError):
    """Another process holds the folder."""


@contextlib.contextmanager
def write_atomically(
    path: str | os.PathLike[str], *, replace: bool = False
) -> Iterator[pathlib.Path]:
    """Yields a temporary name in the same folder, renamed to `path` at the end.

    A file under its final name is therefore complete. If the block raises, `path` is
    unchanged and the temporary file is deleted.

    Args:
      path: The final name; its folder must exist.
      replace: Whether an existing file may be replaced. Only for files that a run has
        written itself, never for a path that the user has given.

    Raises:
      FileExistsError: If `path` exists and `replace` is false.
      FileNotFoundError: If the folder does not exist.
    """
    path = pathlib.Path(path)
    _check_parent(path)
    if not replace:
        _refuse_existing(path)
    # Hidden, so that it is not taken for data. Writers choose a format by the suffix.
    name = f".{path.stem}.{secrets.token_hex(4)}{path.suffix}"
    temporary = path.with_name(name)
    try:
        yield temporary
        _sync_file(temporary)
        if not replace:
            _refuse_existing(path)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(folder: str | os.PathLike[str]) -> None:
    """Lets renames in a folder survive a power loss, where the system can do that."""
    with contextlib.suppress(OSError):  # Windows opens no folders, some mounts no sync
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_files(folder: pathlib.Path) -> None:
    """Waits until the files of a folder, and their names, are on disk."""
    for path in folder.iterdir():
        _sync_file(path)
    sync(folder)


def _sync_file(path: pathlib.Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def remove_temporaries(folder: str | os.PathLike[str]) -> None:
    """Deletes what killed processes left behind in `write_atomically`.

    To be called while no other process writes into the folder.
    """
    folder = pathlib.Path(folder)
    for path in folder.iterdir() if folder.is_dir() else ():
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()


def set_aside(path: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Moves a damaged file or folder into a folder, and returns its new path."""
    folder.mkdir(exist_ok=True)
    names = (f"{path.name}-{i}" for i in itertools.count(1))
    target = next(p for p in map(folder.joinpath, names) if not p.exists())
    path.rename(target)
    sync(folder)
    sync(path.parent)
    return target


@contextlib.contextmanager
def claim(
    folder: str | os.PathLike[str], *, timeout: float = 0.0
) -> Iterator[pathlib.Path]:
    """Yields the folder, created if need be, while no other process may claim it.

    The kernel holds the lock (`flock`, on Windows a locked byte range) and releases it
    when the process ends, however it ends. It is exclusive between machines as well on
    NFS under Linux (version 4, or 3 with its lock daemon) and on Lustre mounted with
    `flock`, but not where the mount says `nolock` or `local_lock`: there it keeps out
    processes of the same machine only. File systems without `flock` get the existence
    of a file instead (`filelock.SoftFileLock`).

    Args:
      folder: The folder.
      timeout: Seconds to wait while another process holds it; `math.inf` for no limit.

    Raises:
      FileExistsError: If it is a file.
      FolderInUseError: If another process still holds the folder after that time.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; name a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    # The file is never deleted: a process that had opened it before would then hold a
    # lock on a file without a name, and the next one a lock on a new file of that name.
    lock = filelock.FileLock(path, thread_local=False)
    owner = _owner(path)  # before the attempt, in which filelock 3 empties the file
    try:
        lock.acquire(-1 if math.isinf(timeout) else timeout, poll_interval=_POLL)
    except filelock.Timeout:
        raise FolderInUseError(
            f"{folder} is in use by {_owner(path) or owner or 'another process'}; wait "
            "for it to end or choose another folder."
        ) from None
    try:
        with contextlib.suppress(OSError):  # Windows refuses to write a locked file
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        yield folder
    finally:
        lock.release()


def is_unused(folder: str | os.PathLike[str]) -> bool:
    """Returns whether a folder is missing, empty, or was claimed and never written to.

    A process that was killed early leaves its lock file and files under temporary
    names; neither makes the folder count as used.
    """
    folder = pathlib.Path(folder)
    return not folder.exists() or all(
        path.name == LOCK or _TEMPORARY.fullmatch(path.name)
        for path in folder.iterdir()
    )


def check_new(path: str | os.PathLike[str]) -> None:
    """Refuses the name of a file that could not be written, before work is done for it.

    Raises:
      FileExistsError: If the file exists.
      FileNotFoundError: If its folder does not exist.
    """
    path = pathlib.Path(path)
    _check_parent(path)
    _refuse_existing(path)


def check_space(folder: str | os.PathLike[str], num_bytes: int) -> None:
    """Refuses to begin what would fill the disk.

    Raises:
      OSError: If the disk of the folder has less space left.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise OSError(
            f"the disk of {folder} has {free / 1e6:,.0f} MB left and "
            f"{num_bytes / 1e6:,.0f} MB are needed; free some space and run the same "
            "command again."
        )


def _check_parent(path: pathlib.Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path} cannot be written: the folder {path.parent} does not exist; "
            "create it first."
        )


def _refuse_existing(path: pathlib.Path) -> None:
    if path.exists() or path.is_symlink():
        raise FileExistsError(
            f"{path} exists already and is not overwritten; choose another name or "
            "move it."
        )


def _owner(lock: pathlib.Path) -> str | None:
    """Returns who wrote a lock file, for messages only: the text decides nothing."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        match = re.fullmatch(r"process \d+ on \S+", lock.read_text().strip())
        if match:
            return match.group()
    return None
