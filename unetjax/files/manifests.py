"""Manifests: SHA-256 checksums of all files of a folder, to detect corruption."""

import os
import pathlib
from collections.abc import Collection

from unetjax.files import archives, folders, json_files, limits
from unetjax.files.json_files import CorruptFilesError

MANIFEST = "manifest.json"


def write_manifest(folder: str | os.PathLike[str]) -> None:
    """Writes the SHA-256 of every file below `folder` into its manifest.json.

    An existing manifest is replaced. The manifest itself and lock files are left out.

    Raises:
      ValueError: If a link leads to a file outside of the folder.
    """
    folder = pathlib.Path(folder)
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != folders.LOCK
    )
    digests = {name: _digest(folder, name) for name in names if name != MANIFEST}
    json_files.write(folder / MANIFEST, {"sha256": digests})


def verify_manifest(folder: str | os.PathLike[str], names: Collection[str]) -> None:
    """Checks every file in the manifest of `folder`; other files are ignored.

    Args:
      folder: The folder.
      names: The files that the manifest must list, and no others.

    Raises:
      CorruptFilesError: If the manifest is absent or unreadable, if it lists other
        files, or if files are missing, changed or outside of the folder; all of them
        are named.
    """
    folder = pathlib.Path(folder)
    digests = _read(folder / MANIFEST)
    problems = [
        f"{folder / name} is {state} {MANIFEST}"
        for state, names in (
            ("missing in", sorted(set(names) - digests.keys())),
            ("not expected in", sorted(digests.keys() - set(names))),
        )
        for name in names
    ]
    for name, digest in digests.items() if not problems else ():
        try:
            if _digest(folder, name) != digest:
                problems.append(f"{folder / name} has changed")
        except FileNotFoundError:
            problems.append(f"{folder / name} is missing")
        except (OSError, ValueError) as error:
            problems.append(str(error).rstrip("."))
    if problems:
        raise CorruptFilesError(
            f"{'; '.join(problems)}: {folder} is not as it was written; copy or "
            "download it again."
        )


def _read(manifest: pathlib.Path) -> dict[str, str]:
    try:
        digests = json_files.read(manifest)["sha256"]
        return {str(name): str(digest) for name, digest in digests.items()}
    except FileNotFoundError:
        message = f"{manifest} is missing: {manifest.parent} is not complete."
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{manifest} is damaged ({error}): {manifest.parent} cannot be used."
    raise CorruptFilesError(message)


def _digest(folder: pathlib.Path, name: str) -> str:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path} lies outside of {folder}.")
    limits.check_regular(path)
    return archives.sha256(path)
