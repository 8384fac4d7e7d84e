"""3x3 convolutions with fewer multiplications, for training on a CPU.

Winograd's minimal filtering, applied to networks by Lavin and Gray (arXiv 1509.09308):
for every tile of m x m outputs, data and kernel are transformed to (m + 2)^2 numbers
per channel, in which the convolution is a product. m = 4 needs 2.25 multiplications per
output, the definition 9. In float32 results agree with the definition to about 1e-5 of
the largest one.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

# With fewer channels the transformations cost more than the products save.
_FEWEST_CHANNELS = 64
# For outputs with smaller sides m = 2 is faster than m = 4: tiles of 4 extend further
# beyond the map, and the transformed kernels, whose size does not depend on the map,
# outweigh the data.
_SMALL_SIDE = 32


class _Rule(NamedTuple):
    """The matrices of F(m x m, 3 x 3), in Lavin and Gray's letters."""

    data: np.ndarray  # B^T [m + 2, m + 2]
    kernel: np.ndarray  # G [m + 2, 3]
    output: np.ndarray  # A^T [m, m + 2]

    @property
    def tile(self) -> int:
        return len(self.output)


_F2 = _Rule(
    data=np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    kernel=np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    output=np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
)
_F4 = _Rule(
    data=np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    ),
    kernel=np.array(
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ]
    ),
    output=np.array(
        [
            [1, 1, 1, 1, 1, 0],
            [0, 1, -1, 2, -2, 0],
            [0, 1, 1, 4, 4, 0],
            [0, 1, -1, 8, -8, 1],
        ]
    ),
)


def pays(kernel: Float[Array, "K K C F"]) -> bool:
    """Returns whether `convolve` is faster than the definition on a CPU."""
    return kernel.shape[:2] == (3, 3) and min(kernel.shape[2:]) >= _FEWEST_CHANNELS


def convolve(
    x: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C F"]
) -> Float[Array, "B H-2 W-2 F"]:
    """Returns the `VALID` convolution of stride 1."""
    rule = _rule((x.shape[1] - 2, x.shape[2] - 2))
    return _filter(x, kernel, rule, product="abtsc,acf->abtsf")


def gradients(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "3 3 C F"],
    cotangent: Float[Array, "B H-2 W-2 F"],
) -> tuple[Float[Array, "B H W C"], Float[Array, "3 3 C F"]]:
    """Returns the gradients of image and kernel, given that of the output.

    The gradient of the image is a full convolution of the cotangent with the kernel
    rotated by 180 degrees.
    """
    rule = _rule(cotangent.shape[1:3])
    padded = jnp.pad(cotangent, ((0, 0), (2, 2), (2, 2), (0, 0)))
    image_gradient = _filter(
        padded, kernel[::-1, ::-1], rule, product="abtsf,acf->abtsc"
    )
    return image_gradient, _kernel_gradient(x, cotangent, rule)


def _rule(shape: Sequence[int]) -> _Rule:
    """The rule for an output of this height and width."""
    return _F2 if max(shape) < _SMALL_SIDE else _F4


def _filter(x: Array, kernel: Array, rule: _Rule, *, product: str) -> Array:
    """A^T [(G g G^T) * (B^T d B)] A for all tiles; `product` contracts channels."""
    batch, height, width, _ = x.shape
    shape = (height - 2, width - 2)
    data = _transform(_fill(x, shape, rule), rule.data, rule.tile)
    kernels = _transform_kernel(kernel, rule.kernel)
    maps = [jnp.einsum(product, d, g) for d, g in zip(data, kernels, strict=True)]
    columns = jnp.stack(_combine(rule.output, maps), axis=4)  # [a, B, T, S, m, F]
    tiles = jnp.stack(_combine(rule.output, list(columns)), axis=2)
    rows, features = tiles.shape[1] * rule.tile, tiles.shape[-1]
    whole = tiles.reshape(batch, rows, -1, features)
    return whole[:, : shape[0], : shape[1]]


def _kernel_gradient(x: Array, cotangent: Array, rule: _Rule) -> Array:
    """G^T [sum over tiles of (B^T d B)^T (A dy A^T)] G."""
    shape = cotangent.shape[1:3]
    data = _transform(_fill(x, shape, rule), rule.data, rule.tile)
    filled = _fill(cotangent, shape, rule, lost=0)
    cotangents = _transform(filled, rule.output.T, rule.tile)
    products = [
        jnp.einsum("anc,anf->acf", _flat(d), _flat(c))
        for d, c in zip(data, cotangents, strict=True)
    ]
    columns = jnp.stack(_combine(rule.kernel.T, products))  # [3, a, C, F]
    return jnp.stack(_combine(rule.kernel.T, list(columns.swapaxes(0, 1))))


def _fill(x: Array, shape: Sequence[int], rule: _Rule, *, lost: int = 2) -> Array:
    """Pads with zeros below and to the right, so that whole tiles cover the output."""
    rows, columns = (-(-n // rule.tile) * rule.tile + lost for n in shape)
    return jnp.pad(
        x, ((0, 0), (0, rows - x.shape[1]), (0, columns - x.shape[2]), (0, 0))
    )


def _transform(x: Array, matrix: np.ndarray, step: int) -> list[Array]:
    """Applies a matrix to rows and columns of windows that start every `step` pixels.

    Returns:
      For every row of the matrix, applied to columns, [a, B, T, S, C] for its
      application to rows.
    """
    rows = jnp.stack(_combine(matrix, _windows(x, 1, matrix.shape[1], step)))
    return _combine(matrix, _windows(rows, 3, matrix.shape[1], step))


def _transform_kernel(kernel: Array, matrix: np.ndarray) -> list[Array]:
    rows = jnp.stack(_combine(matrix, list(kernel)))  # [a, 3, C, F]
    return _combine(matrix, list(rows.swapaxes(0, 1)))


def _windows(x: Array, axis: int, size: int, step: int) -> list[Array]:
    """The i-th pixel of every window along an axis, for all i."""
    last = x.shape[axis] - size
    return [lax.slice_in_dim(x, i, i + last + 1, step, axis=axis) for i in range(size)]


def _combine(matrix: np.ndarray, arrays: Sequence[Array]) -> list[Array]:
    """The matrix times a vector of arrays; its zeros are skipped.

    The barrier keeps XLA from fusing a combination into each of its many uses, which
    would compute it many times.
    """
    return [
        lax.optimization_barrier(
            functools.reduce(
                jnp.add,
                [c * x for c, x in zip(row.tolist(), arrays, strict=True) if c],
            )
        )
        for row in matrix
    ]


def _flat(tiles: Array) -> Array:
    return tiles.reshape(tiles.shape[0], -1, tiles.shape[-1])
