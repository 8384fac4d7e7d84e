"""unetjax predict: segment images of any size."""

import argparse
import dataclasses
import functools
import pathlib
from typing import Literal

from unetjax.cli.command import ArgumentParser, path


def add_parser(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "predict",
        help="segment images of any size",
        description="Segment images of any size. For a.tif the folder receives "
        "a_overlay.png to look at and a_mask.png (0 and 255, or the class), or with "
        "--instances a_labels.tif (numbered cells).",
    )
    parser.add_argument("model", type=path, help="folder of a trained model")
    parser.add_argument(
        "input", type=path, nargs="+", help="images, or folders of images"
    )
    parser.add_argument(
        "--out", type=path, required=True, help="folder for the results"
    )
    parser.add_argument(
        "--with",
        dest="others",
        metavar="MODEL",
        type=path,
        action="append",
        default=[],
        help="average with another model; repeat for each",
    )
    parser.add_argument(
        "--tta",
        "--average",
        choices=("none", "rot90", "d4", "rot7"),
        default="none",
        help="test-time augmentation: average over rotations and reflections; d4 is "
        "best and takes 8 times as long, rot90 4 times (default none)",
    )
    parser.add_argument(
        "--scale",
        type=_scale,
        default=1.0,
        metavar="FACTOR",
        help="enlarge images by this factor before, and the result back; auto: the "
        "factor that gives cells the size of those of the training images (default 1)",
    )
    parser.add_argument(
        "--instances",
        "--labels",
        action="store_true",
        help="write numbered cells instead of a mask",
    )
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="also write a_probs.tif: float32, one channel per class",
    )
    parser.add_argument(
        "--engine",
        choices=("jax", "openvino"),
        default="jax",
        help="inference engine; openvino is faster on a CPU and needs  pip install "
        "'unetjax[openvino]'  (default jax)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="number type of the computation; bfloat16 is less precise and two to "
        "three times as fast on GPUs, and on recent CPUs with openvino (default: as "
        "trained)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace results that the folder has of these images (default: resume an "
        "interrupted prediction, and refuse results of other models or options)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Segments every image."""
    from unetjax.devices import runtime
    from unetjax.evaluation import prediction_files
    from unetjax.files import images
    from unetjax.inference.segment import segment
    from unetjax.model_io import model_folder, openvino

    runtime.prepare()
    models = list(map(model_folder.load_model, (options.model, *options.others)))
    if options.dtype is not None:
        models = [
            dataclasses.replace(each, model=each.model.clone(dtype=options.dtype))
            for each in models
        ]
    trained, *others = models
    engines = None
    if options.engine == "openvino":
        engines = list(map(openvino.compile_network, models))
    segment_image = functools.partial(
        segment,
        trained,
        others=others,
        tta=options.tta,
        scale=options.scale,
        engines=engines,
    )
    paths = _images(options.input)
    inputs = [(_stem(p), functools.partial(images.read_image, p)) for p in paths]
    folders = (options.model, *options.others)
    num_skipped = prediction_files.write_all(
        segment_image,
        inputs,
        options.out,
        instances=options.instances,
        probabilities=options.probabilities,
        origin={
            "models": list(map(model_folder.fingerprint, folders)),
            "tta": options.tta,
            "engine": options.engine,
            "dtype": options.dtype,
        },
        overwrite=options.overwrite,
    )
    earlier = f", {num_skipped} of them before" if num_skipped else ""
    print(f"{len(inputs)} images segmented into {options.out}{earlier}")
    return 0


def _scale(text: str) -> "float | Literal['auto']":
    """Returns the value of --scale."""
    if text == "auto":
        return "auto"
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 1 / 16 <= factor <= 16:
        raise argparse.ArgumentTypeError(
            f"must be auto or a factor from 1/16 to 16, got {text!r}"
        )
    return factor


def _images(paths: list[pathlib.Path]) -> list[pathlib.Path]:
    """The image files among the paths and in the folders among them."""
    from unetjax.files import images

    found = list[pathlib.Path]()
    for given in paths:
        inside = [given]
        if given.is_dir():
            inside = [p for p in sorted(given.iterdir()) if images.is_image(p)]
        if not inside or not given.exists():
            raise FileNotFoundError(f"{given} holds no image; name images or folders.")
        found += inside
    return found


def _stem(path: pathlib.Path) -> str:
    return path.stem.removesuffix(".ome")
