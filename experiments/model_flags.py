"""Flags of the launchers that use trained networks, and the networks they name."""

import functools
import os
from collections.abc import Callable
from typing import cast, get_args

import numpy as np
from absl import flags

from unetjax.evaluation.comparison import Part
from unetjax.inference.segment import Segmentation, segment
from unetjax.inference.trained_model import TrainedModel
from unetjax.inference.tta import TTA
from unetjax.model_io import model_folder

WORKDIR = flags.DEFINE_string(
    "workdir", None, "Run folder or model folder.", required=True
)
WITH = flags.DEFINE_multi_string(
    "with", [], "Further run or model folder to average with; repeat for each."
)
SPLIT = flags.DEFINE_enum(
    "split",
    None,
    get_args(Part),
    "Images to use; default: test if there are any.",
)
TEST_TIME = flags.DEFINE_enum(
    "tta", "none", get_args(TTA), "Rotations and reflections to average over."
)
flags.DEFINE_alias("average", "tta")  # the name of earlier versions


def load(
    folder: str | os.PathLike[str],
) -> tuple[TrainedModel, Callable[[np.ndarray], Segmentation]]:
    """Returns the network of a folder, and how it and all other named ones segment."""
    trained = model_folder.load_model(folder)
    segment_image = functools.partial(
        segment,
        trained,
        others=[model_folder.load_model(folder) for folder in WITH.value],
        tta=cast(TTA, TEST_TIME.value),
    )
    return trained, segment_image
