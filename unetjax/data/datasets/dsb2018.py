"""Data Science Bowl 2018: nuclei in fluorescence, in the selection of StarDist."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from unetjax.data.datasets import download
from unetjax.files import images

ORIGIN = download.Origin(
    url="https://github.com/stardist/stardist/releases/download/0.1.0/dsb2018.zip",
    sha256="e44921950edce378063aa4457e625581ba35b4c2dbd9a07c19d48900129f386f",
    landmark="train/images",
)


class Dsb2018(tfds.core.GeneratorBasedBuilder):
    """Nuclei of the Data Science Bowl 2018, the fluorescence images StarDist selected.

    Grey images of many sizes with numbered nuclei, in `train` (447) and `test` (50), in
    the order of their names, which are random. Stored as uint16, as some images have 16
    bits.

    CC0, public domain. Please cite Caicedo et al., Nucleus segmentation across imaging
    experiments: the 2018 Data Science Bowl, Nature Methods 16, 2019; for the selection
    Schmidt et al., Cell Detection with Star-convex Polygons, MICCAI 2018.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = download.instructions(ORIGIN)

    origin = ORIGIN

    def _info(self) -> tfds.core.DatasetInfo:
        return download.info(
            self,
            homepage="https://bbbc.broadinstitute.org/BBBC038",
            image=download.image_feature(np.uint16),
            instances=download.label_feature(),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        folder = download.fetch(self.origin, dl_manager, self.info.metadata)
        return {
            split: self._generate_examples(folder / split)
            for split in ("train", "test")
        }

    def _generate_examples(
        self, folder: pathlib.Path
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, path in enumerate(download.listed(folder / "images", "*.tif")):
            instances = images.read_labels(folder / "masks" / path.name)
            image = images.read_image(path)
            image = download.checked(image, instances, np.uint16, path)
            yield i, {"image": image, "instances": instances, "name": path.stem}
