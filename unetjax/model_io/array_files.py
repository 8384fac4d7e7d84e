"""Arrays by name in one .npz file, of which nothing unexpected is read."""

import math
import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from unetjax.files import limits

_LONGEST_HEADER = 2**14  # bytes of type and shape in front of an array
_ENDING = ".npy"


@runtime_checkable
class Described(Protocol):
    """What has a shape and a type, such as an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The sides."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """The type of the values."""
        ...


def write(
    path: str | os.PathLike[str], arrays: Mapping[str, Shaped[np.ndarray, "..."]]
) -> None:
    """Writes arrays by name into a new file, always the same bytes for the same arrays.

    The arrays are not compressed.
    """
    np.savez(path, allow_pickle=False, **arrays)


def read(
    path: str | os.PathLike[str], expected: Mapping[str, Described]
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Returns the arrays of a file, which must be those expected and no others.

    Names, sizes, types and shapes are checked before memory is allocated.

    Raises:
      ValueError: If the file is damaged, or has other arrays.
    """
    path = pathlib.Path(path)
    limits.check_regular(path)
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            names = [member.filename.removesuffix(_ENDING) for member in members]
            stored = [member.filename for member in members]
            if sorted(stored) != sorted(f"{name}{_ENDING}" for name in expected):
                wrong = sorted(set(names) ^ expected.keys()) or stored
                raise ValueError(
                    f"{wrong[0]} is "
                    f"{'missing' if wrong[0] in expected else 'not part of it'}."
                )
            return {
                name: _read_member(file, member, name, expected[name])
                for name, member in zip(names, members, strict=True)
            }
    # RuntimeError: encryption; NotImplementedError, a subclass: an unknown compression.
    except (OSError, EOFError, zipfile.BadZipFile, RuntimeError) as error:
        raise ValueError(f"it is damaged ({error}).") from error


def difference(
    arrays: Mapping[str, Described], expected: Mapping[str, Described]
) -> str:
    """Returns the first difference of two sets of arrays, or "".

    Example:
      >>> difference({"a": np.zeros(2)}, {"a": np.zeros(3)})
      'a must be float64 [3], got float64 [2]'
    """
    for name in sorted(expected.keys() | arrays.keys()):
        right, actual = (
            _describe(each[name]) if name in each else "nothing"
            for each in (expected, arrays)
        )
        if actual != right:
            return f"{name} must be {right}, got {actual}"
    return ""


def _read_member(
    file: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, expected: Described
) -> Shaped[np.ndarray, "..."]:
    dtype = np.dtype(expected.dtype)
    num_bytes = dtype.itemsize * math.prod(expected.shape)
    size = member.file_size
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed, expected an array as it is.")
    if not num_bytes < size <= num_bytes + _LONGEST_HEADER:
        raise ValueError(
            f"{name} must be {_describe(expected)}, got an array of "
            f"{limits.format_bytes(size)}."
        )
    with file.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"{name} has version {version}, expected (1, 0).")
        shape, is_fortran, given = np.lib.format.read_array_header_1_0(
            stream, max_header_size=_LONGEST_HEADER
        )
        if is_fortran or given != dtype or shape != tuple(expected.shape):
            raise ValueError(
                f"{name} must be {_describe(expected)}, got {given} {list(shape)}."
            )
        values = np.frombuffer(stream.read(), dtype=dtype)
    return values.reshape(expected.shape)


def _describe(array: Described) -> str:
    return f"{array.dtype} {list(array.shape)}"
