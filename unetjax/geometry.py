"""Size arithmetic of the U-Net: integers only (paper, Sec. 2 and Fig. 1).

A network of `depth` D poolings commutes with shifts by its `period` 2^D only. With
`VALID` convolutions a side loses `offset` pixels in all, `margin` at each end; with
`SAME` it loses none, but the outer `margin` pixels of the output see the zeros beyond
the border.
"""

from typing import Literal

Padding = Literal["VALID", "SAME"]


def period(depth: int = 4) -> int:
    """Returns 2^depth, the shift in pixels with which the network commutes."""
    return 2**depth


def offset(depth: int = 4, *, kernel_size: int = 3) -> int:
    """Returns how many pixels a side loses from tile to valid output; 184 at depth 4.

    With c = 2 (k - 1) pixels lost in a block: c 2^D + 2 c (2^D - 1).
    """
    lost = 2 * (kernel_size - 1)
    return lost * 2**depth + 2 * lost * (2**depth - 1)


def reaches(depth: int = 4, *, kernel_size: int = 3) -> tuple[int, int]:
    """Returns the least and the most pixels that an output pixel sees to one side.

    The reach depends on the phase of the pixel, its coordinate modulo the period: the
    up-convolutions give all pixels of a period the same bottleneck pixel, which lies up
    to 2^D - 1 pixels further off than half the offset.

    Example:
      >>> reaches(4)
      (92, 107)
    """
    least = offset(depth, kernel_size=kernel_size) // 2
    return least, least + period(depth) - 1


def margin(depth: int = 4, *, kernel_size: int = 3, padding: Padding = "VALID") -> int:
    """Returns how many pixels of context a tile needs around its trusted output.

    `VALID` networks lose these pixels themselves: half the offset. The output of `SAME`
    networks is as large as the tile, and the rim that sees zeros is dropped: the least
    multiple of the period that no reach exceeds.

    Example:
      >>> margin(4), margin(4, padding="SAME")
      (92, 112)
    """
    least, most = reaches(depth, kernel_size=kernel_size)
    return least if padding == "VALID" else _round_up(most, period(depth))


def is_legal(
    input_size: int,
    *,
    depth: int = 4,
    kernel_size: int = 3,
    padding: Padding = "VALID",
) -> bool:
    """Returns whether every pooling meets an even side and some output is left.

    Example:
      >>> is_legal(572), is_legal(570), is_legal(512, padding="SAME")
      (True, False, True)
    """
    smallest = _smallest_input(depth, kernel_size, padding)
    return input_size >= smallest and (input_size - smallest) % period(depth) == 0


def output_size(
    input_size: int,
    *,
    depth: int = 4,
    kernel_size: int = 3,
    padding: Padding = "VALID",
) -> int:
    """Returns the side of the network's output for one input side, in pixels.

    Args:
      input_size: Side of the input tile, in pixels; 572 gives 388 at depth 4.
      depth: Number of 2x2 max-pooling steps.
      kernel_size: Side of the block convolutions, odd.
      padding: `VALID` as in the paper, or `SAME`.

    Raises:
      ValueError: If the side is illegal; the message names the nearest legal ones.

    Example:
      >>> output_size(572)
      388
    """
    if is_legal(input_size, depth=depth, kernel_size=kernel_size, padding=padding):
        return input_size - _lost(depth, kernel_size, padding)
    smallest, step = _smallest_input(depth, kernel_size, padding), period(depth)
    below = max(input_size - (input_size - smallest) % step, smallest)
    raise ValueError(
        f"input_size must be at least {smallest} and {smallest % step} modulo {step} "
        f"at depth {depth} with {padding} padding, got {input_size}; try {below} or "
        f"{below + step}."
    )


def input_size(
    output_size: int,
    *,
    depth: int = 4,
    kernel_size: int = 3,
    padding: Padding = "VALID",
) -> int:
    """Returns the smallest legal input side whose output is at least `output_size`.

    Example:
      >>> input_size(388), input_size(512)
      (572, 700)
    """
    smallest = _smallest_input(depth, kernel_size, padding)
    missing = output_size + _lost(depth, kernel_size, padding) - smallest
    return smallest + _round_up(missing, period(depth))


def _lost(depth: int, kernel_size: int, padding: Padding) -> int:
    """Pixels by which the output is smaller than the tile."""
    return offset(depth, kernel_size=kernel_size) if padding == "VALID" else 0


def _smallest_input(depth: int, kernel_size: int, padding: Padding) -> int:
    """The least legal side; all others follow in steps of the period.

    With a side b at the bottleneck, n = 2^D b + c (2^D - 1), so that n = -c modulo 2^D
    for `VALID`; 0 modulo 2^D for `SAME`.
    """
    first = _lost(depth, kernel_size, padding) + 1  # leaves one pixel of output
    phase = -2 * (kernel_size - 1) if padding == "VALID" else 0
    return first + (phase - first) % period(depth)


def _round_up(size: int, step: int) -> int:
    return -(-size // step) * step
