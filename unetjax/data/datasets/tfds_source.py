"""Public data sets prepared on disk by TensorFlow Datasets, and read from there."""

import os
import pathlib
import sys
from typing import Any

import tensorflow_datasets as tfds

from unetjax.data.datasets import cell_tracking, download, dsb2018, isbi2012
from unetjax.data.examples import Example, from_instances, from_labels

FILE_FORMAT = "parquet" if sys.platform == "win32" else "array_record"

Path = str | os.PathLike[str]
Builder = isbi2012.Isbi2012 | dsb2018.Dsb2018 | cell_tracking.CellTracking


def load(
    name: str, *, split: str, data_dir: Path | None, manual_dir: Path | None
) -> list[Example]:
    """See `unetjax.data.datasets.load`."""
    builder = make_builder(name, data_dir)
    if not builder.is_prepared():
        prepare(builder, manual_dir)
    splits = sorted(builder.info.splits)
    if split.partition("[")[0] not in splits:
        raise ValueError(
            f"split must be one of {', '.join(splits)} of {name} or a slice such as "
            f"{splits[0]}[:20], got {split}."
        )
    return list(map(_to_example, builder.as_data_source(split=split)))


def make_builder(name: str, data_dir: Path | None) -> Builder:
    """Returns the builder of a data set, in a format that needs no TensorFlow."""
    if name == "isbi2012":
        return isbi2012.Isbi2012(data_dir=data_dir, file_format=FILE_FORMAT)
    if name == "dsb2018":
        return dsb2018.Dsb2018(data_dir=data_dir, file_format=FILE_FORMAT)
    return cell_tracking.CellTracking(
        config=name, data_dir=data_dir, file_format=FILE_FORMAT
    )


def prepare(builder: Builder, manual_dir: Path | None) -> None:
    """Prepares a data set on disk; with a `manual_dir`, without any download."""
    origin = builder.origin
    if manual_dir and not download.in_manual_dir(origin, pathlib.Path(manual_dir)):
        raise FileNotFoundError(
            f"manual_dir {manual_dir} does not have the data set; "
            f"{download.instructions(origin)}"
        )
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    builder.download_and_prepare(download_config=config)


def _to_example(record: dict[str, Any]) -> Example:
    name = record["name"].decode()
    if "instances" in record:
        return from_instances(record["image"], record["instances"], name)
    return from_labels(record["image"], record["label"], name)
