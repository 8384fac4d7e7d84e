"""unetjax export: write a model for another runtime."""

import argparse

from unetjax.cli import terminal
from unetjax.cli.command import ArgumentParser, count, path

_DESCRIPTION = """\
Write a trained model for another runtime: as ONNX, for onnxruntime, OpenVINO, MATLAB
and others, or as StableHLO, for JAX without unetjax. The file maps tiles that are
scaled as in training to probabilities. It is run on a random tile and compared with the
model before it is written.
"""
_EXAMPLES = """\
examples:
  unetjax export mymodel mymodel.onnx
  unetjax export mymodel mymodel.stablehlo --tile-size 512
"""


def add_parser(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "export",
        help="write a model for another runtime: ONNX, StableHLO",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=path, help="folder of a trained model")
    parser.add_argument("file", type=path, help="new file, .onnx or .stablehlo")
    parser.add_argument(
        "--tile-size",
        type=count,
        metavar="PIXELS",
        help="side of the tiles of a .stablehlo file (default: as in training)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exports the model, and prints what the file expects and returns."""
    from unetjax.devices import runtime
    from unetjax.model_io import model_folder
    from unetjax.model_io.export import export

    runtime.prepare()
    trained = model_folder.load_model(options.model)
    exported = export(trained, options.file, tile_size=options.tile_size)
    facts = exported.contract
    print(
        f"input:   {facts['channels']} channels, float32, tiles of "
        f"{facts['tile_sizes']}"
    )
    print(f"scaling: {facts['input_scaling']['method']}, see InputScaling")
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
