"""unetjax check: summarize a data set and list problems with fixes."""

import argparse
import pathlib
from typing import TYPE_CHECKING

from unetjax.cli import terminal
from unetjax.cli.command import ArgumentParser, channels, integer, path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unetjax.data.folder import FolderReport
    from unetjax.evaluation.pair_table import Row


_ROWS = 20  # of the table on the console
_LEGEND = "width: median, pixels; touch: pairs of touching objects; fg: foreground"


def add_parser(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "check",
        help="summarize a data set and list problems with fixes",
        description="Read images and masks, say what each contains, and list all "
        "problems with their fixes.",
        epilog="example:  unetjax check images/ masks/",
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--csv",
        type=path,
        metavar="FILE",
        help=f"write the table of all pairs, of which {_ROWS} are printed, into a new "
        "file, with more columns",
    )
    parser.set_defaults(run=run)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `check` and `train` that name annotated images."""
    parser.add_argument("images", type=path, help="folder of images, or one file")
    parser.add_argument(
        "masks",
        type=path,
        help="folder of their masks, or one file; that of a.tif is a.tif, a_mask.tif, "
        "a_labels.tif or a_cp_masks.tif; or polygons: a.json of LabelMe, a.zip or a.roi"
        " of ImageJ, or one COCO file for all images",
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
    add_within(parser, effect="are treated as not annotated")
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


def add_within(parser: argparse.ArgumentParser, *, effect: str) -> None:
    """Adds the option that names the fields of view, and says what it changes."""
    parser.add_argument(
        "--within",
        type=path,
        metavar="PATH",
        help="folder of masks of the field of view, or one file for all images; pixels "
        f"that are 0 there {effect}",
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
        within=options.within,
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
        type=integer,
        metavar="VALUE",
        help="number of pixels in masks that are not annotated: they are neither "
        "learned nor scored (default: -1, and 255 above classes 0, 1, ... as in Pascal "
        "VOC)",
    )


def run(options: argparse.Namespace) -> int:
    """Prints summary, table and problems; returns 2 if there are errors, else 0."""
    from unetjax.evaluation import pair_table
    from unetjax.files import folders

    if options.csv is not None:
        folders.check_new(options.csv)
    report = read_data(options.images, options.masks, options)
    rows = pair_table.measure(report, most=None if options.csv else _ROWS)
    if report.summary is not None:
        terminal.say(str(report.summary))
        terminal.say(f"read so since {report.summary.masks.reason}\n")
        terminal.say(pair_table.show(rows[:_ROWS]))
        rest = len(set(report.pairs)) - _ROWS
        if rest > 0:
            where = f"in {options.csv}" if options.csv else "by --csv FILE"
            terminal.say(f"... and {rest:,} more pairs, {where}")
        terminal.say(f"{_LEGEND}\n")
    if options.csv is not None:
        _write_csv(rows, options.csv)
    for problem in report.problems:
        print(f"{problem.severity}: {problem.text}")
    if not report.problems:
        terminal.say("no problems found")
    return 2 if any(each.severity == "error" for each in report.problems) else 0


def _write_csv(rows: "Sequence[Row]", file: pathlib.Path) -> None:
    """Writes the table of all pairs."""
    from unetjax.evaluation import pair_table
    from unetjax.files import folders
    from unetjax.reporting import records

    with folders.write_atomically(file) as temporary:
        temporary.write_text(records.csv_text(rows, pair_table.COLUMNS), "utf-8")
    terminal.show_file("table", file)
