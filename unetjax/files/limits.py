"""Size limits of image files, checked before memory is allocated."""

import math
import os
import pathlib

MAX_RATIO = 10_000  # decoded bytes for each byte of the file; deflate reaches 1,032


def check_size(path: pathlib.Path, num_bytes: int) -> None:
    """Refuses a file whose header claims more than is plausible or fits in memory.

    Args:
      path: The file, for its size and for the message.
      num_bytes: Size of the decoded pixels in bytes, as the header declares it.

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
    if memory is not None and num_bytes > memory // 2:
        raise ValueError(
            f"{path} needs {format_bytes(num_bytes)} of memory, more than half of the "
            f"{format_bytes(memory)} of this machine; split it into smaller images."
        )


def installed_memory() -> int | None:
    """Returns the memory of this machine in bytes; None if it is unknown."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # no sysconf on Windows
        return None


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
