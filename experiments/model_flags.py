"""Arguments of the launchers that use trained models, and the models they name."""

import argparse
import functools
import os
from collections.abc import Callable
from typing import get_args

from unetjax.evaluation.comparison import Part
from unetjax.evaluation.score_sets import SCORE_SETS
from unetjax.inference.segment import Segmentation, segment
from unetjax.inference.trained_model import TrainedModel
from unetjax.inference.tta import TTA
from unetjax.model_io import model_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that name trained models and how they are averaged."""
    parser.add_argument("--workdir", required=True, help="run folder or model folder")
    parser.add_argument(
        "--with",
        dest="others",
        action="append",
        default=[],
        metavar="FOLDER",
        help="further run or model folder to average with; repeat for each",
    )
    parser.add_argument(
        "--tta",
        "--average",
        choices=get_args(TTA),
        default="none",
        help="rotations and reflections to average over (default none)",
    )
    parser.add_argument(
        "--split",
        choices=get_args(Part),
        help="images to use (default: test if there are any)",
    )


def add_scores(parser: argparse.ArgumentParser) -> None:
    """Adds the argument that selects a family of scores."""
    parser.add_argument(
        "--scores",
        choices=list(SCORE_SETS),
        default="cells",
        help="family of scores (default cells)",
    )


def load(
    folder: str | os.PathLike[str], options: argparse.Namespace
) -> tuple[TrainedModel, Callable[..., Segmentation]]:
    """Returns the model of a folder, and a function that segments an image.

    The function takes the other arguments of `segment` as well.

    Args:
      folder: A run folder or model folder.
      options: From `add_arguments`: models and transformations to average over.
    """
    trained = model_folder.load_model(folder)
    segment_image = functools.partial(
        segment,
        trained,
        others=[model_folder.load_model(each) for each in options.others],
        tta=options.tta,
    )
    return trained, segment_image
