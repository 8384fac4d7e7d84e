"""unetjax check: what is understood of a data set, and everything wrong with it."""

import argparse
import pathlib
from typing import get_args

from unetjax.data import folder
from unetjax.data.mask_formats import MaskType


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "check",
        help="what is understood of a data set, and everything wrong with it",
        description="Read images and masks, say what they are and list every problem "
        "with its remedy. Nothing is written.",
    )
    add_data_arguments(parser)
    parser.set_defaults(run=run)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what names annotated images: for `check` and `train`."""
    parser.add_argument("images", type=pathlib.Path, help="folder of images, or one")
    parser.add_argument(
        "masks",
        type=pathlib.Path,
        help="folder of their masks: a.tif, a_mask.tif or a_labels.tif for a.tif",
    )
    parser.add_argument(
        "--mask-type",
        choices=get_args(MaskType),
        default="auto",
        help="whether masks number the cells or give classes; default: look at them",
    )


def run(options: argparse.Namespace) -> int:
    """Prints what was understood; 2 if the data set has errors."""
    _, summary, problems = folder.read(
        options.images, options.masks, mask_type=options.mask_type
    )
    if summary is not None:
        print(summary)
    for problem in problems:
        print(f"{problem.severity}: {problem.text}")
    if not problems:
        print("no problem found")
    return 2 if any(problem.severity == "error" for problem in problems) else 0
