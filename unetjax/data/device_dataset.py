"""Data sets on the device: tiles are drawn and augmented in the compiled step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from unetjax.augmentation import warp
from unetjax.augmentation.augment import (
    AugmentationSettings,
    read_image,
    source_positions,
)
from unetjax.data.batch import Batch, Transform
from unetjax.data.examples import Example
from unetjax.data.sampling import (
    Centers,
    SamplingSettings,
    draw_center,
    draw_image,
    draw_weighted_center,
    find_centers,
)
from unetjax.network.input_scaling import InputScaling, scale
from unetjax.targets.encode import encode
from unetjax.targets.target import MAPS, REGRESSION, TargetName, num_logits
from unetjax.weight_maps.class_weights import class_counts, class_weights
from unetjax.weight_maps.device import label_and_weight
from unetjax.weight_maps.separation import cut_separation_border
from unetjax.weight_maps.settings import WeightMapSettings, reach

_LARGEST = 2**31 - 1  # pixels; their indices are int32


@dataclass(frozen=True)
class DataPipeline:
    """How annotated images become batches of training tiles.

    Attributes:
      tile_size: Side of the tiles, in pixels.
      output_size: Side of the network's output for a tile, in pixels.
      num_classes: Number K of classes.
      target: What the network learns of instances.
      input_scaling: From stored grey values to network input.
      weight_map: Weight map, Eq. (2).
      augmentation: Strengths of the random transformations.
      sampling: Where tiles are centred.
      transform: A custom augmentation, applied last.
    """

    tile_size: int
    output_size: int
    num_classes: int = 2
    target: TargetName = "classes"
    input_scaling: InputScaling = InputScaling()
    weight_map: WeightMapSettings = WeightMapSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    sampling: SamplingSettings = SamplingSettings()
    transform: Transform | None = None


class DeviceDataset(NamedTuple):
    """A whole data set as arrays: the pixels of all images one after another.

    Attributes:
      image: Network input of every pixel.
      label: Class of every pixel; negative labels are ignored.
      instances: Number of the cell of every pixel, 0 outside of cells.
      start: Index of the first pixel of every image.
      height: Number of rows of every image.
      width: Number of columns of every image.
      class_weights: Weight w_c of every class in Eq. (2), over the data set.
      centers: Where tiles may be centred; None if every pixel is equally likely.
      maps: The maps of the target; None if it has none.
    """

    image: Float[Array, "N C"]
    label: Int[Array, " N"]
    instances: Int[Array, " N"]
    start: Int[Array, " I"]
    height: Int[Array, " I"]
    width: Int[Array, " I"]
    class_weights: Float[Array, " K"]
    centers: Centers | None = None
    maps: Float[Array, "N E"] | None = None


def load(examples: Sequence[Example], pipeline: DataPipeline) -> DeviceDataset:
    """Copies a whole data set into arrays on the default device.

    Args:
      examples: Examples of one number of channels, of any sizes.
      pipeline: Input scaling, classes, weight map and sampling.

    Raises:
      ValueError: If there is no image, the numbers of channels differ, a label is not
        in [0, K), or there are too many pixels for one array.
    """
    if not examples:
        raise ValueError("the training set has no image; give at least one.")
    channels = {example.image.shape[-1] for example in examples}
    if len(channels) > 1:
        raise ValueError(
            f"images have {sorted(channels)} channels; all must have the same number."
        )
    sides = np.array([example.label.shape for example in examples])
    pixels = sides.prod(axis=1)
    if pixels.sum() > _LARGEST:
        raise ValueError(
            f"the training set has {pixels.sum()} pixels, of which at most {_LARGEST} "
            "fit into one array; train on part of it."
        )
    scaled = [scale(e.image, pipeline.input_scaling) for e in examples]
    weight_map = pipeline.weight_map
    # Class frequencies and tile centres are those of the labels that the loss sees.
    labels = [
        np.asarray(
            cut_separation_border(e.label, e.instances, weight_map.separation_border)
        )
        for e in examples
    ]
    maps = None
    if MAPS[pipeline.target]:
        maps = [encode(e.instances, pipeline.target) for e in examples]
    if maps is not None and pipeline.target not in REGRESSION:
        labels = [
            np.asarray(_with_border(*pair, pipeline.num_classes))
            for pair in zip(labels, maps, strict=True)
        ]
    count = num_logits(pipeline.num_classes, pipeline.target)
    w_c = class_weights(class_counts(labels, count), weight_map.class_balance)
    return DeviceDataset(
        image=jnp.asarray(np.concatenate([x.reshape(-1, x.shape[-1]) for x in scaled])),
        label=jnp.asarray(np.concatenate([e.label.ravel() for e in examples])),
        instances=jnp.asarray(np.concatenate([e.instances.ravel() for e in examples])),
        start=jnp.asarray(np.cumsum(pixels) - pixels, jnp.int32),
        height=jnp.asarray(sides[:, 0], jnp.int32),
        width=jnp.asarray(sides[:, 1], jnp.int32),
        class_weights=jnp.asarray(w_c, jnp.float32),
        centers=find_centers(labels, pipeline.sampling),
        maps=None
        if maps is None
        else jnp.asarray(np.concatenate([x.reshape(-1, x.shape[-1]) for x in maps])),
    )


def to_arrays(data: DeviceDataset) -> dict[str, np.ndarray]:
    """Returns the arrays of a data set by name, such as "image" and "centers.start"."""
    named = {name: x for name, x in data._asdict().items() if name != "centers"}
    if data.centers is not None:
        named |= {f"centers.{name}": x for name, x in data.centers._asdict().items()}
    return {name: np.asarray(x) for name, x in named.items() if x is not None}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> DeviceDataset:
    """Returns the data set of which `to_arrays` has made the arrays."""
    named = {name: jnp.asarray(x) for name, x in arrays.items()}
    prefix = "centers."
    centers = {
        name.removeprefix(prefix): named.pop(name)
        for name in list(named)
        if name.startswith(prefix)
    }
    return DeviceDataset(**named, centers=Centers(**centers) if centers else None)


def draw_batch(
    data: DeviceDataset,
    key: PRNGKeyArray,
    items: Int[Array, " B"],
    pipeline: DataPipeline,
) -> Batch:
    """Returns augmented tiles with their labels and weight maps.

    Image, label and instances share one displacement. The weight map is computed from
    the displaced instances and is therefore exact, but for cells beyond the tile, which
    do not enter it.

    Args:
      data: The data set, loaded by the same pipeline.
      key: The run's data key, the same for all items.
      items: Numbers of the items since the start of the run, see `draw_image`.
      pipeline: Sizes, augmentation, sampling, weight map and transform.
    """
    tile_size, output_size = pipeline.tile_size, pipeline.output_size
    augmentation, weight_map = pipeline.augmentation, pipeline.weight_map
    jitter, transform = pipeline.sampling.jitter, pipeline.transform
    margin = (tile_size - output_size) // 2
    # Cells that far beyond the output still change weights within it.
    rim = min(margin, reach(weight_map))
    outer = slice(margin - rim, tile_size - margin + rim)
    inner = slice(rim, rim + output_size)
    output = slice(margin, margin + output_size)  # as `inner`, of the whole tile

    def draw(item: Int[Array, ""]) -> Batch:
        i = draw_image(key, item, len(data.start))
        keys = jax.random.split(jax.random.fold_in(key, item), 5)
        center_key, geometry_key, grey_key, jitter_key, transform_key = keys
        height, width = data.height[i], data.width[i]
        extent = warp.Extent(data.start[i], height, width)
        if data.centers is None:
            center = draw_center(center_key, height, width, tile_size)
        else:
            center = draw_weighted_center(center_key, data.centers, i, width, tile_size)
        if jitter:
            center += jitter * jax.random.uniform(jitter_key, (2,), minval=-1)
        positions = source_positions(
            geometry_key, (tile_size, tile_size), center, augmentation
        )
        image = read_image(grey_key, data.image, extent, positions, augmentation)
        label, weight = label_and_weight(
            warp.nearest(data.label, extent, positions[outer, outer]),
            warp.nearest(data.instances, extent, positions[outer, outer]),
            data.class_weights[: pipeline.num_classes],
            settings=weight_map,
        )
        label, weight = label[inner, inner], weight[inner, inner]
        maps = None
        if data.maps is not None:
            maps = warp.nearest(data.maps, extent, positions[output, output])
        if maps is not None and pipeline.target not in REGRESSION:
            label = _with_border(label, maps, pipeline.num_classes)
            is_border = label == pipeline.num_classes
            weight = jnp.where(is_border, data.class_weights[-1], weight)
        if transform is not None:
            image, label, weight = transform(image, label, weight, transform_key)
        batch = Batch(image=image, label=label, weight=weight)
        if maps is not None and pipeline.target in REGRESSION:
            batch["maps"] = maps
        return batch

    return jax.vmap(draw)(items)


def _with_border(
    label: Int[Array, "H W"] | Int[np.ndarray, "H W"],
    maps: Float[Array, "H W 1"] | Float[np.ndarray, "H W 1"],
    border: int,
) -> Int[Array, "H W"]:
    """Returns the label with the border as a class of that number."""
    return jnp.where((maps[..., 0] > 0.5) & (label >= 0), border, label)
