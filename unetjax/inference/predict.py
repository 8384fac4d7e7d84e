"""Tiled prediction: class probabilities of every pixel of an image of any size."""

import functools
import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Int32, PyTree, Shaped

from unetjax.inference import tiles
from unetjax.inference import tta as tta_lib
from unetjax.inference.tiles import Mirror, TilePlan
from unetjax.inference.tta import TTA
from unetjax.network import input_scaling, norms
from unetjax.network.forward import forward
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet, num_input_channels

Crop = Literal["same", "valid"]
Engine = Callable[
    [Float32[np.ndarray, "B H W C"]], Float32[np.ndarray | Array, "B h w K"]
]

# Pixels times features of one batch of tiles: some 2 GB of activations in float32.
_BATCH_VALUES = 2**26


@runtime_checkable
class Network(Protocol):
    """What `predict` uses of a `TrainedModel`."""

    @property
    def model(self) -> UNet:
        """The network."""
        ...

    @property
    def params(self) -> PyTree:
        """Its parameters."""
        ...

    @property
    def model_state(self) -> Mapping[str, Any]:
        """Its other collections (batch statistics)."""
        ...

    @property
    def input_scaling(self) -> InputScaling:
        """From stored grey values to network input."""
        ...


def predict(
    trained: Network,
    image: Shaped[np.ndarray | Array, "H W *C"],
    *,
    softmax: bool = True,
    tta: TTA = "none",
    tile_size: int | None = None,
    batch_size: int | None = None,
    mirror: Mirror = "reflect",
    crop: Crop = "same",
    engine: Engine | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Float32[np.ndarray, "h w K"]:
    """Returns the class probabilities of every pixel of an image of any size.

    The context missing at the border is mirrored, and the image is cut into
    overlapping tiles (paper, Sec. 2 and Fig. 2). The tiles lie on multiples of
    2^depth, so that the result is that of one pass over the whole mirrored image,
    whatever their size. The one exception is `norm="group"`, whose statistics are
    taken over the tile: there is a warning if such a network meets several tiles.

    Args:
      trained: A `TrainedModel`. Its input scaling is measured on the whole image.
      image: Grey values as stored, [H, W] or [H, W, C].
      softmax: Whether to return probabilities; logits otherwise.
      tta: Test-time augmentation: versions of the image whose probabilities are
        averaged, see `tta.transforms`; `d4` is exact and takes 8 times as long.
      tile_size: Side of square tiles as the network reads them, in pixels. The default
        is the size that makes the least work within a bound on memory.
      batch_size: Number of tiles computed at once; by default as many as fit.
      mirror: Whether the pixel at the border is repeated (`symmetric`) or not
        (`reflect`).
      crop: `same`: the result has the size of the image. `valid`: the pixels whose
        context lies in the image, `Geometry.margin` less on each side; for a legal size
        the output of the network itself. Of other sizes the last pixels see up to a
        period of the mirror image.
      engine: What computes the logits of tiles in place of `model.apply`, of the same
        parameters, such as `model_io.openvino.compile_network` returns. Tiles then
        agree with one pass as closely as the engine computes.
      progress: Called after every batch with the number of tiles done and of all, over
        all versions.

    Raises:
      ValueError: If the image has another number of channels than the network, is empty
        or not finite, or if an option is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from unetjax.inference.trained_model import TrainedModel
      >>> model = UNet(features=2, depth=1)
      >>> tile = jnp.zeros((1, 20, 20, 1))
      >>> params = model.init(jax.random.key(0), tile, train=False)["params"]
      >>> predict(TrainedModel(model, params), np.zeros((33, 21))).shape
      (33, 21, 2)
    """
    model = trained.model
    pixels = _with_channels(np.asarray(image), trained.params)
    height, width = _result_size(model, pixels.shape[:2], crop)
    versions = tta_lib.transforms(tta)
    _check_tta(tta, softmax=softmax, crop=crop)
    plans = [
        tiles.plan(
            *tta_lib.transformed_shape(version, height, width),
            model.geometry,
            tile_size=tile_size,
            max_pixels=_BATCH_VALUES // model.features,
        )
        for version in versions
    ]
    pixels = input_scaling.scale(pixels, trained.input_scaling)
    counts = [plan.rows.count * plan.columns.count for plan in plans]
    if max(counts) > 1 and model.norm not in norms.KEEPS_TILES_EXACT:
        warnings.warn(
            f"norm {model.norm!r} takes its statistics over the tile, so the result "
            f"depends on the {max(counts)} tiles; a larger tile_size lessens this.",
            stacklevel=2,
        )
    if engine is None:
        # On the device once, not with every batch.
        variables = jax.device_put((trained.params, dict(trained.model_state)))
        engine = functools.partial(_logits, model, *variables)
    rim = plans[0].margin if model.padding == "SAME" else 0
    trusted = functools.partial(_trusted, softmax=softmax, rim=rim)

    def report(before: int, done: int) -> None:
        if progress is not None:
            progress(before + done, sum(counts))

    predictions = (
        tta_lib.invert(
            _one_pass(
                lambda batch: trusted(engine(batch)),
                tta_lib.apply(pixels, version),
                plan,
                model=model,
                batch_size=batch_size,
                mirror=mirror,
                progress=functools.partial(report, before),
            ),
            version,
            height,
            width,
        )
        for version, plan, before in zip(
            versions, plans, itertools.accumulate([0, *counts[:-1]]), strict=True
        )
    )
    return tta_lib.mean(predictions)


def class_map(probs: Float[np.ndarray, "H W K"]) -> Int32[np.ndarray, "H W"]:
    """Returns the most probable class of every pixel; the lower one of equals.

    Example:
      >>> class_map(np.array([[[0.2, 0.8], [0.9, 0.1]]]))
      array([[1, 0]], dtype=int32)
    """
    return probs.argmax(axis=-1).astype(np.int32)


def _result_size(model: UNet, size: tuple[int, ...], crop: Crop) -> tuple[int, int]:
    """Height and width of the result for an image of this size."""
    margin = model.geometry.margin
    lost = 2 * margin if crop == "valid" else 0
    if crop not in get_args(Crop) or (lost and lost >= min(size)):
        raise ValueError(
            f"crop must be same, or valid for images above {2 * margin} pixels, got "
            f"{crop!r} for {size[0]} x {size[1]}; use crop='same'."
        )
    return size[0] - lost, size[1] - lost


def _check_tta(tta: TTA, *, softmax: bool, crop: Crop) -> None:
    if tta != "none" and not softmax:
        raise ValueError(
            f"tta {tta!r} averages probabilities, got softmax False; leave "
            "one of them out."
        )
    if tta == "rot7" and crop == "valid":
        raise ValueError(
            "tta 'rot7' needs the pixels around the image, got crop 'valid'; use "
            "crop='same', or tta='d4'."
        )


def _one_pass(
    run: Callable[..., Float[Array, "B h w K"]],
    pixels: Float[np.ndarray, "H W C"],
    plan: TilePlan,
    *,
    model: UNet,
    batch_size: int | None,
    mirror: Mirror,
    progress: Callable[[int], object],
) -> Float32[np.ndarray, "h w K"]:
    """What `run` makes of all tiles of an image; progress is told the tiles done."""
    todo = tiles.tiles(plan)
    size = _batch_size(batch_size, plan, features=model.features)
    result = np.empty(
        (plan.rows.size, plan.columns.size, model.num_classes), np.float32
    )
    for start in range(0, len(todo), size):
        batch = todo[start : start + size]
        filled = batch + batch[-1:] * (size - len(batch))  # one compiled shape
        inputs = [tiles.read_tile(pixels, plan, t, mirror=mirror) for t in filled]
        _paste(result, batch, np.asarray(run(np.stack(inputs))))
        progress(start + len(batch))
    return result


@functools.partial(jax.jit, static_argnames="model")
def _logits(
    model: UNet,
    params: PyTree,
    model_state: dict[str, Any],
    image: Float[Array, "B H W C"],
) -> Float[Array, "B h w K"]:
    return forward(model, params, model_state, image)[0]


@functools.partial(jax.jit, static_argnames=("softmax", "rim"))
def _trusted(
    logits: Float[Array, "B H W K"], *, softmax: bool, rim: int
) -> Float[Array, "B h w K"]:
    """The output of a batch of tiles without the rim that sees zeros."""
    height, width = logits.shape[1:3]
    logits = logits[:, rim : height - rim, rim : width - rim]
    return jax.nn.softmax(logits) if softmax else logits


def _paste(
    result: Float[np.ndarray, "H W K"],
    batch: Sequence[tiles.Tile],
    outputs: Float[np.ndarray, "B h w K"],
) -> None:
    """Fills in, for each tile, the pixels that are its own."""
    for (rows, columns), output in zip(batch, outputs, strict=False):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        result[rows, columns] = output[:height, :width]


def _with_channels(
    image: Shaped[np.ndarray, "H W *C"], params: PyTree
) -> Shaped[np.ndarray, "H W C"]:
    """The image with its axis of channels, which must be those of the network."""
    channels = num_input_channels(params)
    pixels = image[..., np.newaxis] if image.ndim == 2 else image
    if pixels.ndim != 3 or pixels.shape[-1] != channels:
        accepted = "[H, W] or [H, W, 1]" if channels == 1 else f"[H, W, {channels}]"
        raise ValueError(
            f"image must be {accepted}, as the model was trained with {channels} "
            f"channel{'s' if channels > 1 else ''}, got shape {list(image.shape)}; "
            "convert it, or move its channels to the last axis."
        )
    return pixels


def _batch_size(wanted: int | None, plan: tiles.TilePlan, *, features: int) -> int:
    """Tiles computed at once: the wanted number, or an even share of those that fit."""
    count = plan.rows.count * plan.columns.count
    if wanted is not None:
        if wanted < 1:
            raise ValueError(f"batch_size must be at least 1 tile, got {wanted}.")
        return min(wanted, count)
    fitting = max(_BATCH_VALUES // (features * plan.rows.tile * plan.columns.tile), 1)
    return -(-count // -(-count // fitting))
