"""unetjax demo: train on one part of a micrograph and segment the other."""

import argparse
import pathlib

from unetjax.cli import terminal
from unetjax.cli.command import ArgumentParser, count, path

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
        type=path,
        default=pathlib.Path("demo"),
        help="folder of the run (default: demo)",
    )
    parser.add_argument(
        "--steps", type=count, default=600, help="number of updates (default 600)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains, and prints the scores and the path of the report."""
    from unetjax.data import demo_image, splits
    from unetjax.devices import runtime, self_check
    from unetjax.training import experiment, planning

    runtime.prepare()
    self_check.check()
    example, origin = demo_image.load()
    terminal.say(origin)
    split = splits.split_image(example, fraction=0.4, guard=_GUARD)
    plan = planning.plan_training(split.train, num_steps=options.steps)
    for reason in plan.reasons:
        terminal.say(f"  {reason}")
    height, width = split.train[0].label.shape
    terminal.say(
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
    terminal.say("with your own images:  unetjax train IMAGES MASKS --out MODEL")
    return 0
