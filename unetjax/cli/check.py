"""unetjax check: summarize a data set and list problems with fixes."""

import argparse
import pathlib
from typing import TYPE_CHECKING

from unetjax.cli import terminal
from unetjax.cli.command import ArgumentParser, channels, path

if TYPE_CHECKING:
    from unetjax.data.folder import FolderReport


def add_parser(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "check",
        help="summarize a data set and list problems with fixes",
        description="Read images and masks, summarize them, and list all problems "
        "with their fixes. Nothing is written.",
        epilog="example:  unetjax check images/ masks/",
    )
    add_data_arguments(parser)
    parser.set_defaults(run=run)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `check` and `train` that name annotated images."""
    parser.add_argument("images", type=path, help="folder of images, or one file")
    parser.add_argument(
        "masks",
        type=path,
        help="folder of their masks, or one file; that of a.tif is a.tif, a_mask.tif, "
        "a_labels.tif or a_cp_masks.tif",
    )
    parser.add_argument(
        "--image-suffix",
        default="",
        metavar="ENDING",
        help="how the names of images end, such as _img.tif (default: any)",
    )
    parser.add_argument(
        "--mask-suffix",
        default="",
        metavar="ENDING",
        help="how the names of their masks end instead, such as _seg.png (default: as "
        "above)",
    )
    add_mask_meaning(parser)
    add_channels(parser, default="all")


def add_channels(parser: argparse.ArgumentParser, *, default: str) -> None:
    """Adds the option that chooses channels of images."""
    parser.add_argument(
        "--channels",
        type=channels,
        default=(),
        metavar="LIST",
        help="channels of the images to use, such as 0,2: counted from 0, or by the "
        f"names that OME or ImageJ metadata give them (default: {default})",
    )


def read_data(
    images: pathlib.Path, masks: pathlib.Path, options: argparse.Namespace
) -> "FolderReport":
    """Reads images and masks as the options say."""
    from unetjax.data import folder

    naming = folder.FileNaming(options.image_suffix, options.mask_suffix)
    return folder.read(
        images,
        masks,
        mask_type=options.mask_type,
        ignore=options.ignore,
        channels=options.channels,
        naming=naming,
    )


def add_mask_meaning(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say what the numbers in masks mean."""
    parser.add_argument(
        "--mask-type",
        choices=("auto", "instances", "classes"),
        default="auto",
        help="whether masks number the cells or give classes (default: inferred from "
        "their values)",
    )
    parser.add_argument(
        "--ignore",
        type=int,
        metavar="VALUE",
        help="number of pixels in masks that are not annotated: they are neither "
        "learned nor scored (default: -1, and 255 above classes 0, 1, ... as in Pascal "
        "VOC)",
    )


def run(options: argparse.Namespace) -> int:
    """Prints summary and problems; returns 2 if there are errors, else 0."""
    _, summary, problems = read_data(options.images, options.masks, options)
    if summary is not None:
        terminal.say(str(summary))
    for problem in problems:
        print(f"{problem.severity}: {problem.text}")
    if not problems:
        terminal.say("no problems found")
    return 2 if any(problem.severity == "error" for problem in problems) else 0
