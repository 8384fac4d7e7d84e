"""Archives: verified by SHA-256, unpacked whole or not at all, never outside."""

import contextlib
import errno
import functools
import hashlib
import lzma
import os
import pathlib
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple


class Limits(NamedTuple):
    """What an archive may become; ours, far above every data set known to us.

    Attributes:
      total_bytes: Bytes of all files together.
      num_files: Files and folders.
      ratio: Bytes of all files over bytes of the archive.
    """

    total_bytes: int = 64 << 30
    num_files: int = 200_000
    ratio: float = 200.0


LIMITS = Limits()


class _Member(NamedTuple):
    name: str
    kind: str  # "file" and "folder" are accepted
    size: int  # bytes, as declared; no reader hands out more
    open: Callable[[], IO[bytes] | None]


def sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file as 64 hexadecimal digits."""
    with pathlib.Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    limits: Limits = LIMITS,
) -> None:
    """Unpacks a zip or tar archive into a new folder.

    The folder appears by one rename when everything is in it: a folder of that name is
    complete, and after a failure there is none. Only plain files and folders are
    accepted, each once and below the folder, and their declared sizes are added up
    before they are written. Permissions and times are not restored.

    Args:
      archive: A zip file, or a tar file, plain or compressed by gzip, bzip2 or xz.
      folder: The folder to make; the folders above it are made as well.
      limits: What the contents may amount to.

    Raises:
      FileExistsError: If the folder exists.
      ValueError: If the archive is damaged or holds something that is refused.
    """
    archive, folder = pathlib.Path(archive), pathlib.Path(folder)
    if folder.exists():
        raise FileExistsError(
            f"{folder} exists and is never overwritten; name a new folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=f".{folder.name}."
    ) as temporary:
        contents = pathlib.Path(temporary) / "contents"
        contents.mkdir()
        for member in _accepted(archive, limits):
            _write(archive, member, contents / member.name)
        contents.rename(folder)


def _accepted(archive: pathlib.Path, limits: Limits) -> Iterator[_Member]:
    """Yields the members, or stops at the first that must not be unpacked."""
    size = archive.stat().st_size
    files, folders = set[pathlib.PurePath](), {pathlib.PurePosixPath()}
    total = 0
    for count, member in enumerate(_members(archive), start=1):
        path = pathlib.PurePosixPath(member.name.casefold())  # as most systems compare
        windows = pathlib.PureWindowsPath(member.name)  # splits at both / and \
        total += member.size
        problem = None
        if count > limits.num_files:
            problem = f"has more than {limits.num_files:,} files and folders"
        elif total > limits.total_bytes:
            problem = f"unpacks to more than {limits.total_bytes:,} bytes"
        elif total > limits.ratio * size:
            problem = f"unpacks to more than {limits.ratio:g} times its {size:,} bytes"
        elif member.kind not in ("file", "folder"):
            problem = f"holds the {member.kind} {member.name!r}"
        elif windows.anchor or ".." in windows.parts:
            problem = f"holds {member.name!r}, which lies outside of its folder"
        elif member.kind == "file" and path in files | folders:
            problem = f"holds {member.name!r} twice"
        elif not files.isdisjoint((path, *path.parents)):
            problem = f"holds {member.name!r} below a file"
        if problem:
            raise ValueError(
                f"{archive} {problem}; it is not unpacked: get the archive from its "
                "publisher."
            )
        folders.update(path.parents)
        (files if member.kind == "file" else folders).add(path)
        yield member


def _write(archive: pathlib.Path, member: _Member, path: pathlib.Path) -> None:
    if member.kind == "folder":
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as target, _reading(archive):
        source = member.open()
        assert source is not None, f"{member.name} is a file"
        with source:
            shutil.copyfileobj(source, target)


def _members(archive: pathlib.Path) -> Iterator[_Member]:
    with archive.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    with _reading(archive):
        yield from _zip_members(archive) if is_zip else _tar_members(archive)


def _zip_members(archive: pathlib.Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        _check_count(archive, file)
        for info in file.infolist():
            open_member = functools.partial(file.open, info)
            yield _Member(info.filename, _zip_kind(info), info.file_size, open_member)


def _check_count(archive: pathlib.Path, file: zipfile.ZipFile) -> None:
    """Compares the members found with the number at the end of the archive.

    zipfile skips members without a word where the length of one before is damaged.
    """
    with archive.open("rb") as stream:
        stream.seek(-22 - len(file.comment), os.SEEK_END)  # the record of the end
        count = int.from_bytes(stream.read(12)[10:], "little")
    if count not in (len(file.infolist()), 0xFFFF):  # 0xFFFF: too many for the field
        raise zipfile.BadZipFile("members are missing")


def _zip_kind(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where no mode was stored
    if info.flag_bits & 1:
        return "encrypted file"
    if kind in (0, stat.S_IFREG, stat.S_IFDIR):
        return "folder" if info.is_dir() else "file"
    return "link" if kind == stat.S_IFLNK else "device"


def _tar_members(archive: pathlib.Path) -> Iterator[_Member]:
    with tarfile.open(archive, "r:*") as file:
        for info in file:
            open_member = functools.partial(file.extractfile, info)
            yield _Member(info.name, _tar_kind(info), info.size, open_member)
        # tarfile takes a broken header for the end; a real end is a block of zeros, and
        # beyond its padding lies the checksum of the compressed stream.
        assert file.fileobj is not None
        file.fileobj.seek(file.offset)
        padding = file.fileobj.read(1 << 20)
        if padding[: tarfile.BLOCKSIZE] != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end of archive")


def _tar_kind(info: tarfile.TarInfo) -> str:
    if info.isfile():
        return "file"
    if info.isdir():
        return "folder"
    return "link" if info.issym() or info.islnk() else "device"


@contextlib.contextmanager
def _reading(archive: pathlib.Path) -> Iterator[None]:
    """Says in one sentence that an archive cannot be read."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,  # a compression that this Python does not know
    ) as error:
        raise _damaged(archive) from error
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # the system's, a full disk say
            raise
        raise _damaged(archive) from error


def _damaged(archive: pathlib.Path) -> ValueError:
    return ValueError(
        f"{archive} is damaged, or neither a zip nor a tar archive; download it again."
    )
