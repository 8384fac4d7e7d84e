"""Small data sets: every image on the device, tiles drawn inside the compiled step."""

from collections.abc import Sequence
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
    UNIFORM,
    Centers,
    SamplingSettings,
    draw_center,
    draw_image,
    draw_weighted_center,
    find_centers,
)
from unetjax.network.input_scaling import InputScaling, scale
from unetjax.weight_maps.class_weights import class_counts, class_weights
from unetjax.weight_maps.device import label_and_weight
from unetjax.weight_maps.separation import cut_separation_border
from unetjax.weight_maps.settings import WeightMapSettings, reach

_LARGEST = 2**31 - 1  # pixels are addressed by int32


class DeviceDataset(NamedTuple):
    """A whole data set as arrays: the pixels of all images in one row.

    Attributes:
      image: Network input of every pixel.
      label: Class of every pixel, negative where nobody annotated.
      instances: Number of the cell of every pixel, 0 outside.
      start: Index of the first pixel of every image.
      height: Number of rows of every image.
      width: Number of columns of every image.
      class_weights: Weight w_c of every class in Eq. (2), over the data set.
      centers: Where tiles may be centred; None if on every pixel alike.
    """

    image: Float[Array, "N C"]
    label: Int[Array, " N"]
    instances: Int[Array, " N"]
    start: Int[Array, " I"]
    height: Int[Array, " I"]
    width: Int[Array, " I"]
    class_weights: Float[Array, " K"]
    centers: Centers | None = None


def load(
    examples: Sequence[Example],
    *,
    input_scaling: InputScaling,
    num_classes: int,
    weight_map: WeightMapSettings,
    sampling: SamplingSettings = UNIFORM,
) -> DeviceDataset:
    """Reads a whole source into arrays on the default device.

    Args:
      examples: Examples of one number of channels, of any sizes.
      input_scaling: From stored grey values to network input.
      num_classes: Number K of classes.
      weight_map: Its separation border and class balance determine w_c.
      sampling: Where tiles may be centred.

    Raises:
      ValueError: If there is no image, the numbers of channels differ, a label is not
        in [0, K), or the pixels are too many to be addressed.
    """
    if not examples:
        raise ValueError("the training set holds no image; give at least one.")
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
    labels = [
        np.asarray(
            cut_separation_border(e.label, e.instances, weight_map.separation_border)
        )
        for e in examples
    ]
    counts = class_counts(labels, num_classes)
    scaled = [scale(e.image, input_scaling) for e in examples]
    image = np.concatenate([x.reshape(-1, x.shape[-1]) for x in scaled])
    return DeviceDataset(
        image=jnp.asarray(image),
        label=jnp.asarray(np.concatenate([e.label.ravel() for e in examples])),
        instances=jnp.asarray(np.concatenate([e.instances.ravel() for e in examples])),
        start=jnp.asarray(np.cumsum(pixels) - pixels, jnp.int32),
        height=jnp.asarray(sides[:, 0], jnp.int32),
        width=jnp.asarray(sides[:, 1], jnp.int32),
        class_weights=jnp.asarray(
            class_weights(counts, weight_map.class_balance), jnp.float32
        ),
        centers=find_centers(labels, sampling),
    )


def draw_batch(
    data: DeviceDataset,
    key: PRNGKeyArray,
    items: Int[Array, " B"],
    *,
    tile_size: int,
    output_size: int,
    weight_map: WeightMapSettings,
    augmentation: AugmentationSettings,
    sampling: SamplingSettings = UNIFORM,
    transform: Transform | None = None,
) -> Batch:
    """Returns augmented tiles with their labels and weight maps.

    One displacement moves image, label and instances; the weight map is computed from
    the moved instances, so that it is exact. Cells beyond the tile do not enter it.

    Args:
      data: The data set.
      key: The run's data key, the same for all items.
      items: Numbers of the items since the start of the run, see `draw_image`.
      tile_size: Side of the tiles, in pixels.
      output_size: Side of the network's output for it, in pixels.
      weight_map: Eq. (2).
      augmentation: Strengths of the random changes.
      sampling: Its jitter; the density of centres is part of the data set.
      transform: A change of one's own, made last.
    """
    margin = (tile_size - output_size) // 2
    rim = min(margin, reach(weight_map))  # where cells still change inner weights
    outer = slice(margin - rim, tile_size - margin + rim)
    inner = slice(rim, rim + output_size)

    def draw(item: Int[Array, ""]) -> Batch:
        i = draw_image(key, item, len(data.start))
        keys = jax.random.split(jax.random.fold_in(key, item), 5)
        place, move, grey, shake, own = keys
        height, width = data.height[i], data.width[i]
        extent = warp.Extent(data.start[i], height, width)
        if data.centers is None:
            center = draw_center(place, height, width, tile_size)
        else:
            center = draw_weighted_center(place, data.centers, i, width, tile_size)
        if sampling.jitter:
            center += sampling.jitter * jax.random.uniform(shake, (2,), minval=-1)
        positions = source_positions(move, (tile_size, tile_size), center, augmentation)
        image = read_image(grey, data.image, extent, positions, augmentation)
        label, weight = label_and_weight(
            warp.nearest(data.label, extent, positions[outer, outer]),
            warp.nearest(data.instances, extent, positions[outer, outer]),
            data.class_weights,
            settings=weight_map,
        )
        label, weight = label[inner, inner], weight[inner, inner]
        if transform is not None:
            image, label, weight = transform(image, label, weight, own)
        return Batch(image=image, label=label, weight=weight)

    return jax.vmap(draw)(items)
