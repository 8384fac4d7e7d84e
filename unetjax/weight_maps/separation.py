"""Separation borders: one-pixel lines of background between touching cells."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Integer

from unetjax.settings import check_choice

SeparationBorder = Literal["none", "one_sided", "two_sided"]

_BEFORE = ((-1, -1), (-1, 0), (-1, 1), (0, -1))  # NW, N, NE, W
_AFTER = ((0, 1), (1, -1), (1, 0), (1, 1))  # E, SW, S, SE
_NEIGHBOURS = {"none": (), "one_sided": _BEFORE, "two_sided": _BEFORE + _AFTER}


def separation_border(
    instances: Integer[Array, "H W"] | Integer[np.ndarray, "H W"],
    rule: SeparationBorder = "one_sided",
    *,
    label: Integer[Array, "H W"] | Integer[np.ndarray, "H W"] | None = None,
) -> Bool[Array, "H W"]:
    """Returns which pixels of touching cells become background.

    The paper (section 3) introduces "small separation borders" between touching cells
    by morphological operations it does not name; the rules here are those of the
    authors' later software (one-sided) and its symmetric form. The rule reads
    the original map only. The one-sided rule depends on the direction of the axes.

    Args:
      instances: Cell numbers, 0 where there is no cell.
      rule: `none`: no pixel. `one_sided`: a cell pixel whose NW, N, NE or W neighbour
        belongs to another cell. `two_sided`: the same with all 8 neighbours.
      label: Class of every pixel. If given, only "touching objects of the same class"
        (section 1) are separated; cells of different classes need no border.

    Raises:
      ValueError: If the rule is unknown, or as in `cell_numbers`.

    Example:
      >>> separation_border(np.array([[1, 1, 2, 2]]), "two_sided")
      Array([[False,  True,  True, False]], dtype=bool)
    """
    check_choice("separation_border", rule, SeparationBorder)
    cells = cell_numbers(instances)
    classes = jnp.sign(cells) if label is None else jnp.asarray(label, jnp.int32)
    return _touching(cells, classes, offsets=_NEIGHBOURS[rule])


def cut_separation_border(
    label: Integer[Array, "H W"] | Integer[np.ndarray, "H W"],
    instances: Integer[Array, "H W"] | Integer[np.ndarray, "H W"],
    rule: SeparationBorder = "one_sided",
) -> Int[Array, "H W"]:
    """Returns the label with background between touching cells of one class.

    Args:
      label: Class of every pixel, 0 being background; negative labels stay.
      instances: Cell numbers, 0 where there is no cell.
      rule: As in `separation_border`.

    Raises:
      ValueError: As in `separation_border`.

    Example:
      >>> cut_separation_border(np.array([[1, 1, 1, 1]]), np.array([[1, 1, 2, 2]]))
      Array([[1, 1, 0, 1]], dtype=int32)
    """
    check_choice("separation_border", rule, SeparationBorder)
    cells, classes = cell_numbers(instances), jnp.asarray(label, jnp.int32)
    return _cut(cells, classes, offsets=_NEIGHBOURS[rule])


def cell_numbers(
    instances: Integer[Array, "H W"] | Integer[np.ndarray, "H W"],
) -> Int[Array, "H W"]:
    """Returns the cell numbers as int32 on the device, without changing any.

    Raises:
      ValueError: If `instances` is not one image of integers, or if one of them, in a
        NumPy array, exceeds int32.

    Example:
      >>> cell_numbers(np.array([[0, 65_536]], np.uint32))
      Array([[    0, 65536]], dtype=int32)
    """
    if instances.ndim != 2 or not jnp.issubdtype(instances.dtype, jnp.integer):
        raise ValueError(
            "instances must be integers of shape [H, W], or a batch of them under "
            f"jax.vmap, got {instances.dtype} of shape {list(instances.shape)}."
        )
    if isinstance(instances, np.ndarray):
        largest = int(instances.max(initial=0))
        if largest > np.iinfo(np.int32).max:
            raise ValueError(
                f"instances has cell number {largest}, which int32 cannot hold; number "
                "the cells from 1."
            )
        instances = instances.astype(np.int32)
    return jnp.asarray(instances, jnp.int32)


@functools.partial(jax.jit, static_argnames="offsets")
def _touching(
    cells: Int[Array, "H W"],
    classes: Int[Array, "H W"],
    *,
    offsets: tuple[tuple[int, int], ...],
) -> Bool[Array, "H W"]:
    """The cell pixels with another cell of their class at one of the offsets."""
    touching = jnp.zeros(cells.shape, bool)
    for offset in offsets:
        other = _shifted(cells, offset)
        same_class = _shifted(classes, offset) == classes
        touching |= (cells > 0) & (other > 0) & (other != cells) & same_class
    return touching


@functools.partial(jax.jit, static_argnames="offsets", inline=True)
def _cut(
    cells: Int[Array, "H W"],
    classes: Int[Array, "H W"],
    *,
    offsets: tuple[tuple[int, int], ...],
) -> Int[Array, "H W"]:
    between = _touching(cells, classes, offsets=offsets)
    return jnp.where(between & (classes > 0), 0, classes)


def _shifted(values: Int[Array, "H W"], offset: tuple[int, int]) -> Int[Array, "H W"]:
    """Every pixel's neighbour at `offset`; 0 beyond the image."""
    height, width = values.shape
    row, column = offset[0] + 1, offset[1] + 1
    return jnp.pad(values, 1)[row : row + height, column : column + width]
