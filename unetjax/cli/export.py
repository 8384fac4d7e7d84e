"""unetjax export: write a model for another runtime."""

import argparse
from typing import TYPE_CHECKING

from unetjax.cli import terminal
from unetjax.cli.command import ArgumentParser, count, path

if TYPE_CHECKING:
    from unetjax.inference.trained_model import TrainedModel
    from unetjax.model_io.export import Exported

_ENDINGS = {"onnx": ".onnx", "stablehlo": ".stablehlo", "bioimageio": ".zip"}
_DESCRIPTION = """\
Write a trained model for another runtime: as ONNX, for onnxruntime, OpenVINO, MATLAB
and others, as StableHLO, for JAX without unetjax, or as a bioimage.io package, for
tools that read those. ONNX and StableHLO map tiles that are scaled as in
training to probabilities; a package takes images as stored, and describes how they are
scaled and cut into tiles. What is written was run before, and compared with the model.
"""
_EXAMPLES = """\
examples:
  unetjax export mymodel mymodel.onnx
  unetjax export mymodel mymodel.stablehlo --tile-size 512
  unetjax export mymodel mymodel.zip --author 'Ada Lovelace' --license CC-BY-4.0
"""


def add_parser(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "export",
        help="write a model for another runtime: ONNX, StableHLO, bioimage.io",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=path, help="folder of a trained model")
    parser.add_argument("file", type=path, help="new file, .onnx, .stablehlo or .zip")
    parser.add_argument(
        "--format",
        choices=tuple(_ENDINGS),
        help="what to write (default: by the ending; .zip is a bioimage.io package, "
        "which needs  pip install 'unetjax[bioimageio]')",
    )
    parser.add_argument(
        "--tile-size",
        type=count,
        metavar="PIXELS",
        help="side of the tiles of a .stablehlo file (default: as in training)",
    )
    parser.add_argument(
        "--author",
        dest="authors",
        action="append",
        default=[],
        metavar="NAME",
        help="who made the model, for bioimage.io; repeat for each",
    )
    parser.add_argument(
        "--license",
        default="",
        metavar="SPDX",
        help="licence of a bioimage.io package, such as CC-BY-4.0 or MIT",
    )
    parser.add_argument(
        "--cite",
        dest="citations",
        action="append",
        default=[],
        metavar="DOI",
        help="what users of a bioimage.io package should cite, besides the U-Net; "
        "repeat for each",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exports the model, and prints what the file expects and returns."""
    from unetjax.devices import runtime
    from unetjax.model_io import model_folder

    kind = _format(options)
    runtime.prepare()
    exported = _export(kind, model_folder.load_model(options.model), options)
    facts = exported.contract
    scaling = facts["input_scaling"]["method"]
    print(
        f"input:   {facts['channels']} channels, float32, tiles of "
        f"{facts['tile_sizes']}"
    )
    if kind == "bioimageio":
        print(f"scaling: {scaling}, described in the package")
    else:
        print(f"scaling: {scaling}, see InputScaling")
    print(
        f"outputs: {', '.join(facts['outputs'])}; {facts['lost_pixels']} pixels "
        "smaller than the input"
    )
    print(
        f"checked: {exported.runtime} differs from JAX by at most "
        f"{exported.difference:.1g}"
    )
    terminal.show_file("model", options.file)
    return 0


def _format(options: argparse.Namespace) -> str:
    """Returns the format, which the ending must fit."""
    endings = {ending: kind for kind, ending in _ENDINGS.items()}
    kind = options.format or endings.get(options.file.suffix.lower())
    if kind is None or options.file.suffix.lower() != _ENDINGS[kind]:
        accepted = _ENDINGS[kind] if kind else ", ".join(endings)
        raise ValueError(
            f"{options.file} must end in {accepted}{' as ' + kind if kind else ''}."
        )
    given = [
        f"--{name}"
        for name, value in {
            "author": options.authors,
            "license": options.license,
            "cite": options.citations,
        }.items()
        if value
    ]
    if given and kind != "bioimageio":
        raise ValueError(
            f"{given[0]} is of bioimage.io packages only; leave it out, or name a "
            f"file that ends in {_ENDINGS['bioimageio']}."
        )
    if options.tile_size is not None and kind != "stablehlo":
        raise ValueError(
            "--tile-size is of .stablehlo files only; leave it out, as other formats "
            "have free sizes."
        )
    return kind


def _export(
    kind: str, trained: "TrainedModel", options: argparse.Namespace
) -> "Exported":
    from unetjax.model_io import bioimageio, export

    if kind != "bioimageio":
        return export.export(trained, options.file, tile_size=options.tile_size)
    about = bioimageio.Publication(
        tuple(options.authors), options.license, tuple(options.citations)
    )
    return bioimageio.export(trained, options.file, about)
