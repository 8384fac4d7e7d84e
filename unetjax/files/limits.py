"""Size limits of image files, checked before memory is allocated."""

import contextlib
import math
import os
import pathlib
import stat

_CONTAINER = pathlib.Path("/sys/fs/cgroup/memory.max")
_TAKEN = pathlib.Path("/proc/self/statm")  # its first number: pages of addresses

MAX_RATIO = 10_000  # decoded bytes for each byte of the file; deflate reaches 1,032


def check_size(path: pathlib.Path, num_bytes: int, *, in_memory: bool = True) -> None:
    """Refuses a file whose header claims more than is plausible or fits in memory.

    Args:
      path: The file, for its size and for the message.
      num_bytes: Size of the decoded pixels in bytes, as the header declares it.
      in_memory: Whether they are to be held in memory.

    Raises:
      ValueError: If the decoded pixels exceed 10,000 bytes for each byte of the file,
        or half of the memory of this machine.
    """
    stored = path.stat().st_size
    if num_bytes > MAX_RATIO * stored:
        raise ValueError(
            f"{path} is damaged: its header claims {format_bytes(num_bytes)} of "
            f"pixels, the file has {format_bytes(stored)}; download or export it again."
        )
    memory = installed_memory()
    if in_memory and memory is not None and num_bytes > memory // 2:
        raise ValueError(
            f"{path} needs {format_bytes(num_bytes)} of memory, more than half of the "
            f"{format_bytes(memory)} of this machine; split it into smaller images."
        )


def check_regular(path: pathlib.Path) -> int:
    """Returns the size of a file in bytes, and refuses what is no regular file.

    Reading a named pipe would wait for ever, reading a device might never end.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is a folder, a named pipe, a socket or a device.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist.") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "named pipe or device"
        raise ValueError(f"{path} is a {kind}, expected a file.")
    return found.st_size


def installed_memory() -> int | None:
    """Returns the memory that this process may use, in bytes; None if it is unknown.

    That is the memory of the machine, or a lower limit of the process or its container.
    """
    try:
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # no sysconf on Windows
        return None
    bounds = [installed, address_space()]
    with contextlib.suppress(OSError, ValueError):  # "max" is no number
        bounds.append(int(_CONTAINER.read_text()))
    return min(bound for bound in bounds if bound is not None)


def address_space() -> int | None:
    """Returns the limit of the addresses of this process, `ulimit -v`, in bytes."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def addresses_left() -> int | None:
    """Returns how many bytes of addresses are left; None if they have no limit.

    A program that takes more is ended by the system, not by an exception, where a
    library in C++ asks for them.
    """
    limit = address_space()
    if limit is None:
        return None
    try:
        taken = int(_TAKEN.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):  # no such file on macOS
        return limit
    return max(limit - taken, 0)


def format_bytes(num_bytes: int) -> str:
    """Returns a number of bytes with a binary unit.

    Example:
      >>> format_bytes(126), format_bytes(10**10)
      ('126 bytes', '9.3 GiB')
    """
    if num_bytes < 1024:
        return f"{num_bytes} bytes"
    power = min(int(math.log(num_bytes, 1024)), 4)
    return f"{num_bytes / 1024**power:.1f} {('', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
