"""Arrays on disk, in chunks, by TensorStore: Zarr of versions 2 and 3."""

import math
import pathlib
import shutil
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from unetjax.files import json_files, limits

_CONCURRENCY = 2  # of decoding: more chunks at once take more memory


class StoredArray(NamedTuple):
    """An array on disk.

    Attributes:
      store: Its handle in TensorStore.
      path: Its folder.
    """

    store: Any
    path: pathlib.Path

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.store.shape)

    @property
    def dtype(self) -> np.dtype:
        """The type of its values."""
        return np.dtype(self.store.dtype.numpy_dtype)

    def crop(self, height: int, width: int) -> "StoredArray":
        """Returns its first rows and columns, as an array of which parts are read."""
        return StoredArray(self.store[:height, :width], self.path)

    def read(self, *index: slice | int) -> Shaped[np.ndarray, "..."]:
        """Returns a part of it; chunks that were never written hold zeros.

        Raises:
          ValueError: If a chunk is damaged.
        """
        try:
            return np.asarray(self.store[index].read().result())
        except (ValueError, OSError) as error:
            raise ValueError(
                f"{self.path} is damaged ({_first_line(error)}); if it is an image, "
                "export it again, else delete this folder."
            ) from error

    def write(self, values: Shaped[np.ndarray, "..."], *index: slice | int) -> None:
        """Writes a part of it, and waits until that is done."""
        self.store[index].write(np.ascontiguousarray(values)).result()


def is_zarr(path: pathlib.Path) -> bool:
    """Returns whether a folder is a Zarr array or group."""
    return any((path / name).is_file() for name in (".zarray", ".zgroup", "zarr.json"))


def is_array(path: pathlib.Path) -> bool:
    """Returns whether a Zarr is an array, not a group.

    Raises:
      ValueError: If its metadata are damaged.
    """
    if version(path) == 2:
        return (path / ".zarray").is_file()
    found = json_files.read(path / "zarr.json")
    return isinstance(found, dict) and found.get("node_type") == "array"


def version(path: pathlib.Path) -> int:
    """Returns the version of the format of a Zarr array or group, 2 or 3."""
    return 3 if (path / "zarr.json").is_file() else 2


def create_anew(
    path: pathlib.Path,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: np.typing.DTypeLike,
) -> StoredArray:
    """Creates an array of zeros; one that an interrupted call left there is deleted."""
    if is_zarr(path):
        shutil.rmtree(path)
    return create(path, shape, chunks, dtype)


def create(
    path: pathlib.Path,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: np.typing.DTypeLike,
    *,
    zarr: int = 3,
) -> StoredArray:
    """Creates an array of zeros, or opens the same array of an earlier call.

    Args:
      path: Its folder.
      shape: Its shape.
      chunks: Shape of a chunk, which is stored as one file.
      dtype: Type of its values.
      zarr: Version of the format.
    """
    if zarr == 3:
        codecs = [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 1, "checksum": True}},
        ]
        grid = {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}
        metadata = {"chunk_grid": grid, "codecs": codecs}
    else:
        metadata = {
            "chunks": list(chunks),
            "compressor": {"id": "zstd", "level": 1},
            "dimension_separator": "/",
        }
    return _open(
        path,
        zarr,
        {
            "metadata": {"shape": list(shape), **metadata},
            "dtype": np.dtype(dtype).name,
        },
        create=True,
    )


def open_array(path: pathlib.Path) -> StoredArray:
    """Opens a Zarr array.

    Raises:
      ValueError: If it is damaged, has chunks that do not fit into memory, or values
        that are no numbers.
    """
    try:
        found = _open(path, version(path), {})
    except Exception as error:  # TensorStore raises several types
        raise ValueError(
            f"{path} cannot be read as a Zarr array ({_first_line(error)}); export it "
            "again."
        ) from error
    if found.dtype.kind not in "buif":
        raise ValueError(
            f"{path} has values of type {found.dtype}; accepted are integers and real "
            "numbers."
        )
    chunk = math.prod(found.store.chunk_layout.read_chunk.shape) * found.dtype.itemsize
    memory = limits.installed_memory()
    if memory is not None and chunk > memory // 8:
        raise ValueError(
            f"{path} has chunks of {limits.format_bytes(chunk)}, more than an eighth "
            f"of the {limits.format_bytes(memory)} of this machine; rechunk it."
        )
    return found


def read_attributes(path: pathlib.Path) -> dict[str, Any]:
    """Returns the attributes of a Zarr array or group.

    Raises:
      ValueError: If they are damaged.
    """
    if version(path) == 3:
        found = json_files.read(path / "zarr.json")
        found = found.get("attributes", {}) if isinstance(found, dict) else None
    else:
        named = path / ".zattrs"
        found = json_files.read(named) if named.exists() else {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: its attributes are no JSON object.")
    return found


def _open(
    path: pathlib.Path, version: int, spec: dict[str, Any], *, create: bool = False
) -> StoredArray:
    import tensorstore  # heavy, and used for large images only

    spec = {
        "driver": "zarr3" if version == 3 else "zarr",
        "kvstore": {"driver": "file", "path": f"{path.absolute()}/"},
        "context": {"data_copy_concurrency": {"limit": _CONCURRENCY}},
        **spec,
    }
    opened = tensorstore.open(spec, open=True, create=create)
    return StoredArray(opened.result(), path)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
