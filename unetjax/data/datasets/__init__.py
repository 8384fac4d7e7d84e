"""Public data sets, as TensorFlow Datasets builders that need no TensorFlow."""

import os
from typing import Literal, get_args

from unetjax.data.examples import Example
from unetjax.settings import check_choice

DatasetName = Literal["isbi2012", "dsb2018", "phc_u373", "dic_hela", "fluo_sim"]
NAMES = get_args(DatasetName)

Path = str | os.PathLike[str]


def load(
    name: DatasetName,
    *,
    split: str,
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
) -> list[Example]:
    """Returns the examples of a public data set.

    The first call prepares the data set in `data_dir`, from the archive in `manual_dir`
    or, if that is None, from a downloaded one.

    Args:
      name: One of `NAMES`.
      split: A split or a slice of it in the notation of TensorFlow Datasets, such as
        "train", "train[:20]" or "train[80%:]".
      data_dir: Folder of prepared data sets; None is that of TensorFlow Datasets, the
        environment variable TFDS_DATA_DIR or ~/tensorflow_datasets.
      manual_dir: Folder with the archive or its contents, for machines without
        internet access. Nothing is downloaded then, and nothing is written there.

    Raises:
      ValueError: If there is no such data set or split, or the archive is damaged.
      FileNotFoundError: If `manual_dir` does not have the data set.
      ConnectionError: If the archive cannot be downloaded.
    """
    check_choice("name", name, DatasetName)
    from unetjax.data.datasets import tfds_source  # imports TensorFlow Datasets

    return tfds_source.load(name, split=split, data_dir=data_dir, manual_dir=manual_dir)
