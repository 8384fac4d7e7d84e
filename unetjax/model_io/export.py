"""Export of trained models for other runtimes, each verified by running it."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.export
import numpy as np
from jaxtyping import Array, Float

from unetjax.files import folders
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import onnx
from unetjax.network.forward import forward
from unetjax.network.unet import num_input_channels
from unetjax.targets.target import MAPS, activate

Format = Literal["onnx", "stablehlo"]
FORMATS: tuple[Format, ...] = get_args(Format)  # which are endings as well
_LARGEST_DIFFERENCE = 1e-3
_LEAST_OUTPUT = 64  # pixels: side of the tiles with which an export is verified


class Exported(NamedTuple):
    """A verified export.

    Attributes:
      runtime: What ran it.
      difference: Largest absolute difference to the probabilities and maps of JAX.
      contract: What the file expects and returns, see `contract`.
    """

    runtime: str
    difference: float
    contract: dict[str, Any]


def export(
    trained: TrainedModel, path: str | os.PathLike[str], *, tile_size: int | None = None
) -> Exported:
    """Writes a model as `.onnx` or `.stablehlo`, after running it on a random tile.

    The exported function maps network input to probabilities of the classes, followed
    by the maps of the target. In ONNX, channels come before height and width, and all
    sizes but the number of channels are free. StableHLO, for `jax.export.deserialize`,
    has one tile size and any batch size, for the platform on which it was exported.

    Args:
      trained: The model.
      path: The new file; its ending selects the format.
      tile_size: Of StableHLO: side of the tiles in pixels, by default that of training.

    Raises:
      FileExistsError: If the file exists.
      ModuleNotFoundError: If onnx is needed and not installed.
      ValueError: If the ending or the tile size is not accepted, or if results differ
        by more than 0.001; no file is written then.
    """
    path = pathlib.Path(path)
    folders.check_new(path)
    kind = path.suffix.removeprefix(".")
    if kind == "onnx":
        if tile_size is not None:
            raise ValueError("tile_size is of .stablehlo only; ONNX has free sizes.")
        # The graph is float32, whatever the precision of the network.
        trained = dataclasses.replace(
            trained, model=trained.model.clone(dtype="float32")
        )
        facts = contract(trained, tile_size=None)
        data = onnx.to_onnx(
            trained, activated=True, metadata={"unetjax": json.dumps(facts)}
        )
        runtime, run = onnx.load_runtime(data)
        sides = [trained.model.geometry.input_size(_LEAST_OUTPUT)]
        sides.append(sides[0] + trained.model.geometry.period)  # height and width
    elif kind == "stablehlo":
        side = tile_size or _trained_size(trained)
        facts = contract(trained, tile_size=side)
        exported = _to_stablehlo(trained, side)
        data = bytes(exported.serialize())
        runtime, run = "jax.export", jax.export.deserialize(bytearray(data)).call
        sides = [side, side]
    else:
        raise ValueError(
            f"{path} must end in {' or '.join(f'.{name}' for name in FORMATS)}."
        )
    shape = (2, *sides, num_input_channels(trained.params))
    tiles = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with jax.default_matmul_precision("highest" if kind == "onnx" else "default"):
        expected = np.asarray(jax.jit(_function(trained))(tiles))
    difference = check_difference(path, runtime, np.asarray(run(tiles)), expected)
    with folders.write_atomically(path) as temporary:
        temporary.write_bytes(data)
    return Exported(runtime, difference, facts)


def check_difference(
    path: pathlib.Path,
    runtime: str,
    found: Float[np.ndarray, "..."],
    expected: Float[np.ndarray, "..."],
) -> float:
    """Returns the largest difference of an export from the model.

    Args:
      path: The file that is to be written.
      runtime: What computed.
      found: The outputs of the export.
      expected: Those of the model.

    Raises:
      ValueError: If it is larger than 0.001.
    """
    difference = float(np.abs(found - expected).max())
    if not difference <= _LARGEST_DIFFERENCE:
        raise ValueError(
            f"{path} was not written: {runtime} differs from JAX by {difference:.3g}, "
            f"more than {_LARGEST_DIFFERENCE}."
        )
    return difference


def contract(trained: TrainedModel, *, tile_size: int | None) -> dict[str, Any]:
    """Returns what a caller must know of an exported model, as JSON data.

    Args:
      trained: The model.
      tile_size: The only side that is accepted; None if any legal one is.
    """
    model = trained.model
    least = model.geometry.input_size(1)
    classes = trained.class_names or model.class_numbers
    return {
        "input_scaling": dataclasses.asdict(trained.input_scaling),
        "channels": num_input_channels(trained.params),
        "tile_sizes": f"{least} + {model.geometry.period} n pixels"
        if tile_size is None
        else f"{tile_size} pixels",
        "lost_pixels": least - model.geometry.output_size(least),
        "outputs": [*classes, *MAPS[model.target]],
        "instances": dataclasses.asdict(trained.instances),
    }


def _function(trained: TrainedModel) -> Callable[[Array], Array]:
    """From tiles to probabilities and maps."""
    model = trained.model

    def run(image: Array) -> Array:
        outputs, _ = forward(model, trained.params, dict(trained.model_state), image)
        return activate(outputs, num_classes=model.num_classes, target=model.target)

    return run


def _to_stablehlo(trained: TrainedModel, side: int) -> jax.export.Exported:
    channels = num_input_channels(trained.params)
    try:
        trained.model.geometry.output_size(side)
    except ValueError as error:
        raise ValueError(f"tile_size{str(error).removeprefix('input_size')}") from None
    shape = jax.export.symbolic_shape(f"batch, {side}, {side}, {channels}")
    tiles = jax.ShapeDtypeStruct(shape, np.float32)
    return jax.export.export(jax.jit(_function(trained)))(tiles)


def _trained_size(trained: TrainedModel) -> int:
    """The side of the tiles of training; of a model without a config, a small one."""
    known = trained.provenance.config.get("tile_size")
    return known or trained.model.geometry.input_size(_LEAST_OUTPUT)
