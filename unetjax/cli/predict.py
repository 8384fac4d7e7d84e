"""unetjax predict: segment images of any size."""

import argparse
import dataclasses
import functools
import pathlib
import sys
from typing import TYPE_CHECKING, Any, Literal

from unetjax.cli import terminal
from unetjax.cli.check import add_channels
from unetjax.cli.command import ArgumentParser, path
from unetjax.files.names import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from unetjax.evaluation.prediction_files import Images
    from unetjax.inference.trained_model import TrainedModel


def add_parser(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "predict",
        help="segment images of any size",
        description="Segment images of any size. For a.tif the folder receives "
        "a_overlay.png to look at, and a_labels.tif (numbered cells) if the model was "
        "trained on numbered cells, or else a_mask.png (0 and 255, or the class). A "
        "stack is segmented section by section. Images larger than the memory, and "
        "Zarr or OME-Zarr images, are segmented block by block; their results are "
        "tiled TIFFs, or OME-Zarr. Images that cannot be read are named at the end, "
        "and stop nothing.",
    )
    parser.add_argument("model", type=path, help="folder of a trained model")
    parser.add_argument(
        "input",
        type=path,
        nargs="+",
        help="images, folders of images, or patterns such as '*.tif'",
    )
    parser.add_argument(
        "--out",
        type=path,
        required=True,
        help="folder for the results, or labels.zarr for those of one Zarr image",
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
        help="write numbered cells (default with a model that was trained on them)",
    )
    parser.add_argument(
        "--masks",
        action="store_true",
        help="write masks also with a model that was trained on numbered cells",
    )
    parser.add_argument(
        "--recursive",
        action="store_true",
        help="also segment the images in folders inside the folders",
    )
    add_channels(parser, default="those of the training, where a file has them")
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="also write a_probs.tif: float32, one channel per class",
    )
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="also write a_uncertainty.tif: the variance of the probabilities over the "
        "rotations and reflections of --tta and the models of --with",
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="also write a_objects.csv: class, area, position, axes, grey values and "
        "confidence of every cell",
    )
    parser.add_argument(
        "--rois",
        action="store_true",
        help="also write the outline of every cell: a_rois.zip for the ROI manager of "
        "ImageJ, a_objects.geojson for QuPath; needs  pip install 'unetjax[rois]'",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "jax", "openvino"),
        default="auto",
        help="inference engine; openvino is faster on a CPU and needs  pip install "
        "'unetjax[openvino]'  (default auto: openvino where it is installed and there "
        "is no GPU, else jax; an interrupted prediction keeps its engine)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="number type of the computation; bfloat16 is less precise and two to "
        "three times as fast on GPUs, and on recent CPUs with openvino (default: as "
        "trained)",
    )
    parser.add_argument(
        "--part",
        type=_part,
        metavar="K/N",
        help="predict only the K-th of N parts of the blocks of images that are "
        "segmented block by block: for N processes or machines that share a disk. "
        "Afterwards the same command without --part writes the results",
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
    from unetjax.data import checks
    from unetjax.devices import runtime, self_check
    from unetjax.evaluation import (
        prediction_files,
        prediction_inputs,
        prediction_warnings,
    )
    from unetjax.files import images
    from unetjax.inference.segment import segment, segment_with_variance
    from unetjax.large import files as large_files
    from unetjax.large.segmentation import Part
    from unetjax.model_io import model_folder, openvino
    from unetjax.network.unet import num_input_channels

    if options.uncertainty and options.tta == "none" and not options.others:
        raise ValueError(
            "--uncertainty compares several predictions of an image, and there is one; "
            "add --tta d4, or --with another model."
        )
    runtime.prepare()
    self_check.check()
    models = list(map(model_folder.load_model, (options.model, *options.others)))
    if options.dtype is not None:
        models = [
            dataclasses.replace(each, model=each.model.clone(dtype=options.dtype))
            for each in models
        ]
    trained, *others = models
    engines, engine = None, _choose_engine(options, models)
    terminal.say(f"engine: {_describe_engine(engine)}")
    if engine == "openvino":
        engines = list(map(openvino.compile_network, models))
    segment_image = functools.partial(
        segment_with_variance if options.uncertainty else segment,
        trained,
        others=others,
        tta=options.tta,
        scale=options.scale,
        engines=engines,
    )
    found = prediction_inputs.find(options.input, recursive=options.recursive)
    chosen: dict[str, Any] = {
        "num_channels": num_input_channels(trained.params),
        "channels": options.channels,
        "trained_on": _common_channels(models),
    }
    read = functools.partial(prediction_inputs.read, **chosen)
    names = prediction_inputs.unique_names(found.paths)
    named = list(zip(names, found.paths, strict=True))
    large = [(name, path) for name, path in named if large_files.is_large(path)]
    _check_large(options, [path for _, path in large], len(named))
    inputs = [
        prediction_files.Input(
            name,
            functools.partial(_read, read, path, metadata.is_stack),
            metadata,
            path,
        )
        for name, path in named
        if (name, path) not in large
        for metadata in [images.read_metadata(path)]
    ]
    folders = (options.model, *options.others)
    instances = options.instances or (not options.masks and _numbers_cells(trained))
    odd = prediction_warnings.PredictionWarnings(
        trained, numbers_cells=instances, scale=options.scale
    )
    sizes = [(path.name, images.read_metadata(path)) for path in found.paths]
    if text := prediction_warnings.pixel_sizes(sizes, trained, options.scale):
        print(f"warning: {text}")
    by_blocks = [
        large_files.LargeFile(
            trained,
            path,
            name,
            fit=functools.partial(
                prediction_inputs.select,
                path=path,
                names_in_file=images.read_metadata(path).channels,
                **chosen,
            ),
            instances=instances,
            probabilities=options.probabilities,
            table=options.table,
            rois=options.rois,
            others=others,
            tta=options.tta,
            engines=engines,
            result=f"../{options.out.name}" if _is_zarr(options.out) else "",
        )
        for name, path in large
    ]
    origin = {
        "models": list(map(model_folder.fingerprint, folders)),
        "tta": options.tta,
        "scale": options.scale,
        "engine": engine,
        "dtype": options.dtype,
        **({"channels": options.channels} if options.channels else {}),
    }
    results = {
        "instances": instances,
        "probabilities": options.probabilities,
        "table": options.table,
        "rois": options.rois,
        "uncertainty": options.uncertainty,
    }
    if options.part is not None:
        part = Part(*options.part)
        origin |= prediction_files.chosen_results(**results)
        for each in by_blocks:
            each.predict_part(_record_folder(options.out), part, origin=origin)
        terminal.say(
            f"part {part.index} of {part.count} is predicted; once all are, the same "
            "command without --part writes the results"
        )
        return 0
    num_skipped, failures = prediction_files.write_all(
        segment_image,
        inputs,
        _record_folder(options.out),
        **results,
        large=by_blocks,
        inspect=odd.inspect,
        origin=origin,
        overwrite=options.overwrite,
    )
    num_segmented = len(named) - len(failures)
    earlier = f", {num_skipped} of them before" if num_skipped else ""
    images_segmented = checks.counted(num_segmented, "image")
    terminal.say(f"{images_segmented} segmented into {options.out}{earlier}")
    for text in odd.sentences():
        print(f"warning: {text}")
    if found.skipped:
        print(f"warning: {prediction_inputs.describe_skipped(found.skipped)}")
    for failure in failures:
        print(f"error: {escape(failure)}", file=sys.stderr)
    return 1 if failures else 0


def _is_zarr(out: pathlib.Path) -> bool:
    """Returns whether --out names the result of one image."""
    return out.suffix == ".zarr"


def _record_folder(out: pathlib.Path) -> pathlib.Path:
    """Returns the folder of the record: that of the results, or one beside a Zarr."""
    return out.with_name(f".{out.stem}.parts") if _is_zarr(out) else out


def _check_large(
    options: argparse.Namespace, large: "Sequence[pathlib.Path]", num_inputs: int
) -> None:
    """Refuses what cannot be done block by block, before anything is read."""
    from unetjax.large import arrays

    if _is_zarr(options.out) and not (
        num_inputs == len(large) == 1 and arrays.is_zarr(large[0])
    ):
        raise ValueError(
            f"--out {options.out} names the result of one Zarr image; name a folder "
            "for several images or other formats."
        )
    out = options.out.resolve()
    for image in large:
        if out.is_relative_to(image.resolve()):
            raise ValueError(
                f"--out {options.out} is, or lies in, the image {image}; choose "
                "another name."
            )
    if options.part is not None and num_inputs > len(large):
        raise ValueError(
            "--part is of images that are segmented block by block (Zarr, or larger "
            f"than the memory), and {num_inputs - len(large)} of {num_inputs} are not; "
            "leave it out, and give each process images of its own."
        )
    if options.part is not None and options.overwrite:
        raise ValueError(
            "--overwrite would delete what other parts have predicted; delete the "
            "results yourself, or name another --out."
        )
    if not large:
        return
    reason = f"{large[0].name} is segmented block by block, as it is large or a Zarr"
    if options.scale != 1:
        raise ValueError(
            f"{reason}, without --scale; save a resized image, or leave out --scale."
        )
    if options.uncertainty:
        raise ValueError(f"{reason}, without --uncertainty; leave it out.")


def _choose_engine(
    options: argparse.Namespace, models: "Sequence[TrainedModel]"
) -> str:
    """Returns the engine to use: jax or openvino."""
    from unetjax.evaluation import prediction_record
    from unetjax.model_io import openvino

    if options.engine != "auto":
        return options.engine
    if not options.overwrite:
        begun = prediction_record.recorded_origin(_record_folder(options.out)).get(
            "engine"
        )
        if begun in ("jax", "openvino"):
            return begun
    return "openvino" if openvino.is_preferable(models) else "jax"


def _describe_engine(engine: str) -> str:
    """Returns what computes, with its version and device."""
    import importlib.metadata

    import jax

    if engine == "openvino":
        return f"OpenVINO {importlib.metadata.version('openvino')} on the CPU"
    device = jax.devices()[0]
    name = "the CPU" if device.platform == "cpu" else device.device_kind
    return f"JAX {jax.__version__} on {name}"


def _numbers_cells(trained: "TrainedModel") -> bool:
    """Returns whether a model was scored by the cells that it finds."""
    tuned = trained.provenance.config.get("tune_instances", False)
    return trained.model.num_classes == 2 and bool(tuned)


def _common_channels(models: "Sequence[TrainedModel]") -> tuple[str, ...]:
    """Returns the channels of files that all models were trained on."""
    chosen = {each.selected_channels for each in models}
    if len(chosen) > 1:
        listed = " and ".join(sorted(",".join(each) or "all" for each in chosen))
        raise ValueError(
            f"the models were trained on different channels of their files ({listed}); "
            "predict by each of them alone."
        )
    return chosen.pop()


def _read(
    read: "Callable[[pathlib.Path], np.ndarray]", path: pathlib.Path, is_stack: bool
) -> "Images":
    """Reads the images of a file; one image alone is no stack."""
    stack = read(path)
    return stack if is_stack else stack[0]


def _part(text: str) -> tuple[int, int]:
    """Returns the value of --part."""
    index, slash, count = text.partition("/")
    is_valid = slash and index.isdecimal() and count.isdecimal()
    if not is_valid or not 1 <= int(index) <= int(count):
        raise argparse.ArgumentTypeError(f"must be such as 1/8 to 8/8, got {text!r}")
    return int(index), int(count)


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
