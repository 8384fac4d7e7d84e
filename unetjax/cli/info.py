"""unetjax info: what a model is, learned from, expects and scored."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from unetjax.cli.command import ArgumentParser, path

if TYPE_CHECKING:
    from unetjax.inference.trained_model import TrainedModel


def add_parser(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "info",
        help="describe a model: what it learned from, expects and scored",
        description="Describe a trained model: the network, what it learned from, "
        "the images it expects, and its scores. Its files are checked as well.",
        epilog="example:  unetjax info mymodel",
    )
    parser.add_argument("model", type=path, help="folder of a trained model")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the facts about a model."""
    from unetjax.evaluation.score_sets import CELLS
    from unetjax.files.names import escape
    from unetjax.model_io import model_folder
    from unetjax.reporting import console

    trained = model_folder.load_model(options.model)
    for name, value in facts(trained).items():
        print(escape(f"{name + ':':<14}{value}"))
    provenance = trained.provenance
    columns = {
        "test images": provenance.test_scores,
        "validation images": provenance.scores,
    }
    scores = {
        title: {name: float("nan") if x is None else x for name, x in each.items()}
        for title, each in columns.items()
        if each
    }
    shown = {
        name: title
        for name, title in CELLS.shown.items()
        if all(name in each for each in scores.values())
    }
    if scores and shown:
        table = CELLS._replace(shown=shown).table(scores)
        print(f"\n{console.table(table.rows, table.columns)}")
    if provenance.scores:
        print("validation images chose the step: their scores are optimistic.")
    return 0


def facts(trained: "TrainedModel") -> Mapping[str, str]:
    """Returns what is known about a model, by its title; what is unknown is absent."""
    import jax

    from unetjax.data.checks import counted
    from unetjax.network.unet import num_input_channels

    model, provenance = trained.model, trained.provenance
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(trained.params))
    channels = num_input_channels(trained.params)
    names = trained.class_names or [str(k) for k in range(model.num_classes)]
    settings = trained.instances
    cells = f"threshold {settings.threshold:.3g}, {settings.method}"
    if settings.min_size:
        cells += f", at least {settings.min_size} pixels"
    found = {
        "network": f"U-Net of depth {model.depth}, {model.features} features, "
        f"{num_parameters:,} parameters",
        "classes": ", ".join(names),
        "expects": f"{channels} {'channel' if channels == 1 else 'channels'}, input "
        f"scaling {trained.input_scaling.method}",
        **(
            {"of files": f"channels {', '.join(trained.selected_channels)}"}
            if trained.selected_channels
            else {}
        ),
        "cells": cells,
    }
    if provenance.num_train_images is not None:
        count = provenance.num_train_images
        learned = counted(count, "image")
        if provenance.image_dtype:
            learned += f" of type {provenance.image_dtype}"
        if provenance.step is not None:
            learned += f", {provenance.step:,} updates"
        found["learned from"] = learned
    if trained.object_diameter is not None:
        found["objects"] = f"{trained.object_diameter:.3g} pixels wide (median)"
    if provenance.images.pixel_size is not None:
        found["pixels"] = f"{provenance.images.pixel_size:.3g} um wide"
    if provenance.notes:
        found["notes"] = provenance.notes
    return found
