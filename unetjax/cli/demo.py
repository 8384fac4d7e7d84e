"""unetjax demo: train on one part of a micrograph and segment the other."""

import argparse
import importlib.metadata
import pathlib

import numpy as np

from unetjax.cli import terminal
from unetjax.cli.command import ArgumentParser
from unetjax.data import folder, splits, synthetic
from unetjax.data.examples import Example
from unetjax.training import experiment, planning

# A package under the BSD licence with one annotated fluorescence micrograph of 125
# nuclei. Its files are read; it is never imported.
_CARRIER = "stardist"
_IMAGE, _MASK = "img2d.tif", "mask2d.tif"
_GUARD = 48  # pixels between the two parts: half of what the network sees


def add_parser(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "demo",
        help="train on an example image and show the result, in minutes",
        description="Train on one part of an annotated micrograph, segment the other "
        "part, and write a report. Run the same command again to resume an interrupted "
        "training, or to print the scores of a finished one.",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("demo"),
        help="folder of the run (default: demo)",
    )
    parser.add_argument(
        "--steps", type=int, default=1500, help="number of updates (default 1500)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains, and prints the scores and the path of the report."""
    example, origin = find_micrograph()
    print(origin)
    split = splits.split_image(example, fraction=0.4, guard=_GUARD)
    plan = planning.plan_training(split.train, num_steps=options.steps)
    for reason in plan.reasons:
        print(f"  {reason}")
    height, width = split.train[0].label.shape
    print(
        f"training on {height} x {width} pixels, validation on the rest, with a gap of "
        f"{_GUARD} pixels"
    )
    outcome = experiment.run(
        plan.config,
        split,
        options.out,
        title="unetjax demo: nuclei from one annotated micrograph",
        command=f"unetjax demo --steps {options.steps}",
    )
    print(outcome.text)
    terminal.show_file("report", outcome.report)
    print("with your own images:  unetjax train IMAGES MASKS --out MODEL")
    return 0


def find_micrograph() -> tuple[Example, str]:
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
