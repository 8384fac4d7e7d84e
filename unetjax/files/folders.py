"""Writing without half files and without two writers."""

import contextlib
import itertools
import json
import os
import pathlib
import secrets
import socket
from collections.abc import Iterator

LOCK = ".unetjax.lock"  # holds pid and host of the run that writes into a folder


class FolderInUseError(FileExistsError):
    """Another process holds the folder."""


@contextlib.contextmanager
def write_atomically(
    path: str | os.PathLike[str], *, replace: bool = False
) -> Iterator[pathlib.Path]:
    """Yields a temporary name in the same folder, renamed to `path` at the end.

    A file under its final name is therefore complete. When the block fails, `path` is
    as it was before and the temporary file is gone.

    Args:
      path: The final name; its folder must exist.
      replace: Whether an existing file may be replaced. Only for files of our own
        runs, never for a name that a person gave.

    Raises:
      FileExistsError: If `path` exists and `replace` is false.
      FileNotFoundError: If the folder does not exist.
    """
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path} cannot be written: the folder {path.parent} does not exist; "
            "create it first."
        )
    if not replace:
        _refuse_existing(path)
    # Hidden, so that nobody takes it for data; same suffix, as writers look at it.
    name = f".{path.stem}.{secrets.token_hex(4)}{path.suffix}"
    temporary = path.with_name(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if not replace:
            _refuse_existing(path)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def claim(folder: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields the folder, created if need be, while no other process may claim it.

    A lock file names the process. What a dead process of this machine left behind is
    taken over; a process of another machine counts as alive.

    Raises:
      FolderInUseError: If another process holds the folder.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / LOCK
    owner = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
    _remove_stale(lock)
    try:
        with lock.open("x") as file:
            file.write(owner)
    except FileExistsError:
        raise FolderInUseError(_in_use(lock)) from None
    try:
        yield folder
    finally:
        if lock.exists() and lock.read_text() == owner:
            lock.unlink()


def new_run_dir(
    folder: str | os.PathLike[str], *, prefix: str = "run_"
) -> pathlib.Path:
    """Makes and returns the first of run_000, run_001, ... that is free in a folder.

    Of several processes that ask at once, each gets a folder of its own.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        path = folder / f"{prefix}{number:03d}"
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError  # counting has no end


def _refuse_existing(path: pathlib.Path) -> None:
    if path.exists() or path.is_symlink():
        raise FileExistsError(
            f"{path} exists already and is not overwritten; choose another name or "
            "move it away."
        )


def _remove_stale(lock: pathlib.Path) -> None:
    """Removes a lock whose process is dead, even if several processes try at once."""
    owner = _owner(lock)
    if owner is None or _may_be_alive(*owner):
        return
    aside = lock.with_name(f"{lock.name}.{secrets.token_hex(4)}")
    with contextlib.suppress(FileNotFoundError):  # somebody else was faster
        lock.rename(aside)
        if _owner(aside) == owner:
            aside.unlink()
        else:  # a fresh lock appeared in between: give it back
            aside.rename(lock)


def _owner(lock: pathlib.Path) -> tuple[int, str] | None:
    try:
        fields = json.loads(lock.read_text())
        return int(fields["pid"]), str(fields["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _may_be_alive(pid: int, host: str) -> bool:
    # On Windows a signal of 0 would end the process instead of asking for it.
    if host != socket.gethostname() or os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _in_use(lock: pathlib.Path) -> str:
    owner = _owner(lock)
    who = f"process {owner[0]} on {owner[1]}" if owner else "an unknown process"
    return (
        f"{lock.parent} is in use by {who}; wait for it to end, choose another folder, "
        f"or, if you know that it has ended, delete {lock}."
    )
