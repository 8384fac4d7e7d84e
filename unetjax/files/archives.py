"""Zip archives: SHA-256 checksums, and unpacking as a whole or not at all."""

import errno
import hashlib
import os
import pathlib
import tempfile
import zipfile
import zlib

MAX_BYTES = 8 << 30  # of all files together; far above every public data set here
MAX_FILES = 200_000


def sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file as 64 hexadecimal digits."""
    with pathlib.Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
) -> None:
    """Unpacks a zip archive into a new folder.

    The folder appears by one rename when everything is in it: a folder of that name is
    complete, and after a failure there is none. Names and declared sizes are checked
    before anything is written; `zipfile` reads no more of a file than it declares, and
    writes a symbolic link as a plain file.

    Args:
      archive: The zip file.
      folder: The folder to make; its parent folders are made as well.
      max_bytes: Largest total size of the files.
      max_files: Largest number of files and folders.

    Raises:
      ValueError: If the archive is damaged, too large, or has files outside the folder.
    """
    archive, folder = pathlib.Path(archive), pathlib.Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=f".{folder.name}."
    ) as temporary:
        contents = pathlib.Path(temporary) / "contents"
        contents.mkdir()
        try:
            with zipfile.ZipFile(archive) as file:
                _check_count(archive, file)
                problem = _problem(file.infolist(), max_bytes, max_files)
                if not problem:
                    file.extractall(contents)
        # RuntimeError: encryption, or a compression method that is not supported.
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise _damaged(archive) from error
        except OSError as error:
            # EINVAL: a damaged offset. Others are the system's, such as a full disk.
            if error.errno not in (None, errno.EINVAL):
                raise
            raise _damaged(archive) from error
        if problem:
            raise ValueError(
                f"{archive} {problem}; it was not unpacked, download it from its "
                "publisher."
            )
        contents.rename(folder)


def _problem(
    members: list[zipfile.ZipInfo], max_bytes: int, max_files: int
) -> str | None:
    """Returns why an archive must not be unpacked."""
    if len(members) > max_files:
        return f"has more than {max_files:,} files and folders"
    if sum(member.file_size for member in members) > max_bytes:
        return f"unpacks to more than {max_bytes:,} bytes"
    for member in members:
        if not member.filename:
            return "holds a file without a name"
        path = pathlib.PureWindowsPath(member.filename)  # splits at both / and \
        if path.anchor or ".." in path.parts:
            return f"holds {member.filename!r}, which lies outside of its folder"
    return None


def _check_count(archive: pathlib.Path, file: zipfile.ZipFile) -> None:
    """Compares the number of members with that in the end record of the archive.

    zipfile silently skips members where a length field of the directory is damaged.
    """
    with archive.open("rb") as stream:
        stream.seek(-22 - len(file.comment), os.SEEK_END)  # the end record
        count = int.from_bytes(stream.read(12)[10:], "little")
    if count not in (len(file.infolist()), 0xFFFF):  # 0xFFFF: too many for the field
        raise zipfile.BadZipFile("members are missing")


def _damaged(archive: pathlib.Path) -> ValueError:
    return ValueError(f"{archive} is damaged or not a zip archive; download it again.")
