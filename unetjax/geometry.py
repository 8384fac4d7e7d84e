"""Size arithmetic of the U-Net: legal tiles, output sizes, margins (paper, Fig. 1).

A network of `depth` D poolings commutes with shifts by its `period` 2^D only. With
`VALID` convolutions a side loses `offset` pixels in all, `margin` at each end; with
`SAME` it loses none, but the outer `margin` pixels of the output see the zeros beyond
the border.
"""

import operator
from dataclasses import dataclass
from typing import Literal, SupportsIndex, get_args

Padding = Literal["VALID", "SAME"]

# Far beyond what is of use; sizes from files are computed with these numbers.
MAX_DEPTH, MAX_KERNEL_SIZE = 16, 255


@dataclass(frozen=True)
class Geometry:
    """What the sizes of tiles and outputs depend on; `UNet.geometry` of a network.

    Attributes:
      depth: Number of 2x2 max-pooling steps D.
      kernel_size: Side k of the block convolutions, odd.
      padding: `VALID` as in the paper, or `SAME`.

    Raises:
      ValueError: On construction, for a value that is not accepted.

    Example:
      >>> Geometry().output_size(572), Geometry(depth=2).output_size(572)
      (388, 532)
    """

    depth: int = 4
    kernel_size: int = 3
    padding: Padding = "VALID"

    def __post_init__(self) -> None:
        """Validates all fields."""
        for name, least, most in (
            ("depth", 0, MAX_DEPTH),
            ("kernel_size", 1, MAX_KERNEL_SIZE),
        ):
            if not least <= _integer(name, getattr(self, name)) <= most:
                raise ValueError(
                    f"{name} must be at least {least} and at most {most}, got "
                    f"{getattr(self, name)}."
                )
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be odd, got {self.kernel_size}: an even one would "
                f"shift the output by half a pixel; try {self.kernel_size + 1}."
            )
        if self.padding not in get_args(Padding):
            raise ValueError(
                f"padding must be one of {', '.join(get_args(Padding))}, got "
                f"{self.padding!r}."
            )

    @property
    def period(self) -> int:
        """2^D, the shift in pixels with which the network commutes."""
        return 2**self.depth

    @property
    def offset(self) -> int:
        """Pixels that a side loses from tile to output; 184 for the paper's network.

        With c = 2 (k - 1) pixels lost in a `VALID` block: c 2^D + 2 c (2^D - 1).
        """
        return self._context if self.padding == "VALID" else 0

    @property
    def reaches(self) -> tuple[int, int]:
        """The least and the most pixels that an output pixel sees to one side.

        The reach depends on the phase of the pixel, its coordinate modulo the period:
        the up-convolutions give all pixels of a period the same bottleneck pixel, which
        lies up to 2^D - 1 pixels further off than half the context.

        Example:
          >>> Geometry().reaches
          (92, 107)
        """
        least = self._context // 2
        return least, least + self.period - 1

    @property
    def margin(self) -> int:
        """How many pixels of context a tile needs around its trusted output.

        `VALID` networks lose these pixels themselves: half the offset. The output of
        `SAME` networks is as large as the tile, and the rim that sees zeros is dropped:
        the least multiple of the period that no reach exceeds.

        Example:
          >>> Geometry().margin, Geometry(padding="SAME").margin
          (92, 112)
        """
        least, most = self.reaches
        return least if self.padding == "VALID" else _round_up(most, self.period)

    def is_legal(self, input_size: int) -> bool:
        """Returns whether every pooling meets an even side and some output is left.

        Example:
          >>> Geometry().is_legal(572), Geometry().is_legal(570)
          (True, False)
        """
        input_size, smallest = _integer("input_size", input_size), self._smallest_input
        return input_size >= smallest and (input_size - smallest) % self.period == 0

    def output_size(self, input_size: int) -> int:
        """Returns the side of the network's output for one input side, in pixels.

        Raises:
          ValueError: If the side is illegal; the message names the nearest legal ones.

        Example:
          >>> Geometry().output_size(572)
          388
        """
        if self.is_legal(input_size):
            return input_size - self.offset
        smallest, step = self._smallest_input, self.period
        below = max(input_size - (input_size - smallest) % step, smallest)
        raise ValueError(
            f"input_size must be at least {smallest} and {smallest % step} modulo "
            f"{step} at depth {self.depth} with {self.padding} padding, got "
            f"{input_size}; try {below} or {below + step}."
        )

    def input_size(self, output_size: int) -> int:
        """Returns the smallest legal input side whose output is at least `output_size`.

        Example:
          >>> Geometry().input_size(388), Geometry().input_size(512)
          (572, 700)
        """
        smallest = self._smallest_input
        missing = _integer("output_size", output_size) + self.offset - smallest
        return smallest + _round_up(missing, self.period)

    @property
    def _context(self) -> int:
        """Pixels on which an output pixel depends at least, beyond itself."""
        lost = 2 * (self.kernel_size - 1)
        return lost * self.period + 2 * lost * (self.period - 1)

    @property
    def _smallest_input(self) -> int:
        """The least legal side; all others follow in steps of the period.

        With a side b at the bottleneck, n = 2^D b + c (2^D - 1), so that n = -c modulo
        2^D for `VALID`; 0 modulo 2^D for `SAME`.
        """
        first = self.offset + 1  # leaves one pixel of output
        phase = -2 * (self.kernel_size - 1) if self.padding == "VALID" else 0
        return first + (phase - first) % self.period


def output_size(
    input_size: int,
    *,
    depth: int = 4,
    kernel_size: int = 3,
    padding: Padding = "VALID",
) -> int:
    """Returns `Geometry(depth, kernel_size, padding).output_size(input_size)`.

    Example:
      >>> output_size(572)
      388
    """
    return Geometry(depth, kernel_size, padding).output_size(input_size)


def _integer(name: str, value: SupportsIndex) -> int:
    """The value as an integer; refuses text and fractions."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}.") from None


def _round_up(size: int, step: int) -> int:
    return -(-size // step) * step
