"""unetjax demo: learn from part of one micrograph, segment the rest, show it."""

import argparse
import importlib.metadata
import pathlib

import numpy as np

from unetjax.cli import terminal
from unetjax.data import folder, splits, synthetic
from unetjax.data.examples import Example
from unetjax.training import experiment, planning

# A distribution under the BSD licence that carries one annotated fluorescence
# micrograph of 125 nuclei; it is taken as data, never imported.
_CARRIER = "stardist"
_IMAGE, _MASK = "img2d.tif", "mask2d.tif"
_GUARD = 48  # pixels between the two parts: half of what the network sees


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "demo",
        help="see all of it work, in minutes",
        description="Train on one part of an annotated micrograph, segment the other "
        "part, and write a report to look at. The same command again goes on, or shows "
        "what is there.",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("demo"), help="default: demo"
    )
    parser.add_argument(
        "--steps", type=int, default=1500, help="number of updates (default 1500)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains, scores, and names the report."""
    example, origin = find_micrograph()
    print(origin)
    split = splits.split_image(example, fraction=0.4, guard=_GUARD)
    proposal = planning.plan_training(split.train, num_steps=options.steps)
    for reason in proposal.reasons:
        print(f"  {reason}")
    height, width = split.train[0].label.shape
    print(
        f"training on {height}x{width} pixels, a guard band of 48, scoring on the rest"
    )
    outcome = experiment.run(
        proposal.config,
        split,
        options.out,
        title="unetjax demo: nuclei from one annotated micrograph",
        command=f"unetjax demo --steps {options.steps}",
    )
    print(outcome.text)
    terminal.show_file("report", outcome.report)
    print(f"your own:  unetjax train IMAGES MASKS --out MODEL   ({options.out} is one)")
    return 0


def find_micrograph() -> tuple[Example, str]:
    """Returns an annotated image and a sentence on where it is from.

    The fluorescence micrograph that the `stardist` distribution carries, if that is
    installed; else synthetic cells.
    """
    try:
        files = importlib.metadata.files(_CARRIER) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = {file.name: pathlib.Path(str(file.locate())) for file in files}
    if _IMAGE in found and _MASK in found:
        (example,) = folder.load(found[_IMAGE], found[_MASK], mask_type="instances")
        count = len(np.unique(example.instances)) - 1
        version = importlib.metadata.version(_CARRIER)
        return example, (
            f"a fluorescence micrograph of {count} nuclei, from "
            f"{_CARRIER} {version} (BSD-3-Clause)"
        )
    return synthetic.touching_cells(0, size=(512, 512), num_cells=150), (
        "synthetic cells: a real micrograph comes with  pip install --no-deps stardist"
    )
