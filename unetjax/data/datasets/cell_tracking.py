"""Cell Tracking Challenge: PhC-C2DH-U373, DIC-C2DH-HeLa and Fluo-N2DH-SIM+."""

import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from unetjax.data.datasets import download
from unetjax.files import images

SEQUENCES = ("01", "02")


class _Set(NamedTuple):
    title: str  # in the challenge; also the name of its archive
    sha256: str
    dtype: type[np.generic]
    description: str

    @property
    def origin(self) -> download.Origin:
        site = "http://data.celltrackingchallenge.net/training-datasets"
        return download.Origin(f"{site}/{self.title}.zip", self.sha256, "01_GT/SEG")


SETS = {
    "phc_u373": _Set(
        title="PhC-C2DH-U373",
        sha256="b18185c18fce54e8eeb93e4bbb9b201d757add9409bbf2283b8114185a11bc9e",
        dtype=np.uint8,
        description="Glioblastoma-astrocytoma cells in phase contrast.",
    ),
    "dic_hela": _Set(
        title="DIC-C2DH-HeLa",
        sha256="832fed2d05bb7488cf9c51a2994b75f8f3f53b3c3098856211f2d39023c34e1a",
        dtype=np.uint8,
        description="HeLa cells in differential interference contrast; they touch.",
    ),
    "fluo_sim": _Set(
        title="Fluo-N2DH-SIM+",
        sha256="3e809148c87ace80c72f563b56c35e0d9448dcdeb461a09c83f61e93f5e40ec8",
        dtype=np.uint16,
        description="Simulated nuclei in fluorescence; the annotation is exact.",
    ),
}


class CellTracking(tfds.core.GeneratorBasedBuilder):
    """Sequences of the Cell Tracking Challenge, limited to frames with a segmentation.

    The two sequences are the splits `01` and `02`, in temporal order. Neighbouring
    frames are nearly equal, so train on one sequence and evaluate on the other. Cells
    are numbered. The paper's Table 2 is about `phc_u373` and `dic_hela`, whose gold
    annotation (SEG) covers only some of the frames; a cell that is not annotated in
    such a frame counts as background.

    For research, under the challenge's conditions of use. Please cite Ulman et al., An
    objective comparison of cell-tracking algorithms, Nature Methods 14, 2017.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, description=item.description)
        for name, item in SETS.items()
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = download.instructions(
        *(item.origin for item in SETS.values())
    )

    @property
    def origin(self) -> download.Origin:
        """The archive."""
        return SETS[self.builder_config.name].origin

    def _info(self) -> tfds.core.DatasetInfo:
        return download.info(
            self,
            homepage="https://celltrackingchallenge.net/2d-datasets",
            image=download.image_feature(SETS[self.builder_config.name].dtype),
            instances=download.label_feature(),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        folder = download.fetch(self.origin, dl_manager, self.info.metadata)
        return {s: self._generate_examples(folder, s) for s in SEQUENCES}

    def _generate_examples(
        self, folder: pathlib.Path, sequence: str
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        item = SETS[self.builder_config.name]
        truths = download.listed(folder / f"{sequence}_GT" / "SEG", "man_seg*.tif")
        for i, truth in enumerate(truths):
            frame = truth.stem.removeprefix("man_seg")
            path = folder / sequence / f"t{frame}.tif"
            instances = images.read_labels(truth)
            image = images.read_image(path)
            image = download.checked(image, instances, item.dtype, path)
            name = f"{item.title}-{sequence}-t{frame}"
            yield i, {"image": image, "instances": instances, "name": name}
