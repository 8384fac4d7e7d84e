"""unetjax import: make a model of the weights of a PyTorch U-Net."""

import argparse
from typing import TYPE_CHECKING

from unetjax.cli import terminal
from unetjax.cli.command import ArgumentParser, path

if TYPE_CHECKING:
    from unetjax.network.input_scaling import Scaling

_DESCRIPTION = """\
Make a model of the weights of a PyTorch U-Net, to predict with or to train further
(unetjax train --from). Accepted are state dicts, .safetensors or .pth, of the networks
of milesial/Pytorch-UNet (transposed convolutions), jvanvugt/pytorch-unet (without batch
normalisation) and mateuszbuda/brain-segmentation-pytorch. Nothing in a file is
executed.
"""


def add_parser(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "import",
        help="make a model of the weights of a PyTorch U-Net",
        description=_DESCRIPTION,
        epilog="example:  unetjax import checkpoint.pth mymodel",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=path, help="weights, .safetensors, .pth or .pt")
    parser.add_argument("model", type=path, help="new folder for the model")
    parser.add_argument(
        "--padding",
        choices=("SAME", "VALID"),
        help="whether the convolutions keep the size of the image; the weights do not "
        "tell (default: as in the project, VALID for jvanvugt, else SAME)",
    )
    parser.add_argument(
        "--scaling",
        choices=("unit", "minmax", "percentile", "zscore", "none"),
        default="unit",
        help="how grey values were scaled for the network; unit: integers divided by "
        "the largest of their type (default unit)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Writes the model folder, and says what the network is."""
    from unetjax.files import folders
    from unetjax.model_io import model_folder, state_dicts
    from unetjax.network.input_scaling import InputScaling

    if options.model.exists() and not folders.is_unused(options.model):
        raise FileExistsError(f"{options.model} exists; name a new folder.")
    scaling: Scaling = options.scaling
    trained = state_dicts.to_model(
        state_dicts.read(options.file),
        padding=options.padding,
        input_scaling=InputScaling(scaling),
    )
    model_folder.save_model(options.model, trained)
    model = trained.model
    terminal.say(
        f"{trained.provenance.notes}: depth {model.depth}, {model.features} features, "
        f"{model.num_classes} classes, {model.padding} padding, input scaling {scaling}"
    )
    terminal.show_file("model", options.model)
    return 0
