"""The annotated image of `unetjax demo`."""

import importlib.metadata
import pathlib

import numpy as np

from unetjax.data import folder, synthetic
from unetjax.data.examples import Example

# A package under the BSD licence with one annotated fluorescence micrograph of 125
# nuclei. Its files are read; it is never imported.
_CARRIER = "stardist"
_IMAGE, _MASK = "img2d.tif", "mask2d.tif"


def load() -> tuple[Example, str]:
    """Returns an annotated image and a description of its origin.

    The image is the fluorescence micrograph in the `stardist` package, if that is
    installed; otherwise synthetic cells.
    """
    try:
        files = importlib.metadata.files(_CARRIER) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = {file.name: pathlib.Path(str(file.locate())) for file in files}
    if _IMAGE in paths and _MASK in paths:
        (example,) = folder.load(paths[_IMAGE], paths[_MASK], mask_type="instances")
        count = len(np.unique(example.instances)) - 1
        version = importlib.metadata.version(_CARRIER)
        return example, (
            f"a fluorescence micrograph of {count} nuclei, from "
            f"{_CARRIER} {version} (BSD-3-Clause)"
        )
    return synthetic.touching_cells(0, size=(512, 512), num_cells=150), (
        "synthetic cells; for a real micrograph  pip install --no-deps stardist"
    )
