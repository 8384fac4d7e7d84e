"""Pictures of augmentation: elastic fields, training tiles and their weight maps."""

import pathlib
from dataclasses import replace
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from unetjax.augmentation.augment import OFF, AugmentationSettings, source_positions
from unetjax.augmentation.elastic import Elastic
from unetjax.data import device_dataset
from unetjax.data.device_dataset import DataPipeline
from unetjax.data.examples import Example
from unetjax.reporting import pictures
from unetjax.reporting.pictures import Picture
from unetjax.weight_maps.device import label_and_weight

_LINES = 20  # pixels between the lines of a grid
_FIELD_SETTINGS = ("elastic_sigma", "elastic_grid", "elastic_spacing")


def write_all(
    pipeline: DataPipeline,
    example: Example,
    folder: pathlib.Path,
    *,
    num_tiles: int = 3,
    seed: int = 0,
) -> list[pathlib.Path]:
    """Writes fields.png and tiles.png into a folder, and returns their paths.

    `fields.png` shows one random field of each kind of elastic deformation. `tiles.png`
    shows the image and tiles as training draws them: above, the output region with
    outlined labels; below, the weight map.

    Args:
      pipeline: How tiles are drawn.
      example: The image from which all tiles are drawn.
      folder: Output folder, created if it does not exist.
      num_tiles: Number of tiles.
      seed: Seed of fields and tiles.

    Raises:
      FileExistsError: If one of the files exists.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "fields.png", folder / "tiles.png"]
    for path in paths:
        if path.exists():
            raise FileExistsError(
                f"{path} exists and is not overwritten; name another folder."
            )
    pictures.write_png(paths[0], fields(pipeline, seed=seed))
    tiles_picture = tiles(pipeline, example, num_tiles=num_tiles, seed=seed)
    pictures.write_png(paths[1], tiles_picture)
    return paths


def fields(pipeline: DataPipeline, *, seed: int = 0) -> Picture:
    """Returns a regular grid deformed by one field of each kind, side by side."""
    panels, titles = [], []
    for kind in get_args(Elastic):
        given = {x: getattr(pipeline.augmentation, x) for x in _FIELD_SETTINGS}
        settings = replace(OFF, elastic=kind, **given)
        panels.append(_grid(jax.random.key(seed), pipeline.tile_size, settings))
        titles.append(_title(settings))
    return pictures.side_by_side(panels, titles)


def tiles(
    pipeline: DataPipeline, example: Example, *, num_tiles: int, seed: int = 0
) -> Picture:
    """Returns the image and tiles drawn from it, above their weight maps."""
    data = device_dataset.load([example], pipeline)
    draw = jax.jit(device_dataset.draw_batch, static_argnums=3)
    batch = draw(data, jax.random.key(seed), jnp.arange(num_tiles), pipeline)
    side = pipeline.output_size
    margin = (pipeline.tile_size - side) // 2
    inner = slice(margin, margin + side)
    label, weight = jax.jit(label_and_weight, static_argnames="settings")(
        example.label,
        example.instances,
        data.class_weights,
        settings=pipeline.weight_map,
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
    """Draws a regular grid as the field deforms it, and the control points."""
    center = jnp.full(2, (side - 1) / 2)
    field = jax.jit(source_positions, static_argnums=(1, 3))
    positions = np.asarray(field(key, (side, side), center, settings))
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
    """Returns the control points within the tile along one axis, in pixels."""
    if settings.elastic == "bicubic":
        return np.linspace(0, side - 1, settings.elastic_grid)
    return np.arange(0, side, settings.elastic_spacing, dtype=float)


def _title(settings: AugmentationSettings) -> str:
    if settings.elastic == "bicubic":
        return (
            f"bicubic, through {settings.elastic_grid} x {settings.elastic_grid} points"
        )
    return f"B-spline, near points {settings.elastic_spacing:g} pixels apart"
