"""The record of a folder of predictions: from what each result was made."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from unetjax.files import archives, folders, json_files

RECORD = "predictions.jsonl"


class PredictionRecord:
    """One JSON object a line: the origin of all results, then what happened to images.

    An image is begun before its results are written, and ended after that. Where a
    process was killed in between, the files are its own and are written again.

    Attributes:
      is_open: Whether images may be begun.

    Args:
      folder: The folder of the results.
      origin: What all results depend on, such as model and options, fit for JSON.
    """

    def __init__(self, folder: pathlib.Path, origin: Mapping[str, Any]) -> None:
        self._folder, self._path = folder, folder / RECORD
        self._origin = json.loads(json.dumps(origin))
        self._found: dict[str, Any] | None = None  # the origin in the file
        self.is_open = False
        self._images = dict[str, dict[str, Any]]()
        for entry in _read(self._path):
            if "image" in entry:
                self._images.setdefault(entry["image"], {}).update(entry)
            else:
                self._found = entry["origin"]

    @property
    def origin(self) -> Mapping[str, Any]:
        """What all results depend on."""
        return self._origin

    def check(self, outputs: Mapping[str, Sequence[str]]) -> None:
        """Refuses a folder in which results would meet files of another origin.

        Args:
          outputs: The names of the files of each image.

        Raises:
          FileExistsError: If a file is not of this record, or has been changed since.
          ValueError: If the record is that of another model or of other options.
        """
        if self._found not in (None, self._origin):
            found = self._found or {}
            changed = [
                f"{name}: {json.dumps(found.get(name))}, now "
                f"{json.dumps(self._origin.get(name))}"
                for name in sorted(found.keys() | self._origin.keys())
                if found.get(name) != self._origin.get(name)
            ]
            raise ValueError(
                f"{self._folder} has results of another model or of other options "
                f"({'; '.join(changed)}); name another --out folder, or replace them "
                "with --overwrite."
            )
        for image, names in outputs.items():
            known = self._images.get(image, {}).get("files", {})
            for name in names:
                path = pathlib.Path(os.path.normpath(self._folder / name))
                if not path.exists():
                    continue
                if name not in known:
                    problem = "exists and is not overwritten"
                elif known[name] not in (None, _digest(path)):
                    problem = "was changed since it was written and is not overwritten"
                else:
                    continue
                raise FileExistsError(
                    f"{path} {problem}; name another --out folder, or replace it with "
                    "--overwrite."
                )

    def open(self, *, overwrite: bool) -> None:
        """Starts or continues the file; the folder must be claimed.

        Args:
          overwrite: Whether the record of another origin is replaced.
        """
        self.is_open = True
        if overwrite and self._found not in (None, self._origin):
            self._found, self._images = None, {}
            self._path.unlink()
        if self._path.exists():  # a killed process may have left half a line
            os.truncate(self._path, len(_complete(self._path.read_bytes())))
        if self._found is None:
            self._append({"origin": self._origin})
        else:
            folders.remove_temporaries(self._folder)

    def has(self, image: str, digest: str) -> bool:
        """Returns whether an image has all its results.

        Raises:
          ValueError: If they were made of other pixels.
        """
        entry = self._images.get(image)
        if entry is None:
            return False
        if entry["input"] != digest:
            raise ValueError(
                f"{image} has other pixels than those of which {self._folder} has the "
                "results; name another --out folder, or replace them with --overwrite."
            )
        return all(
            each is not None and (self._folder / name).exists()
            for name, each in entry["files"].items()
        )

    def begin(
        self,
        image: str,
        digest: str,
        names: Sequence[str],
        source: pathlib.Path | None = None,
    ) -> None:
        """Notes that the files of an image are about to be written.

        Args:
          image: What the names of its results begin with.
          digest: Hash of its pixels.
          names: The files.
          source: The file of the image, from which `recorded_sources` finds it again.
        """
        entry = {"image": image, "input": digest, "files": dict.fromkeys(names)}
        if source is not None:
            entry["source"] = _relative(source, self._folder)
        self._append(entry)

    def end(self, image: str) -> None:
        """Notes the contents of the files of an image."""
        entry = self._images[image]
        files = {name: _digest(self._folder / name) for name in entry["files"]}
        self._append({**entry, "files": files})

    def _append(self, entry: dict[str, Any]) -> None:
        if "image" in entry:
            self._images[entry["image"]] = entry
        line = (json.dumps(entry) + "\n").encode()
        size = self._path.stat().st_size if self._path.exists() else 0
        try:
            # A buffer would write its contents again when the file is closed.
            with self._path.open("ab", buffering=0) as file:
                if file.write(line) != len(line):
                    raise OSError(
                        f"{self._path} could not be written; is the disk full?"
                    )
                os.fsync(file.fileno())
        except OSError:
            if self._path.exists():
                os.truncate(self._path, size)
            raise


def _digest(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file, or that of a folder and all files in it."""
    if not path.is_dir():
        return archives.sha256(path)
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return json_files.digest(
        {str(each.relative_to(path)): archives.sha256(each) for each in files}
    )


def recorded_origin(folder: pathlib.Path) -> Mapping[str, Any]:
    """Returns the origin of the results in a folder; empty without a record."""
    for entry in _read(folder / RECORD):
        if "origin" in entry:
            return entry["origin"]
    return {}


def recorded_sources(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the file of each image of which a folder has results, by their name.

    Records of earlier versions know none. The files may have gone since.
    """
    return {
        entry["image"]: folder.resolve() / entry["source"]
        for entry in _read(folder / RECORD)
        if isinstance(entry.get("source"), str)
    }


def _relative(path: pathlib.Path, folder: pathlib.Path) -> str:
    """Returns a path from a folder, so that both can be moved together."""
    path = path.resolve()
    try:
        return pathlib.Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError:  # on another drive of Windows
        return path.as_posix()


def _read(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the entries of a record, without an incomplete last line."""
    if not path.exists():
        return []
    entries = list[dict[str, Any]]()
    for number, line in enumerate(_complete(path.read_bytes()).splitlines(), start=1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = {}
        if not _is_entry(entry):
            raise ValueError(
                f"{path}, line {number}, is damaged; name another --out folder, or "
                f"delete {path.name} and replace the results with --overwrite."
            )
        entries.append(entry)
    return entries


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    types = {"image": str, "input": str, "files": dict}
    return isinstance(entry.get("origin"), dict) or all(
        isinstance(entry.get(name), kind) for name, kind in types.items()
    )


def _complete(content: bytes) -> bytes:
    """Returns the complete lines."""
    return content[: content.rfind(b"\n") + 1]
