"""Pictures of what training sees: elastic fields, deformed tiles, their weight maps."""

import pathlib
from dataclasses import replace
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray, UInt8

from unetjax.augmentation.augment import OFF, AugmentationSettings, source_positions
from unetjax.augmentation.elastic import Elastic
from unetjax.data import device_dataset
from unetjax.data.examples import Example
from unetjax.reporting import pictures
from unetjax.training import config as configs
from unetjax.training.config import ExperimentConfig
from unetjax.weight_maps.device import label_and_weight

Picture = UInt8[np.ndarray, "H W 3"]

_LINES = 20  # pixels between the lines of a grid
_SETTINGS_OF_FIELDS = ("elastic_sigma", "elastic_grid", "elastic_spacing")


def write_all(
    config: ExperimentConfig,
    example: Example,
    folder: pathlib.Path,
    *,
    num_tiles: int = 3,
) -> list[pathlib.Path]:
    """Writes fields.png and tiles.png into a folder, and returns their paths.

    `fields.png` shows one random field of each kind of elastic deformation, `tiles.png`
    the image and tiles as the training of this config draws them: above the output
    region with the borders of the label, below the weight map that belongs to it.

    Args:
      config: Network, tile size, augmentation, sampling and weight map.
      example: The image from which all tiles are drawn.
      folder: Where to write; made if it is absent.
      num_tiles: Number of tiles.

    Raises:
      FileExistsError: If a file of one of these names is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "fields.png", folder / "tiles.png"]
    for path in paths:
        if path.exists():
            raise FileExistsError(
                f"{path} exists and is not written over; name another folder."
            )
    pictures.write_png(paths[0], fields(config))
    pictures.write_png(paths[1], tiles(config, example, num_tiles=num_tiles))
    return paths


def fields(config: ExperimentConfig) -> Picture:
    """Returns a regular grid seen through one field of each kind, side by side."""
    panels, titles = [], []
    for kind in get_args(Elastic):
        given = {x: getattr(config.augmentation, x) for x in _SETTINGS_OF_FIELDS}
        settings = replace(OFF, elastic=kind, **given)
        panels.append(_grid(jax.random.key(config.seed), config.tile_size, settings))
        titles.append(_title(settings))
    return pictures.side_by_side(panels, titles)


def tiles(config: ExperimentConfig, example: Example, *, num_tiles: int) -> Picture:
    """Returns the image and tiles of it above their weight maps."""
    data = device_dataset.load(
        [example],
        input_scaling=config.input_scaling,
        num_classes=config.model.num_classes,
        weight_map=config.weight_map,
        sampling=config.sampling,
    )
    side = configs.output_size(config)
    batch = device_dataset.draw_batch(
        data,
        jax.random.key(config.seed),
        jnp.arange(num_tiles),
        tile_size=config.tile_size,
        output_size=side,
        weight_map=config.weight_map,
        augmentation=config.augmentation,
        sampling=config.sampling,
    )
    margin = (config.tile_size - side) // 2
    inner = slice(margin, margin + side)
    label, weight = label_and_weight(
        example.label, example.instances, data.class_weights, settings=config.weight_map
    )
    images = [example.image, *np.asarray(batch["image"][:, inner, inner])]
    labels = [np.asarray(label), *np.asarray(batch["label"])]
    weights = [np.asarray(weight), *np.asarray(batch["weight"])]
    brightest = max(float(weight.max()) for weight in weights)
    above = [
        pictures.outlines(pictures.grey(image), label)
        for image, label in zip(images, labels, strict=True)
    ]
    below = [pictures.heat(weight, limits=(0.0, brightest)) for weight in weights]
    titles = [example.name, *(f"tile {i}" for i in range(num_tiles))]
    rows = [
        pictures.side_by_side(above, titles),
        pictures.side_by_side(below, [f"weight, to {brightest:.1f}", *titles[1:]]),
    ]
    return pictures.stack(rows)


def _grid(key: PRNGKeyArray, side: int, settings: AugmentationSettings) -> Picture:
    """Lines of a regular grid where the field shows them, and its control points."""
    center = jnp.full(2, (side - 1) / 2)
    positions = np.asarray(source_positions(key, (side, side), center, settings))
    apart = np.abs((positions + _LINES / 2) % _LINES - _LINES / 2)  # from a line
    ink = np.clip(1.3 - apart.min(axis=-1), 0, 1)
    picture = np.repeat((255 - 215 * ink)[..., None], 3, axis=-1).astype(np.uint8)
    points = _control_points(side, settings)
    distance = np.abs(np.arange(side)[:, None] - points).min(axis=1)
    picture[np.hypot(distance[:, None], distance) < 4.5] = pictures.ORANGE
    return picture


def _control_points(
    side: int, settings: AugmentationSettings
) -> Float[np.ndarray, " G"]:
    """Those along one axis that lie in the tile, in pixels."""
    if settings.elastic == "bicubic":
        return np.linspace(0, side - 1, settings.elastic_grid)
    return np.arange(0, side, settings.elastic_spacing, dtype=float)


def _title(settings: AugmentationSettings) -> str:
    if settings.elastic == "bicubic":
        return (
            f"bicubic, through {settings.elastic_grid} x {settings.elastic_grid} points"
        )
    return f"B-spline, near points {settings.elastic_spacing:g} pixels apart"
