"""Augmentation of an image with its label and cells, and SciPy on the host."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, PRNGKeyArray, PyTree, Shaped
from scipy import ndimage

from unetjax.augmentation.augment import PAPER, augment

from . import contenders, measuring, weight_maps
from .measuring import OURS, Case, Contender, Row
from .plan import Plan

Triple = tuple[
    Float[np.ndarray, "H W"], Int32[np.ndarray, "H W"], Int32[np.ndarray, "H W"]
]


def augmentations(plan: Plan, _: dict[str, float]) -> Iterator[list[Row]]:
    """Measures elastic deformation, rotation and mirroring of image and annotations."""
    count, size = plan.augmented, plan.tile_size
    case = Case(
        "augment",
        f"{count} x image, label and cells of {size} x {size} pixels",
        items=count,
    )
    triple = example(size)
    found = [
        _ours(triple, count),
        _scipy(triple, count, 1),
        _scipy(triple, count, 3),
        _elasticdeform(triple, count),
    ]
    yield measuring.measure(case, found, plan.effort)


def example(size: int) -> Triple:
    """Returns an image, its label and its cells."""
    instances = weight_maps.cells(100, size)
    image = np.random.default_rng(0).uniform(size=(size, size)) + np.sign(instances)
    return image.astype(np.float32) / 2, np.sign(instances), instances


def positions(rng: np.random.Generator, size: int) -> Float[np.ndarray, "2 H W"]:
    """Returns where every pixel is read: displaced, rotated and perhaps mirrored.

    Displacements are Gaussian on a 3 x 3 grid, and interpolated by cubic splines.
    """
    grid = PAPER.elastic_grid
    knots = rng.normal(0, PAPER.elastic_sigma, (2, grid, grid))
    shift = np.stack([ndimage.zoom(k, size / grid, order=3) for k in knots])
    angle = rng.uniform(-np.pi, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.uniform() < 0.5:
        turn[:, 1] *= -1
    middle = (size - 1) / 2
    tile = np.indices((size, size)) - middle + shift
    return np.einsum("ij,jhw->ihw", turn, tile) + middle


def warp(
    triple: Triple, rng: np.random.Generator, order: int
) -> list[Shaped[np.ndarray, "H W"]]:
    """Returns the image interpolated by splines, its annotations by nearest pixels."""
    where = positions(rng, len(triple[0]))
    return [
        ndimage.map_coordinates(values, where, order=order_, mode="mirror")
        for values, order_ in zip(triple, (order, 0, 0), strict=True)
    ]


def _ours(triple: Triple, count: int) -> Contender:
    image, label, instances = (jnp.asarray(values) for values in triple)

    def many(keys: PRNGKeyArray, *arrays: Array) -> PyTree:
        return jax.vmap(lambda key: augment(key, *arrays))(keys)

    return contenders.of_function(
        OURS,
        many,
        jax.random.split(jax.random.key(0), count),
        image[..., None],
        label,
        instances,
        note="linear, with the grey-value curve",
    )


def _scipy(triple: Triple, count: int, order: int) -> Contender:
    rng = np.random.default_rng(0)
    return Contender(
        f"SciPy, order {order}",
        contenders.repeat(lambda: [warp(triple, rng, order) for _ in range(count)]),
        precision="",
        note="zoom and map_coordinates",
    )


def _elasticdeform(triple: Triple, count: int) -> Contender:
    try:
        import elasticdeform
    except (ImportError, AttributeError):  # the latter: built for another NumPy
        note = "not installed, or its wheel is for NumPy 1: build it from source"
        return Contender("elasticdeform", None, precision="", note=note)
    rng = np.random.default_rng(0)

    def deform() -> object:
        return elasticdeform.deform_random_grid(
            list(triple),
            sigma=PAPER.elastic_sigma,
            points=PAPER.elastic_grid,
            order=[3, 0, 0],
            mode="mirror",
            rotate=rng.uniform(0, 360),
        )

    run = contenders.repeat(lambda: [deform() for _ in range(count)])
    return Contender("elasticdeform", run, precision="", note="order 3, not mirrored")
