"""Tiled prediction: class probabilities of every pixel of an image of any size."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Int32, PyTree, Shaped

from unetjax.devices import memory
from unetjax.inference import magnification, tiles
from unetjax.inference import tta as test_time
from unetjax.inference.tiles import Mirror, TilePlan
from unetjax.inference.tta import TTA
from unetjax.instances.settings import InstanceSettings
from unetjax.network import input_scaling, norms
from unetjax.network.forward import forward
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet, num_input_channels
from unetjax.settings import check_range
from unetjax.targets.target import REGRESSION, activate

Crop = Literal["same", "valid"]
Engine = Callable[
    [Float32[np.ndarray, "B H W C"]], Float32[np.ndarray | Array, "B h w K"]
]

# Pixels times features of one batch of tiles: about 2 GB of activations in float32.
_BATCH_VALUES = 2**26
_LEAST_VALUES = 2**14
_MOST_PROGRAMS = 16  # compiled ones that are kept, one for each shape of a batch
_BYTES_A_VALUE = 32  # of memory while a batch is computed


@runtime_checkable
class Network(Protocol):
    """What `predict` and `segment` use of a `TrainedModel`."""

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

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every class, background first; empty if they have none."""
        ...

    @property
    def object_diameter(self) -> float | None:
        """Median diameter of the objects it was trained on, in pixels, if known."""
        ...

    @property
    def instances(self) -> InstanceSettings:
        """Post-processing from probabilities to instances."""
        ...


class Outputs(NamedTuple):
    """What a network predicts, before any post-processing.

    Attributes:
      probs: Probability of every class, background first; borders, which are a class to
        the network only, are background.
      maps: The maps of its target, see `targets.target.MAPS`; None of `classes`.
    """

    probs: Float[np.ndarray, "H W k"]
    maps: Float[np.ndarray, "H W E"] | None


def predict(
    trained: Network,
    image: Shaped[np.ndarray | Array, "H W *C"],
    *,
    softmax: bool = True,
    tta: TTA = "none",
    scale: float = 1.0,
    maps: bool = False,
    variance: bool = False,
    tile_size: int | None = None,
    batch_size: int | None = None,
    mirror: Mirror = "reflect",
    crop: Crop = "same",
    engine: Engine | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Float32[np.ndarray, "h w K"]:
    """Returns the class probabilities of every pixel of an image of any size.

    The context missing at the border is mirrored, and the image is cut into
    overlapping tiles (paper, Sec. 2 and Fig. 2). Tiles lie on multiples of 2^depth, so
    that the result equals that of one pass over the whole mirrored image, whatever
    the size of the tiles. The exception is `norm="group"`, whose statistics are taken
    over the tile: a warning is issued if such a network needs several tiles.

    Args:
      trained: A `TrainedModel`. Its input scaling is measured on the whole image.
      image: Grey values as stored, [H, W] or [H, W, C].
      softmax: Whether to return probabilities; all outputs of the network, as they are,
        otherwise.
      tta: Rotations and reflections of the image over which probabilities are averaged
        (test-time augmentation), see `tta.transforms`; `d4` needs no interpolation and
        takes 8 times as long.
      scale: Factor by which the image is enlarged before it is predicted; the result
        has the size of the image again. For images of another magnification than those
        of training.
      maps: Whether the maps of the network's target follow the probabilities, see
        `targets.target.activate` and `split`.
      variance: Whether one more channel follows: the variance of the probabilities over
        the transformations, see `tta.mean_and_variance`.
      tile_size: Side of square input tiles, in pixels. By default the size with the
        least computation within a bound on memory.
      batch_size: Number of tiles computed at once; by default as many as fit.
      mirror: Whether the pixel at the border is repeated (`symmetric`) or not
        (`reflect`).
      crop: `same`: the result has the size of the image. `valid`: only pixels whose
        context lies in the image, `Geometry.margin` fewer on each side. If the size of
        the image is legal for the network, this is the output of the network itself;
        otherwise the last pixels, up to a period, see some of the mirror image.
      engine: A function from tiles to logits that replaces `model.apply`, for example
        from `model_io.openvino.compile_network`.
      progress: Called after every batch with the number of tiles done and the total,
        over all transformations.

    Raises:
      TypeError: If `trained` is no trained model, or an option has a wrong type.
      ValueError: If the image has another number of channels than the network, is empty
        or not finite, or if an option is out of range.
      MemoryError: If it does not fit into memory, even by the smallest tiles.

    Example:
      >>> import jax.numpy as jnp
      >>> from unetjax.inference.trained_model import TrainedModel
      >>> model = UNet(features=2, depth=1)
      >>> tile = jnp.zeros((1, 20, 20, 1))
      >>> params = model.init(jax.random.key(0), tile, train=False)["params"]
      >>> predict(TrainedModel(model, params), np.zeros((33, 21))).shape
      (33, 21, 2)
    """
    check_trained(trained)
    model = trained.model
    pixels = _with_channels(np.asarray(image), trained.params)
    check_range("scale", scale, above=0)
    if scale != 1 and crop == "valid":
        raise ValueError(
            f"scale {scale:g} needs crop 'same', got 'valid'; resize the image instead."
        )
    size = _result_size(model, pixels.shape[:2], crop)
    height, width = size if scale == 1 else magnification.scaled_shape(size, scale)
    _check_tta(tta, softmax=softmax, crop=crop)
    if variance and not softmax:
        raise ValueError(
            "variance is of probabilities, got softmax False; leave one of them out."
        )
    # Over the whole image: tiles scaled each for itself would not fit together.
    values = input_scaling.scale(pixels, trained.input_scaling)
    if scale != 1:
        values = magnification.resize(values, (height, width))
    result = predict_scaled(
        trained,
        values,
        (height, width),
        softmax=softmax,
        tta=tta,
        variance=variance,
        tile_size=tile_size,
        batch_size=batch_size,
        mirror=mirror,
        engine=engine or jax_engine(trained),
        progress=progress,
    )
    if scale != 1:
        result = magnification.resize(result, size)
    if maps or not softmax:
        return result
    if not variance:
        return split(result, model).probs
    probs = split(result[..., :-1], model).probs
    return np.concatenate([probs, result[..., -1:]], axis=-1)


def jax_engine(trained: Network) -> Engine:
    """Returns the network as a function from tiles to logits, by JAX."""
    # Copied to the device once, not with every batch.
    variables = jax.device_put((trained.params, dict(trained.model_state)))
    return functools.partial(_logits, trained.model, *variables)


def predict_scaled(
    trained: Network,
    values: Float[np.ndarray, "H W C"],
    size: tuple[int, int],
    *,
    engine: Engine,
    softmax: bool = True,
    tta: TTA = "none",
    variance: bool = False,
    tile_size: int | None = None,
    batch_size: int | None = None,
    mirror: Mirror = "reflect",
    max_values: int = _BATCH_VALUES,
    progress: Callable[[int, int], object] | None = None,
) -> Float32[np.ndarray, "h w K"]:
    """Returns all outputs for the centre of an image that is scaled already.

    Args:
      trained: A `TrainedModel`.
      values: Network input. What lies around the centre serves as context.
      size: Height and width of the centre, in pixels.
      engine: From tiles to logits.
      softmax: See `predict`.
      tta: See `predict`.
      variance: See `predict`.
      tile_size: See `predict`.
      batch_size: See `predict`.
      mirror: See `predict`.
      max_values: Largest number of pixels times features of one batch of tiles; about
        32 bytes of memory each.
      progress: See `predict`.
    """
    model = trained.model
    height, width = size
    transforms = test_time.transforms(tta)
    # The output of `SAME` networks has a margin that sees the zeros beyond the tile.
    margin = model.geometry.margin if model.padding == "SAME" else 0

    def run(batch: Float32[np.ndarray, "B H W C"]) -> Float[Array, "B h w K"]:
        return _trusted(engine(batch), model, softmax=softmax, margin=margin)

    def attempt(bound: int) -> Float32[np.ndarray, "h w K"]:
        plans = [
            tiles.plan(
                *test_time.transformed_shape(transform, height, width),
                model.geometry,
                tile_size=tile_size,
                max_pixels=bound // model.features,
            )
            for transform in transforms
        ]
        counts = [plan.rows.count * plan.columns.count for plan in plans]
        if max(counts) > 1 and model.norm not in norms.KEEPS_TILES_EXACT:
            warnings.warn(
                f"norm {model.norm!r} takes its statistics over the tile, so the "
                f"result depends on the {max(counts)} tiles; a larger tile_size "
                "lessens this.",
                stacklevel=5,
            )

        def report(before: int, done: int) -> None:
            if progress is not None:
                progress(before + done, sum(counts))

        def predictions() -> Iterator[Float32[np.ndarray, "h w K"]]:
            before = 0
            for transform, plan, count in zip(transforms, plans, counts, strict=True):
                result = _predict_tiles(
                    run,
                    test_time.apply(transform, values),
                    plan,
                    model=model,
                    batch_size=batch_size,
                    bound=bound,
                    mirror=mirror,
                    progress=functools.partial(report, before),
                )
                before += count
                yield test_time.invert(transform, result, height, width)

        if not variance:
            return test_time.mean(predictions())
        average, spread = test_time.mean_and_variance(
            predictions(), lambda outputs: split(outputs, model).probs
        )
        return np.concatenate([average, spread[..., np.newaxis]], axis=-1)

    can_shrink = tile_size is None or batch_size is None
    return _halving(attempt, max_values, can_shrink=can_shrink)


def _halving(
    attempt: Callable[[int], Float32[np.ndarray, "h w K"]],
    bound: int,
    *,
    can_shrink: bool,
) -> Float32[np.ndarray, "h w K"]:
    """Returns the result of the first attempt that fits into memory.

    Args:
      attempt: From a bound on pixels times features of a batch to the result.
      bound: The first bound; less memory lowers it.
      can_shrink: Whether the bound has an effect.

    Raises:
      MemoryError: If the smallest tile does not fit.
    """
    with contextlib.suppress(ValueError):  # the memory cannot be determined
        bound = min(bound, memory.limit() // _BYTES_A_VALUE)
    while True:
        try:
            return attempt(bound)
        except Exception as error:
            if not memory.is_exhausted(error):
                raise
        bound //= 2
        if not can_shrink or bound < _LEAST_VALUES:
            raise MemoryError(
                "the prediction does not fit into memory; use a smaller image or "
                "tile_size, or close other programs."
            )
        warnings.warn(
            "the prediction did not fit into memory; it is tried again with half as "
            "many pixels at once.",
            stacklevel=4,
        )


def split(outputs: Float[np.ndarray, "H W K"], model: UNet) -> Outputs:
    """Returns probabilities and maps of what `predict` returns."""
    if model.num_outputs == model.num_classes:
        return Outputs(outputs, None)
    probs, maps = np.split(outputs, [model.num_classes], axis=-1)
    if model.target not in REGRESSION:
        background = probs[..., :1] + maps
        probs = np.concatenate([background, probs[..., 1:]], axis=-1)
    return Outputs(probs, maps)


def check_trained(trained: object) -> None:
    """Refuses anything but a trained model.

    Raises:
      TypeError: If it is none.
    """
    if not isinstance(trained, Network):
        raise TypeError(
            f"trained must be a TrainedModel, got {type(trained).__name__}; "
            "unetjax.load_model(folder) returns one, TrainedModel(model, params) makes "
            "one."
        )


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
            f"tta {tta!r} averages probabilities, got softmax False; leave one of them "
            "out."
        )
    if tta == "rot7" and crop == "valid":
        raise ValueError(
            "tta 'rot7' needs the pixels around the image, got crop 'valid'; use "
            "crop='same', or tta='d4'."
        )


def _predict_tiles(
    run: Callable[..., Float[Array, "B h w K"]],
    pixels: Float[np.ndarray, "H W C"],
    plan: TilePlan,
    *,
    model: UNet,
    batch_size: int | None,
    bound: int,
    mirror: Mirror,
    progress: Callable[[int], object],
) -> Float32[np.ndarray, "h w K"]:
    """Stitches the outputs of `run` for all tiles; reports the number of tiles done."""
    todo = tiles.tiles(plan)
    size = _batch_size(batch_size, plan, most=bound // model.features)
    result = np.empty(
        (plan.rows.size, plan.columns.size, model.num_outputs), np.float32
    )
    for start in range(0, len(todo), size):
        batch = todo[start : start + size]
        # The last batch is filled up, so that one shape is compiled.
        filled = batch + batch[-1:] * (size - len(batch))
        inputs = [tiles.read_tile(pixels, plan, t, mirror=mirror) for t in filled]
        outputs = np.asarray(run(np.stack(inputs)))
        for (rows, columns), output in zip(batch, outputs, strict=False):
            # Without the overlap with the next tile.
            height, width = rows.stop - rows.start, columns.stop - columns.start
            result[rows, columns] = output[:height, :width]
        progress(start + len(batch))
    return result


def _logits(
    model: UNet,
    params: PyTree,
    model_state: dict[str, Any],
    image: Float[Array | np.ndarray, "B H W C"],
) -> Float[Array, "B h w K"]:
    return _compiled_logits(model, image.shape)(params, model_state, image)


def _trusted(
    logits: Float[Array | np.ndarray, "B H W K"],
    model: UNet,
    *,
    softmax: bool,
    margin: int,
) -> Float[Array, "B h w K"]:
    """The output of a batch of tiles without the margin that sees zeros."""
    return _compiled_trusted(model, softmax, margin, logits.shape)(logits)


def _make_logits(model: UNet, shape: tuple[int, ...]) -> Callable[..., Array]:
    def logits(
        params: PyTree, model_state: dict[str, Any], image: Float[Array, "B H W C"]
    ) -> Float[Array, "B h w K"]:
        return forward(model, params, model_state, image)[0]

    return jax.jit(logits)


def _make_trusted(
    model: UNet, softmax: bool, margin: int, shape: tuple[int, ...]
) -> Callable[..., Array]:
    def trusted(logits: Float[Array, "B H W K"]) -> Float[Array, "B h w K"]:
        height, width = logits.shape[1:3]
        logits = logits[:, margin : height - margin, margin : width - margin]
        if not softmax:
            return logits
        return activate(logits, num_classes=model.num_classes, target=model.target)

    return jax.jit(trusted)


# A function of its own for each shape, since the programs of one function stay in
# memory as long as the function: some megabytes for every size of image.
_Made = Callable[..., Callable[..., Array]]
_compiled_logits: _Made = functools.lru_cache(_MOST_PROGRAMS)(_make_logits)
_compiled_trusted: _Made = functools.lru_cache(_MOST_PROGRAMS)(_make_trusted)


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


def _batch_size(given: int | None, plan: tiles.TilePlan, *, most: int) -> int:
    """Tiles per batch: the given number, or even batches of as many as fit."""
    count = plan.rows.count * plan.columns.count
    if given is not None:
        check_range("batch_size", given, at_least=1)
        return min(given, count)
    num_batches = -(-count // max(most // (plan.rows.tile * plan.columns.tile), 1))
    return -(-count // num_batches)
