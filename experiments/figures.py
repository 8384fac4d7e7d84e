"""Draws the pictures of docs/paper.md: network, loss and weight map, overlap-tile.

python -m experiments.figures --out=figures

Sizes and channels are those of the network's own arrays, images are synthetic cells.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from unetjax import UNet, signals, weighted_cross_entropy
from unetjax.cli.command import ArgumentParser, parse_args, path, run_command
from unetjax.data import synthetic
from unetjax.files import folders
from unetjax.geometry import Geometry
from unetjax.inference import tiles
from unetjax.network import forward
from unetjax.reporting import pictures
from unetjax.reporting.pictures import Picture
from unetjax.weight_maps.device import label_and_weight

_SIDE = 572  # pixels of the paper's tile
_BAR, _LEVEL, _COLUMN = 12, 78, 74  # pixels: least width of a bar; distances
_STYLE = "font-family='sans-serif' font-size='11' text-anchor='middle' fill='#222'"


def make_parser() -> ArgumentParser:
    """Returns the parser of the command line."""
    parser = ArgumentParser(
        prog=f"python -m {__package__}.figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", required=True, type=path, help="folder for the pictures"
    )
    return parser


def draw_all(folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes all pictures into a folder, created if absent, and returns their paths.

    Raises:
      FileExistsError: If one of the files exists.
    """
    paths = [folder / name for name in ("network.svg", "energy.png", "overlap.png")]
    folder.mkdir(parents=True, exist_ok=True)
    for each in paths:
        folders.check_new(each)
    paths[0].write_text(network(UNet()))
    pictures.write_png(paths[1], energy())
    pictures.write_png(paths[2], overlap())
    return paths


def network(model: UNet) -> str:
    """Returns Fig. 1 as SVG: the output of every block, with its side and channels."""
    shapes = _shapes(model)
    depth = model.depth
    parts, colors = list[str](), {"input": "#999", "head": "#e69f00"}
    places = {}
    for level in range(depth + 1):
        y = 24 + level * _LEVEL
        left = "bottleneck" if level == depth else f"encoder_{level}"
        places[left] = (40 + level * _COLUMN, y)
        if level < depth:
            places[f"decoder_{level}"] = (40 + (2 * depth - level) * _COLUMN, y)
    places["head"] = (40 + (2 * depth + 1) * _COLUMN, 24)
    places |= {name: (x + _COLUMN, y) for name, (x, y) in places.items()}
    places["input"] = (40, 24)
    for name, (x, y) in places.items():
        side, channels = shapes[name]
        width = _BAR + channels // 40
        height = 12 + side // 18
        parts.append(
            f"<rect x='{x - width // 2}' y='{y}' width='{width}' height='{height}' "
            f"fill='{colors.get(name, '#56b4e9')}'/>"
            f"<text x='{x}' y='{y - 5}' {_STYLE}>{channels}</text>"
            f"<text x='{x}' y='{y + height + 12}' {_STYLE}>{side}&#178;</text>"
        )
    for level in range(depth):
        (x, y), (right, _) = places[f"encoder_{level}"], places[f"decoder_{level}"]
        parts.append(_arrow(x + 24, y + 8, right - 24, y + 8, "#999"))
        below = places["bottleneck" if level + 1 == depth else f"encoder_{level + 1}"]
        parts.append(_arrow(x + 14, y + 36, below[0] - 18, below[1] + 2, "#d55e00"))
        source = places["bottleneck" if level + 1 == depth else f"decoder_{level + 1}"]
        parts.append(_arrow(source[0] + 22, below[1] + 2, right - 8, y + 58, "#009e73"))
    for start, end, color in (
        ("input", "encoder_0", "#56b4e9"),
        ("decoder_0", "head", "#222"),
    ):
        parts.append(_arrow(places[start][0] + 16, 40, places[end][0] - 16, 40, color))
    width, height = 80 + (2 * depth + 2) * _COLUMN, 70 + depth * _LEVEL
    legend = (
        *(("two convolutions 3 x 3", "#56b4e9"), ("copy and crop", "#999")),
        *(("max-pool 2 x 2, then the same", "#d55e00"), ("convolution 1 x 1", "#222")),
        ("up-convolution 2 x 2, concatenation, then the same", "#009e73"),
    )
    for i, (text, color) in enumerate(legend):
        y = height - 76 + 16 * i
        parts.append(_arrow(12, y, 42, y, color))
        style = _STYLE.replace("middle", "start")
        parts.append(f"<text x='50' y='{y + 4}' {style}>{text}</text>")
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' "
        f"width='{width}' height='{height}'><rect width='100%' height='100%' "
        f"fill='#fff'/>{''.join(parts)}</svg>\n"
    )


def energy() -> Picture:
    """Returns cells, their weight map of Eq. (2), and the loss of Eq. (1) of a blur.

    The prediction is the smoothed foreground, whose probability in the gaps between
    cells is nearly that of cells: what a network learns first.
    """
    example = synthetic.touching_cells(3, size=(128, 128), num_cells=17, radius=12.0)
    label, weight = label_and_weight(example.label, example.instances, (1.0, 1.0))
    kernel = jnp.exp(-(jnp.arange(-4, 5) ** 2) / 8)
    rows = jax.vmap(lambda x: jnp.convolve(x, kernel / kernel.sum(), mode="same"))
    probs = jnp.clip(rows(rows(label.astype(jnp.float32)).T).T, 0.01, 0.99)
    logits = jnp.log(jnp.stack([1 - probs, probs], axis=-1))
    plain = weighted_cross_entropy(logits, label, jnp.ones_like(weight))
    losses = weighted_cross_entropy(logits, label, weight)
    brightest = float(losses.max())
    panels = {
        "cells": pictures.color_labels(example.instances),
        "w(x), Eq. (2)": pictures.heat(np.asarray(weight)),
        "a blurred prediction": pictures.heat(np.asarray(probs), limits=(0.0, 1.0)),
        "its loss, w = 1": pictures.heat(np.asarray(plain), limits=(0.0, brightest)),
        "its loss, Eq. (1)": pictures.heat(np.asarray(losses), limits=(0.0, brightest)),
    }
    return pictures.side_by_side(list(panels.values()), list(panels))


def overlap() -> Picture:
    """Returns Fig. 2: an image extended by mirroring, and what one tile reads."""
    geometry = Geometry(depth=3)
    example = synthetic.touching_cells(5, size=(300, 340), num_cells=60, radius=13.0)
    plan = tiles.plan(300, 340, geometry, tile_size=220)
    margin = plan.margin
    picture = pictures.color_labels(np.pad(example.instances, margin, "reflect"))
    picture[(picture == 0).all(axis=-1)] = (70, 70, 70)
    inside = np.zeros(picture.shape[:2], bool)
    inside[margin:-margin, margin:-margin] = True
    picture[~inside] //= 2
    filled = tiles.tiles(plan)
    for tile in filled:
        _frame(picture, *_corners(tile, margin), (150, 150, 150))
    first = filled[1]
    top, left, bottom, right = _corners(first, margin)
    y, x = top - margin, left - margin
    _frame(picture, y, x, y + plan.rows.tile, x + plan.columns.tile, pictures.BLUE, 3)
    _frame(picture, top, left, bottom, right, pictures.ORANGE, 3)
    return pictures.thumbnail(picture, side=420)


def _shapes(model: UNet) -> dict[str, tuple[int, int]]:
    """Side and channels of the output of every module, without computing."""
    image = jnp.zeros((1, _SIDE, _SIDE, 1))

    def outputs() -> dict[str, jax.Array]:
        variables = model.init(jax.random.key(0), image, train=False)
        return forward.activations(model, variables["params"], {}, image)

    found = {"input": image, **jax.eval_shape(outputs)}
    return {name: (x.shape[1], x.shape[3]) for name, x in found.items()}


def _corners(tile: tiles.Tile, margin: int) -> tuple[int, int, int, int]:
    rows, columns = tile
    corners = (rows.start, columns.start, rows.stop, columns.stop)
    top, left, bottom, right = (margin + each for each in corners)
    return top, left, bottom, right


def _frame(
    picture: Picture,
    top: int,
    left: int,
    bottom: int,
    right: int,
    color: pictures.Color,
    width: int = 1,
) -> None:
    """Draws a rectangle into the picture."""
    inner = picture[top + width : bottom - width, left + width : right - width].copy()
    picture[top:bottom, left:right] = color
    picture[top + width : bottom - width, left + width : right - width] = inner


def _arrow(x0: int, y0: int, x1: int, y1: int, color: str) -> str:
    """A line with a head, as SVG."""
    angle = np.arctan2(y1 - y0, x1 - x0)
    ends = [
        f"{x1 - 7 * np.cos(angle + turn):.1f},{y1 - 7 * np.sin(angle + turn):.1f}"
        for turn in (0.45, -0.45)
    ]
    return (
        f"<path d='M{x0},{y0}L{x1},{y1}M{ends[0]}L{x1},{y1}L{ends[1]}' "
        f"stroke='{color}' stroke-width='1.5' fill='none'/>"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""

    def command() -> None:
        options = parse_args(make_parser(), sys.argv[1:] if argv is None else argv)
        print(*draw_all(options.out), sep="\n")

    return run_command(command)


if __name__ == "__main__":
    signals.exit_program(main())
