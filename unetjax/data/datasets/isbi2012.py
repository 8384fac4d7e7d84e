"""ISBI 2012: membranes in electron micrographs, the data set of the paper's Table 1."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from unetjax.data.datasets import download
from unetjax.files import images

ORIGIN = download.Origin(
    url="https://downloads.imagej.net/ISBI-2012-challenge.zip",
    # Not published, so the contents are checked instead: number of pages, shapes, types
    # and values. The checksum of the archive that was used is in metadata.json.
    sha256=None,
    landmark="train-volume.tif",
)

NUM_SLICES = 30  # of each split


class Isbi2012(tfds.core.GeneratorBasedBuilder):
    """EM segmentation challenge of ISBI 2012, ventral nerve cord of a Drosophila larva.

    Serial sections of 512 x 512 pixels of 4 nm, 50 nm apart, uint8. Label 1 is the
    inside of a cell, 0 is membrane. `train` has the 30 annotated slices in order,
    `test` the 30 of the challenge, if the archive has their labels.

    For research use. Please cite Cardona et al., An integrated micro- and
    macroarchitectural analysis of the Drosophila brain by computer-assisted serial
    section electron microscopy, PLoS Biology 8(10), 2010, and Arganda-Carreras et al.,
    Crowdsourcing the creation of image segmentation algorithms for connectomics,
    Frontiers in Neuroanatomy 9, 2015.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = download.instructions(ORIGIN)

    origin = ORIGIN

    def _info(self) -> tfds.core.DatasetInfo:
        return download.info(
            self,
            homepage="https://imagej.net/events/isbi-2012-segmentation-challenge",
            image=download.image_feature(np.uint8),
            label=download.label_feature(),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        folder = download.fetch(self.origin, dl_manager, self.info.metadata)
        splits = {"train": self._generate_examples(folder, "train")}
        if (folder / "test-labels.tif").exists():
            splits["test"] = self._generate_examples(folder, "test")
        return splits

    def _generate_examples(
        self, folder: pathlib.Path, split: str
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        path = folder / f"{split}-labels.tif"
        labels = images.read_label_stack(path)
        values = np.unique(labels).tolist()
        if not set(values) <= {0, 255}:
            raise ValueError(
                f"{path} has values {values}, expected 0 (membrane) and 255 (cell); "
                "download the archive again."
            )
        path = folder / f"{split}-volume.tif"
        stack = download.checked(images.read_stack(path), labels, np.uint8, path)
        if len(stack) != NUM_SLICES:
            raise ValueError(
                f"{path} has {len(stack)} pages, expected {NUM_SLICES}; download the "
                "archive again."
            )
        for i, (image, label) in enumerate(zip(stack, labels, strict=True)):
            name = f"{split}-{i:02d}"
            yield i, {"image": image, "label": label // 255, "name": name}
