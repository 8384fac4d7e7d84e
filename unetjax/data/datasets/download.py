"""Download, checksum and unpacking of public data sets, shared by their builders."""

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
      url: Its location.
      sha256: Its checksum; None where none is published.
      landmark: Path of a file or folder inside, by which its contents are recognised.
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
        """Name of the folder in which its contents are placed by hand."""
        return self.archive.removesuffix(".zip")


def instructions(*origins: Origin) -> str:
    """Returns how to provide the archives on a machine without internet."""
    steps = [
        f"download {origin.url} on another machine and place {origin.archive}, or its "
        f"contents as the folder {origin.folder} (with {origin.landmark} inside), in "
        "manual_dir."
        for origin in origins
    ]
    return "\n".join(steps)


def info(
    builder: tfds.core.DatasetBuilder,
    *,
    homepage: str,
    **features: tfds.features.FeatureConnector,
) -> tfds.core.DatasetInfo:
    """Returns the description of a data set, whose examples have features and a name.

    Examples keep their order, so that "train[:20]" is the first 20. The checksum of the
    archive is stored with the data, in metadata.json.
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
    """Returns the files that match a pattern, sorted by name.

    Raises:
      FileNotFoundError: If there is none.
    """
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise FileNotFoundError(
            f"{folder} has no {pattern}; download the archive again."
        )
    return paths


def image_feature(dtype: type[np.generic]) -> tfds.features.Tensor:
    """Returns the feature of grey images of any size, with lossless compression."""
    shape = (None, None, 1)
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="zlib")


def label_feature() -> tfds.features.Tensor:
    """Returns the feature of an integer for every pixel: a class or an instance."""
    return tfds.features.Tensor(shape=(None, None), dtype=np.int32, encoding="zlib")


def checked(
    image: Shaped[np.ndarray, "..."],
    numbers: Integer[np.ndarray, "..."],
    dtype: type[np.generic],
    path: pathlib.Path,
) -> Shaped[np.ndarray, "..."]:
    """Returns grey images as `dtype`.

    Args:
      image: Images, [..., H, W, 1].
      numbers: Class or instance of every pixel, [..., H, W].
      dtype: Type in which the data set stores images.
      path: The file of the images, for messages.

    Raises:
      ValueError: If the shapes do not agree, or the conversion would lose information.
    """
    if image.shape != (*numbers.shape, 1):
        raise ValueError(
            f"{path} has shape {image.shape} and its annotation {numbers.shape}, "
            "expected grey images of the same size; download the archive again."
        )
    if not np.can_cast(image.dtype, dtype, "safe"):
        raise ValueError(
            f"{path} stores {image.dtype}, expected {np.dtype(dtype)}; download the "
            "archive again."
        )
    return image.astype(dtype)


def in_manual_dir(origin: Origin, manual_dir: pathlib.Path) -> pathlib.Path | None:
    """Returns the folder of the contents or the archive; None if there is neither.

    The folder is in `manual_dir` or is `manual_dir`. It must have the name of the
    archive, as several data sets share a layout.
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

    An archive is unpacked once, in the download folder, under a name that contains its
    checksum. The checksum is verified here because TFDS verifies it only together with
    the size of the archive, which is not published.

    Raises:
      ConnectionError: If the archive cannot be downloaded.
      ValueError: If the archive has a wrong checksum, is damaged or has another layout.
    """
    manual_dir = _manual_dir(dl_manager)
    placed = in_manual_dir(origin, manual_dir) if manual_dir else None
    if placed and placed.is_dir():
        return placed
    archive = placed or _download(origin, dl_manager)
    try:
        digest = _verified(origin, archive)
        folder = pathlib.Path(os.fspath(dl_manager.download_dir)) / "unpacked"
        folder = folder / f"{origin.folder}-{digest[:16]}"
        if not folder.is_dir():
            archives.unpack(archive, folder)
    except ValueError:
        if not placed:
            # Our own download, not a file of the user: the next run downloads it again.
            archive.unlink()
            archive.with_name(f"{archive.name}.INFO").unlink(missing_ok=True)
        raise
    metadata["archive_sha256"] = digest
    for root in (folder, *sorted(folder.iterdir())):
        if (root / origin.landmark).exists():
            return root
    raise ValueError(
        f"{archive} of {origin.url} has no {origin.landmark}: the publisher has "
        f"changed it; rearrange {folder} as the folder {origin.folder} in manual_dir."
    )


def _verified(origin: Origin, archive: pathlib.Path) -> str:
    digest = archives.sha256(archive)
    if origin.sha256 not in (None, digest):
        raise ValueError(
            f"{archive} of {origin.url} has SHA-256 {digest}, expected "
            f"{origin.sha256}: it was damaged in transit or changed by its publisher; "
            "download it again."
        )
    return digest


def _download(
    origin: Origin, dl_manager: tfds.download.DownloadManager
) -> pathlib.Path:
    try:
        return pathlib.Path(os.fspath(dl_manager.download(origin.url)))
    except (OSError, tfds.download.DownloadError) as error:
        if getattr(error, "errno", None) is not None:  # the system's: a full disk
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
