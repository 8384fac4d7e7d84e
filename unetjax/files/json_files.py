"""Reading and writing of JSON files that may be damaged or come from others."""

import hashlib
import json
import os
import pathlib
from typing import Any

from unetjax.files import folders, limits

_LARGEST = 2**28  # bytes; a manifest of a million files has half of it


class CorruptFilesError(ValueError):
    """Files are missing, damaged, or not those that were written."""


def read(path: str | os.PathLike[str]) -> Any:  # noqa: ANN401
    """Returns the contents of a JSON file.

    Raises:
      FileNotFoundError: If there is no such file.
      CorruptFilesError: If it is no JSON, too large or nested too deeply.
      ValueError: If it is no regular file.
    """
    path = pathlib.Path(path)
    size = limits.check_regular(path)
    if size > _LARGEST:
        raise CorruptFilesError(
            f"{path} is damaged: it has {limits.format_bytes(size)}, expected at most "
            f"{limits.format_bytes(_LARGEST)}."
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise CorruptFilesError(
            f"{path} is damaged: it is nested too deeply."
        ) from None
    except ValueError as error:
        raise CorruptFilesError(f"{path} is damaged ({error}).") from error


def write(path: str | os.PathLike[str], data: object) -> None:
    """Writes data as a JSON file, complete or not at all; an existing one is replaced.

    Only for files that a run has written itself, never for a path of the user.
    """
    with folders.write_atomically(path, replace=True) as temporary:
        temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def digest(data: object) -> str:
    """Returns the SHA-256 of JSON data, whatever the order of the keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
