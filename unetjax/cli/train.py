"""unetjax train: from annotated images to a model."""

import argparse
import pathlib
import shlex
from dataclasses import replace

from unetjax.cli import check, terminal
from unetjax.data import checks, folder, open_data
from unetjax.data.open_data import DataSettings
from unetjax.training import experiment, planning


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "train",
        help="learn from annotated images",
        description="Learn from annotated images, one is enough. Part of them is held "
        "out to choose and score the model. The same command again goes on after an "
        "interruption; Ctrl-C keeps the best model so far.",
    )
    check.add_data_arguments(parser)
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, help="folder of the model, new"
    )
    parser.add_argument(
        "--steps", type=int, default=1500, help="number of updates (default 1500)"
    )
    parser.add_argument(
        "--features",
        type=int,
        default=16,
        help="channels at full resolution: more learn more, slower (default 16)",
    )
    parser.add_argument(
        "--validation-fraction",
        type=float,
        default=0.2,
        help="fraction of the images, or of a single one, for validation (default 0.2)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all randomness")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains and prints the scores."""
    examples, summary, problems = folder.read(
        options.images, options.masks, mask_type=options.mask_type
    )
    checks.raise_errors(problems)
    print(summary)
    for problem in problems:
        print(f"warning: {problem.text}")
    settings = DataSettings(
        images=str(options.images),
        masks=str(options.masks),
        mask_type=options.mask_type,
        validation_fraction=options.validation_fraction,
        seed=options.seed,
    )
    split = open_data.draw_split(examples, settings)
    proposal = planning.plan_training(
        split.train, num_steps=options.steps, features=options.features
    )
    for reason in proposal.reasons:
        print(f"  {reason}")
    outcome = experiment.run(
        replace(proposal.config, seed=options.seed, data=settings),
        split,
        options.out,
        title=f"{options.out.name}: {summary}",
        command=_command(options),
    )
    print(outcome.text)
    terminal.show_file("report", outcome.report)
    print(f"use it:  unetjax predict {options.out} IMAGE... --out FOLDER --labels")
    return 0


def _command(options: argparse.Namespace) -> str:
    words = ["unetjax", "train", options.images, options.masks, "--out", options.out]
    for name in ("mask_type", "steps", "features", "validation_fraction", "seed"):
        words += [f"--{name.replace('_', '-')}", getattr(options, name)]
    return shlex.join(map(str, words))
