"""unetjax train: train a model on annotated images, and score it."""

import argparse
import dataclasses
import functools
import pathlib
import shlex
from typing import TYPE_CHECKING

from unetjax.cli import check, terminal
from unetjax.cli.command import (
    ArgumentParser,
    count,
    fraction,
    integer,
    path,
    positive,
)

if TYPE_CHECKING:
    from unetjax.data.examples import Example
    from unetjax.data.open_data import DataSettings
    from unetjax.data.splits import Split
    from unetjax.training.config import ExperimentConfig

# Options of the config that have flags of their own.
_FLAGS = {
    "num_steps": "--steps or --minutes",
    "seed": "--seed",
    "pretrained": "--from",
    "data": "the options that name and split the images",
}
_SEEDS = 20  # that are tried for a split in which every part has what it is for
_DESCRIPTION = """\
Train a model on annotated images; one is enough. The settings are derived from the
images and printed. Some images are drawn for validation: they choose the best step and
the settings that separate cells. Test images, if any, choose nothing, and their scores
are reported. Run the same command again to resume an interrupted training; Ctrl-C keeps
the best model so far.
"""
_EXAMPLES = """\
examples:
  unetjax train images/ masks/ --out mymodel
  unetjax train images/ masks/ --out mymodel --test 0.2
  unetjax train images/ masks/ --out mymodel --test-images new/ --test-masks new_masks/
"""


def add_parser(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "train",
        help="train a model on annotated images",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_data_arguments(parser)
    parser.add_argument(
        "--out",
        type=path,
        required=True,
        help="new folder for the model, or that of an interrupted training",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes",
        type=positive,
        default=5.0,
        help="time for training, without evaluations; the speed of this machine is "
        "measured first (default 5)",
    )
    length.add_argument(
        "--steps", type=count, help="number of updates, instead of --minutes"
    )
    parser.add_argument(
        "--features",
        type=count,
        help="channels at full resolution; more are slower and can learn more "
        "(default 16, or those of --from)",
    )
    parser.add_argument(
        "--from",
        type=path,
        metavar="MODEL",
        dest="pretrained",
        help="model folder whose weights are the initial ones, for few images like "
        "those it was trained on; its architecture is kept",
    )
    parser.add_argument(
        "--validation",
        type=fraction,
        default=0.2,
        metavar="FRACTION",
        help="fraction of the images, or of a single one, for validation (default 0.2)",
    )
    parser.add_argument(  # as --validation was called
        "--holdout",
        type=fraction,
        dest="validation",
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--test",
        type=fraction,
        default=0.0,
        metavar="FRACTION",
        help="fraction of the images, or of a single one, for testing (default 0)",
    )
    parser.add_argument(
        "--test-images",
        type=path,
        metavar="PATH",
        help="test images, instead of --test",
    )
    parser.add_argument("--test-masks", type=path, metavar="PATH", help="their masks")
    parser.add_argument(
        "--seed",
        type=integer,
        default=0,
        help="seed of the split, the initial weights and the training (default 0)",
    )
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        dest="overrides",
        help="an option of the config instead of the derived one, such as "
        "optimizer.learning_rate=1e-3; once for each. config.json in the folder of a "
        "training lists all",
    )
    parser.add_argument(
        "--learning-curve",
        action="store_true",
        help="instead of one model, train on an eighth, a quarter, half and all of the "
        "training images, twice each, to learn whether annotating more would help; "
        "each of the up to eight trainings takes --minutes",
    )
    parser.add_argument(
        "--keep-split",
        action="store_true",
        help="resume with the images with which the training began, although others "
        "were added since",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains, and prints the scores."""
    from unetjax.data import checks, splits
    from unetjax.data.open_data import DataSettings
    from unetjax.devices import runtime, self_check
    from unetjax.model_io import model_folder
    from unetjax.reporting import console
    from unetjax.sweeps import learning_curve
    from unetjax.training import cost, experiment, planning, run_folder

    _check_options(options)
    if not options.learning_curve:
        run_folder.check_folder(options.out)  # before minutes are spent
    runtime.prepare()
    self_check.check()
    settings = DataSettings(
        images=str(options.images.resolve()),
        masks=str(options.masks.resolve()),
        image_suffix=options.image_suffix,
        mask_suffix=options.mask_suffix,
        mask_type=options.mask_type,
        ignore=options.ignore,
        within=_resolved(options.within),
        channels=options.channels,
        validation_fraction=options.validation,
        test_fraction=options.test,
        test_images=_resolved(options.test_images),
        test_masks=_resolved(options.test_masks),
        seed=options.seed,
        keep_split=options.keep_split,
    )
    examples, summary, problems, _ = check.read_data(
        options.images, options.masks, options
    )
    test = None
    if options.test_images:
        test, _, more, _ = check.read_data(
            options.test_images, options.test_masks, options
        )
        problems += more
    checks.raise_errors(problems)
    terminal.say(str(summary))
    for problem in problems:
        print(f"warning: {problem.text}")
    if len(examples) == 1:
        settings = _fit_guard(settings, max(examples[0].label.shape))
    split, settings = _draw_split(examples, settings, test)
    splits.check_disjoint(split)
    if options.keep_split:
        split = run_folder.keep_split(options.out, split)
    terminal.say(experiment.describe(split))
    if options.learning_curve:
        learning_curve.check_images(split)
    overrides = dict(options.overrides)
    pretrained = None
    if options.pretrained:
        pretrained = model_folder.load_model(options.pretrained)
        overrides["pretrained"] = str(options.pretrained.resolve())
    propose = functools.partial(
        planning.plan_training,
        numbered=summary is None or summary.masks.mask_type == "instances",
        features=options.features or 16,
        pretrained=pretrained,
        overrides=overrides,
    )
    num_steps = options.steps
    if num_steps is None:  # a resumed run keeps the steps for which it was planned
        begun = learning_curve if options.learning_curve else run_folder
        num_steps = begun.planned_steps(options.out)
    if num_steps is None:
        terminal.say("measuring the speed of a step on this machine ...")
        channels = split.train[0].image.shape[-1]
        num_steps = cost.steps_within(
            propose(split.train).config, options.minutes, channels=channels
        )

    plan = propose(split.train, num_steps=num_steps)
    for reason in plan.reasons:
        terminal.say(f"  {reason}")
    config = dataclasses.replace(
        _with_classes(plan.config, split), seed=options.seed, data=settings
    )
    if options.learning_curve:
        curve = learning_curve.measure(
            split, config, options.out, command=_command(options)
        )
        found = learning_curve.table(curve)
        print(f"{curve.score}:")
        print(console.table(found.rows, found.columns))
        print(curve.conclusion)
        terminal.show_file("report", options.out / "report.html")
        return 0
    outcome = experiment.run(
        config,
        split,
        options.out,
        title=f"{options.out.name}: {summary}",
        command=_command(options),
    )
    print(outcome.text)
    terminal.show_file("report", outcome.report)
    if not outcome.verdict:
        terminal.say(f"use it:  unetjax predict {options.out} IMAGE... --out FOLDER")
    return 0


def _setting(text: str) -> tuple[str, str]:
    """Returns name and value of an override, for argparse."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(
            f"must be of the form optimizer.learning_rate=1e-3, got {text!r}"
        )
    name = name.removeprefix("config.")
    section = name.partition(".")[0]
    if section in _FLAGS:
        raise argparse.ArgumentTypeError(f"{name} is set by {_FLAGS[section]}")
    return name, value


def _check_options(options: argparse.Namespace) -> None:
    """Refuses options that contradict each other, before anything is read."""
    if options.validation == 0:
        raise ValueError(
            "--validation must be above 0: the best step is chosen on these images."
        )
    if not 0 <= options.seed < 2**32:
        raise ValueError(f"--seed must be from 0 to {2**32 - 1}, got {options.seed}.")
    if bool(options.test_images) != bool(options.test_masks):
        raise ValueError("--test-images and --test-masks must be given together.")
    if options.pretrained and options.features:
        raise ValueError("--features cannot differ from those of --from; give one.")
    if options.learning_curve and options.keep_split:
        raise ValueError(
            "--learning-curve draws its images anew; leave out --keep-split, and "
            "choose a new folder for other images."
        )
    if options.test and options.test_images:
        raise ValueError(
            "--test draws test images, and --test-images names them; give one of both."
        )


def _draw_split(
    examples: "list[Example]", settings: "DataSettings", test: "list[Example] | None"
) -> "tuple[Split, DataSettings]":
    """Draws the parts so that each has what it is for, where seeds nearby allow it."""
    from unetjax.data import open_data

    first = open_data.draw_split(examples, settings, test=test)
    gaps = _gaps(first)
    if not gaps:
        return first, settings
    for seed in range(settings.seed + 1, settings.seed + _SEEDS):
        other = dataclasses.replace(settings, seed=seed % 2**32)
        split = open_data.draw_split(examples, other, test=test)
        if not _gaps(split):
            terminal.say(
                f"images are drawn by seed {other.seed}: by {settings.seed}, {gaps}"
            )
            return split, other
    print(f"warning: {gaps}; annotate more images")
    return first, settings


def _gaps(split: "Split") -> str:
    """Returns what a split lacks: a class to learn, or objects to validate on."""
    train, validation, both = (
        {c for e in part for c in set(e.label.flat) if c > 0}
        for part in (split.train, split.validation, [*split.train, *split.validation])
    )
    if missing := sorted(both - train):
        return f"no training image has class {', '.join(map(str, missing))}"
    if both and not validation:
        return "no validation image has an object"
    return ""


def _with_classes(config: "ExperimentConfig", split: "Split") -> "ExperimentConfig":
    """Returns the config with all classes of all images."""
    labels = [example.label for part in split for example in part or ()]
    num_classes = max(2, 1 + max(int(label.max()) for label in labels))
    if num_classes <= config.model.num_classes:
        return config
    model = config.model.clone(num_classes=num_classes)
    return dataclasses.replace(config, model=model)


def _resolved(path: pathlib.Path | None) -> str:
    """Returns a path as it is compared when a run is resumed from another folder."""
    return "" if path is None else str(path.resolve())


def _fit_guard(settings: "DataSettings", length: int) -> "DataSettings":
    """Narrows the band between the parts of a single image that is small."""
    guard = min(settings.guard, length // 8)
    if guard < settings.guard:
        print(
            f"warning: the image is small: only {guard} pixels lie between its parts, "
            f"not {settings.guard}, and the network sees across them; its scores come "
            "out too high."
        )
    return dataclasses.replace(settings, guard=guard)


def _command(options: argparse.Namespace) -> str:
    """Returns the command line that repeats the training."""
    args = ["unetjax", "train", options.images, options.masks, "--out", options.out]
    for name in ("mask_type", "ignore", "features", "validation", "test", "seed"):
        value = getattr(options, name)
        args += [] if value is None else [f"--{name.replace('_', '-')}", value]
    length = "minutes" if options.steps is None else "steps"
    args += [f"--{length}", getattr(options, length)]
    if options.learning_curve:
        args += ["--learning-curve"]
    if options.pretrained:
        args += ["--from", options.pretrained]
    args += [part for pair in options.overrides for part in ("--set", "=".join(pair))]
    if options.channels:
        args += ["--channels", ",".join(options.channels)]
    for name in ("image_suffix", "mask_suffix"):
        if value := getattr(options, name):
            args += [f"--{name.replace('_', '-')}={value}"]
    if options.within:
        args += ["--within", options.within]
    if options.test_images:
        args += ["--test-images", options.test_images]
        args += ["--test-masks", options.test_masks]
    return shlex.join(map(str, args))
