"""What the builders share: archives fetched and verified, examples checked."""

import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Integer, Shaped

from unetjax.files import archives


class Origin(NamedTuple):
    """A public archive.

    Attributes:
      url: Where it is downloaded from.
      sha256: Its checksum; None where nobody states one.
      landmark: Path of a file or folder inside, by which its contents are known.
    """

    url: str
    sha256: str | None
    landmark: str

    @property
    def archive(self) -> str:
        """File name of the archive."""
        return self.url.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """Name of the folder that the archive is unpacked into."""
        return self.archive.removesuffix(".zip")


def instructions(*origins: Origin) -> str:
    """Returns what to do on a machine without internet."""
    steps = [
        f"download {origin.url} elsewhere and put {origin.archive}, or unpacked the "
        f"folder {origin.folder} that holds {origin.landmark}, into manual_dir."
        for origin in origins
    ]
    return "\n".join(steps)


def info(
    builder: tfds.core.DatasetBuilder,
    *,
    homepage: str,
    **features: tfds.features.FeatureConnector,
) -> tfds.core.DatasetInfo:
    """Returns the description of a data set: its docstring, its features and a name.

    Examples keep their order, so that "train[:20]" is the first 20. The checksum of the
    archive is written beside the data, in metadata.json.
    """
    return tfds.core.DatasetInfo(
        builder=builder,
        description=builder.__doc__,
        features=tfds.features.FeaturesDict({**features, "name": tfds.features.Text()}),
        homepage=homepage,
        disable_shuffling=True,
        metadata=tfds.core.MetadataDict(),
    )


def listed(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    """Returns the files of a pattern in the order of their names, at least one."""
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise FileNotFoundError(f"{folder} has no {pattern}; get the archive again.")
    return paths


def image_feature(dtype: type[np.generic]) -> tfds.features.Tensor:
    """Returns the feature of grey images of any size, compressed without loss."""
    shape = (None, None, 1)
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="zlib")


def label_feature() -> tfds.features.Tensor:
    """Returns the feature of a number for every pixel: a class or a cell."""
    return tfds.features.Tensor(shape=(None, None), dtype=np.int32, encoding="zlib")


def checked(
    image: Shaped[np.ndarray, "..."],
    numbers: Integer[np.ndarray, "..."],
    dtype: type[np.generic],
    path: pathlib.Path,
) -> Shaped[np.ndarray, "..."]:
    """Returns grey images as `dtype`, if that loses nothing and the labels fit.

    Args:
      image: Images, [..., H, W, 1].
      numbers: A number for every pixel, [..., H, W].
      dtype: Type that the data set is stored in.
      path: The file of the images, for messages.
    """
    if image.shape != (*numbers.shape, 1):
        raise ValueError(
            f"{path} has shape {image.shape} and its annotation {numbers.shape}; "
            "expected grey images of the same size, get the archive again."
        )
    if not np.can_cast(image.dtype, dtype, "safe"):
        raise ValueError(
            f"{path} stores {image.dtype}, expected {np.dtype(dtype)}; get the archive "
            "again."
        )
    return image.astype(dtype)


def in_manual_dir(origin: Origin, manual_dir: pathlib.Path) -> pathlib.Path | None:
    """Returns the archive or the folder of its contents, None where there is neither.

    The folder must have the name of the archive, as several sets share a layout; it
    lies in `manual_dir` or is `manual_dir`.
    """
    manual_dir = manual_dir.resolve()
    for folder in (manual_dir / origin.folder, manual_dir):
        if folder.name == origin.folder and (folder / origin.landmark).exists():
            return folder
    archive = manual_dir / origin.archive
    return archive if archive.is_file() else None


def fetch(
    origin: Origin, dl_manager: tfds.download.DownloadManager, metadata: dict[str, Any]
) -> pathlib.Path:
    """Returns the folder of the contents: placed by hand, or downloaded and unpacked.

    An archive is unpacked in the download folder, under a name that holds its checksum
    and hence only once. The checksum is verified here: TFDS would want the size of the
    archive along with it, which nobody states.

    Raises:
      ValueError: If the archive has another checksum than `origin` states or does not
        hold what it should.
    """
    manual_dir = _manual_dir(dl_manager)
    found = in_manual_dir(origin, manual_dir) if manual_dir else None
    if found and found.is_dir():
        return found
    archive = found or _download(origin, dl_manager)
    try:
        digest = _verified(origin, archive)
        folder = pathlib.Path(os.fspath(dl_manager.download_dir)) / "unpacked"
        folder = folder / f"{origin.folder}-{digest[:16]}"
        if not folder.is_dir():
            archives.unpack(archive, folder)
    except ValueError:
        if not found:
            # Ours, not the user's: the next run downloads it anew.
            archive.unlink()
            archive.with_name(f"{archive.name}.INFO").unlink(missing_ok=True)
        raise
    metadata["archive_sha256"] = digest
    for root in (folder, *sorted(folder.iterdir())):
        if (root / origin.landmark).exists():
            return root
    raise ValueError(
        f"{archive} of {origin.url} holds no {origin.landmark}; the publisher has "
        f"changed it: lay it out as before in manual_dir, from {folder}."
    )


def _verified(origin: Origin, archive: pathlib.Path) -> str:
    digest = archives.sha256(archive)
    if origin.sha256 not in (None, digest):
        raise ValueError(
            f"{archive} of {origin.url} has SHA-256 {digest}, expected "
            f"{origin.sha256}; it was damaged on the way or changed by its publisher: "
            "download it again."
        )
    return digest


def _download(
    origin: Origin, dl_manager: tfds.download.DownloadManager
) -> pathlib.Path:
    try:
        return pathlib.Path(os.fspath(dl_manager.download(origin.url)))
    except (OSError, tfds.download.DownloadError) as error:
        if getattr(error, "errno", None) is not None:  # ours: a full disk, say
            raise
        raise ConnectionError(
            f"{origin.url} could not be downloaded ({type(error).__name__}); "
            f"{instructions(origin)}"
        ) from error


def _manual_dir(dl_manager: tfds.download.DownloadManager) -> pathlib.Path | None:
    try:
        return pathlib.Path(os.fspath(dl_manager.manual_dir))
    except AssertionError:  # absent or empty, as on most machines
        return None
