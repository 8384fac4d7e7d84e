"""Manifests: SHA-256 checksums of all files of a folder, to detect corruption."""

import json
import os
import pathlib

from unetjax.files import archives, folders

MANIFEST = "manifest.json"


class CorruptFilesError(ValueError):
    """The files of a folder do not agree with its manifest."""


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
    with folders.write_atomically(folder / MANIFEST, replace=True) as temporary:
        temporary.write_text(json.dumps({"sha256": digests}, indent=2) + "\n")


def verify_manifest(folder: str | os.PathLike[str]) -> None:
    """Checks every file in the manifest of `folder`; other files are ignored.

    Raises:
      CorruptFilesError: If the manifest is absent or unreadable, or if files are
        missing, changed or outside of the folder; all of them are named.
    """
    folder = pathlib.Path(folder)
    problems = []
    for name, digest in _read(folder / MANIFEST).items():
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
        digests = json.loads(manifest.read_text())["sha256"]
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
    return archives.sha256(path)
