"""Elastic deformation: random displacements of a coarse grid, interpolated smoothly."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

Elastic = Literal["bicubic", "bspline"]


def elastic_field(
    key: PRNGKeyArray, shape: tuple[int, int], *, sigma: float, grid: int = 3
) -> Float[Array, "H W 2"]:
    """Returns a smooth random displacement of every pixel (paper, Sec. 3.1).

    The paper draws displacements on a 3 by 3 grid from a Gaussian of 10 pixels and
    interpolates bicubically. That the grid spans the input tile from corner to corner
    is our choice.

    Args:
      key: Random key.
      shape: Height and width H, W of the tile.
      sigma: Standard deviation of each component at the grid points, in pixels.
      grid: Number of grid points on each side.

    Returns:
      Displacements along rows and columns, in pixels.
    """
    knots = sigma * jax.random.normal(key, (grid, grid, 2))
    return interpolate(knots, *(cubic_weights(n, grid) for n in shape))


def bspline_field(
    key: PRNGKeyArray, shape: tuple[int, int], *, sigma: float, spacing: float
) -> Float[Array, "H W 2"]:
    """Returns a smooth random displacement of every pixel, as in Falk et al. 2019.

    Their control points lie 150 pixels apart, whatever the size of the tile, and are
    Gaussian, of 10 pixels. A uniform cubic B-spline approximates them: the field has
    half their standard deviation at a control point and 0.46 of it between four.

    Args:
      key: Random key.
      shape: Height and width H, W of the tile.
      sigma: Standard deviation of each component at the control points, in pixels.
      spacing: Distance of the control points, in pixels.

    Returns:
      Displacements along rows and columns, in pixels.
    """
    rows, columns = (bspline_weights(n, spacing) for n in shape)
    points = sigma * jax.random.normal(key, (rows.shape[1], columns.shape[1], 2))
    return interpolate(points, rows, columns)


def interpolate(
    knots: Float[Array, "G F 2"],
    rows: Float[np.ndarray, "H G"],
    columns: Float[np.ndarray, "W F"],
) -> Float[Array, "H W 2"]:
    """Returns the field of values on a coarse grid, from the weights of each axis."""
    return jnp.einsum(
        "hi,wj,ijc->hwc",
        jnp.asarray(rows),
        jnp.asarray(columns),
        knots,
        precision="highest",
    )


def cubic_weights(size: int, num_knots: int) -> Float[np.ndarray, "N G"]:
    """Returns the weight of every knot at every pixel of one axis.

    Cubic convolution (Keys 1981, a = -1/2) through `num_knots` equally spaced knots,
    the first at the first pixel and the last at the last, extended by a linearly
    extrapolated knot at each end. Rows sum to 1; linear data are reproduced exactly.

    Example:
      >>> cubic_weights(5, 3)[1].tolist()
      [0.4375, 0.625, -0.0625]
    """
    at = np.linspace(0, num_knots - 1, size) if size > 1 else np.zeros(1)
    left = np.minimum(at.astype(int), num_knots - 2)
    s = at - left
    taps = np.stack(
        [
            -s / 2 + s**2 - s**3 / 2,
            1 - 5 * s**2 / 2 + 3 * s**3 / 2,
            s / 2 + 2 * s**2 - 3 * s**3 / 2,
            -(s**2) / 2 + s**3 / 2,
        ],
        axis=1,
    )
    extended = np.zeros((size, num_knots + 2))  # one ghost knot at each end
    np.put_along_axis(extended, left[:, None] + np.arange(4), taps, axis=1)
    weights = extended[:, 1:-1].copy()
    first, last = extended[:, 0], extended[:, -1]
    weights[:, 0] += 2 * first
    weights[:, 1] -= first
    weights[:, -1] += 2 * last
    weights[:, -2] -= last
    return weights.astype(np.float32)


def bspline_weights(size: int, spacing: float) -> Float[np.ndarray, "N G"]:
    """Returns the weight of every control point at every pixel of one axis.

    Uniform cubic B-spline. The second control point lies at the first pixel, all others
    `spacing` pixels apart: floor(size / spacing) + 4 of them. Rows sum to 1.

    Args:
      size: Number of pixels.
      spacing: Distance of the control points, in pixels.

    Example:
      >>> (6 * bspline_weights(3, 2.0)[2]).round(3).tolist()
      [0.0, 1.0, 4.0, 1.0, 0.0]
    """
    at = np.arange(size) / spacing
    left = at.astype(int)
    s = at - left
    taps = np.stack(
        [
            (1 - s) ** 3,
            4 - 6 * s**2 + 3 * s**3,
            1 + 3 * s + 3 * s**2 - 3 * s**3,
            s**3,
        ],
        axis=1,
    )
    weights = np.zeros((size, int(size / spacing) + 4))
    np.put_along_axis(weights, left[:, None] + np.arange(4), taps / 6, axis=1)
    return weights.astype(np.float32)
