"""unetjax evaluate: score predicted masks or label images against the truth."""

import argparse
import functools
import json
import pathlib
from typing import TYPE_CHECKING

from unetjax.cli import terminal
from unetjax.cli.check import add_mask_meaning, add_within
from unetjax.cli.command import ArgumentParser, not_negative, path

if TYPE_CHECKING:
    from unetjax.evaluation.score_sets import ScoreSet
    from unetjax.evaluation.scored_files import ReadAs

_DESCRIPTION = """\
Score predicted masks or label images against the truth. The prediction for a.tif of the
truth (or a_mask.tif, a_masks.tif, ...) is a.tif, a_mask.png or a_labels.tif; with
--scores em it is a_probs.tif, written by unetjax predict --probabilities, or a mask of
0 and 255. With --shifts, a model is scored instead: it predicts the images as they are,
and as another microscope might have taken them.
"""
_READ_AS: "dict[str, ReadAs]" = {"em": "membranes", "pixels": "foreground"}
_EXAMPLES = """\
examples:
  unetjax evaluate out/ masks/
  unetjax evaluate out/ masks/ --csv scores.csv
  unetjax evaluate out/ membranes/ --scores em
  unetjax evaluate out/ vessels/ --scores pixels --tolerance 2 --within fields/
  unetjax evaluate images/ masks/ --shifts mymodel/
"""


def add_parser(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "evaluate",
        help="score predictions against the truth",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "predicted",
        type=path,
        help="folder of predictions, or one file; with --shifts, of images",
    )
    parser.add_argument("truth", type=path, help="folder of true masks, or one file")
    parser.add_argument(
        "--scores",
        choices=("cells", "pixels", "em", "tracking"),
        default="cells",
        help="cells: IoU, Dice, AP (default); pixels: Dice, IoU, sensitivity, "
        "specificity, AUC and F1 of a foreground class, such as vessels or cracks; em: "
        "V_rand, V_info, warping, Rand and pixel error of membranes, as in the ISBI "
        "2012 challenge; tracking: SEG, DET, OP_CSB, as in the Cell Tracking Challenge",
    )
    parser.add_argument(
        "--tolerance",
        type=not_negative,
        default=0.0,
        metavar="PIXELS",
        help="distance within which a pixel counts as found, for the F1 of --scores "
        "pixels (default 0)",
    )
    add_within(parser, effect="do not count")
    add_mask_meaning(parser)
    parser.add_argument(
        "--shifts",
        type=path,
        metavar="MODEL",
        help="model folder to score on images that are blurred, noisy, darker, of 8 "
        "bits, of half and twice the size, and inverted, beside the unchanged ones; "
        "takes eight predictions of each image",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="score the predictions that there are, if some true masks have none",
    )
    for name, kind in (("csv", "a table"), ("json", "JSON")):
        parser.add_argument(
            f"--{name}",
            type=path,
            metavar="FILE",
            help=f"new file for every score of each image and of all, as {kind}",
        )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the scores of each image and of all images together."""
    from unetjax.devices import runtime
    from unetjax.evaluation import comparison, scored_files, scoring
    from unetjax.evaluation.score_sets import SCORE_SETS
    from unetjax.files import folders
    from unetjax.metrics.metric import merge_all
    from unetjax.reporting import console, records

    runtime.prepare()
    for file in (options.csv, options.json):
        if file is not None:
            folders.check_new(file)  # before minutes of work
    if options.csv and options.csv == options.json:
        raise ValueError("--csv and --json must name two files.")
    score_set = SCORE_SETS[options.scores]
    if options.partial and options.shifts is not None:
        raise ValueError("--partial is of predictions, not of --shifts; leave it out.")
    if options.tolerance and options.scores != "pixels":
        raise ValueError("--tolerance is of --scores pixels only; leave it out.")
    measure = score_set.measure
    if options.scores == "pixels":
        measure = functools.partial(scoring.measure_pixels, tolerance=options.tolerance)
    if options.shifts is not None:
        _score_shifts(options, score_set._replace(measure=measure))
        return 0
    membranes = options.scores == "em"
    scored, meaning, warnings = scored_files.read(
        options.predicted,
        options.truth,
        mask_type=options.mask_type,
        ignore=options.ignore,
        read_as=_READ_AS.get(options.scores, "labels"),
        within=options.within,
        partial=options.partial,
    )
    terminal.say(meaning)
    for warning in warnings:
        print(f"warning: {warning}")
    metrics = [measure(each.truth, each.prediction) for each in scored]
    scores = [metric.compute() for metric in metrics]
    named = [{"truth": each.truth.name, "prediction": each.name} for each in scored]
    rows = [
        files | {title: each[name] for title, name in score_set.columns.items()}
        for files, each in zip(named, scores, strict=True)
    ]
    print(console.table(rows, ["truth", "prediction", *score_set.columns]))
    print()
    total = {"all": merge_all(metrics).compute()}
    if membranes:  # the floor of these scores is well above 0
        truth = [each.truth for each in scored]
        everywhere = comparison.cell_everywhere(truth)
        total["cell everywhere"] = score_set.compute(truth, everywhere)
    table = score_set.table(total)
    print(console.table(table.rows, table.columns))
    data = {
        "images": [
            files | scoring.without_nan(each)
            for files, each in zip(named, scores, strict=True)
        ],
        "all": scoring.without_nan(total["all"]),
    }
    everything = {"truth": "all", "prediction": "all", **data["all"]}
    if options.csv is not None:
        table_rows = [*data["images"], everything]
        _write(options.csv, records.csv_text(table_rows, everything))
    if options.json is not None:
        _write(options.json, json.dumps(data, indent=2) + "\n")
    return 0


def _score_shifts(options: argparse.Namespace, score_set: "ScoreSet") -> None:
    """Prints and writes the scores of a model on shifted images."""
    from unetjax.data import checks, folder
    from unetjax.evaluation import scoring, shifts
    from unetjax.inference.segment import segment
    from unetjax.model_io import model_folder
    from unetjax.reporting import console, records

    trained = model_folder.load_model(options.shifts)
    examples, summary, problems, _ = folder.read(
        options.predicted,
        options.truth,
        mask_type=options.mask_type,
        ignore=options.ignore,
        channels=trained.selected_channels,
        within=options.within,
    )
    num_classes = trained.model.num_classes
    for each in examples:
        problems += checks.class_range(each.name, each.label, num_classes)
    checks.raise_errors(problems)
    terminal.say(str(summary))
    for problem in problems:
        print(f"warning: {problem.text}")
    scores = shifts.score(examples, functools.partial(segment, trained), score_set)
    table = shifts.table(scores, score_set)
    print(console.table(table.rows, table.columns))
    print(table.caption)
    rows = [
        {"images": title} | scoring.without_nan(each) for title, each in scores.items()
    ]
    if options.csv is not None:
        _write(options.csv, records.csv_text(rows, rows[0]))
    if options.json is not None:
        _write(options.json, json.dumps({"shifts": rows}, indent=2) + "\n")


def _write(file: pathlib.Path, text: str) -> None:
    """Writes a file of scores, and says where."""
    from unetjax.files import folders

    with folders.write_atomically(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    terminal.say(f"scores: {file}")
