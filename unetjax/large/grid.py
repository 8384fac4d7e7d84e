"""Blocks of a large image, which are read, computed and written one by one."""

from collections.abc import Iterator
from typing import NamedTuple

from unetjax.settings import check_range

CHUNK = 512  # pixels: side of what is stored as one piece
BLOCK = 4 * CHUNK  # pixels; no two blocks share a chunk


class Block(NamedTuple):
    """A part of an image; no two parts share a pixel.

    Attributes:
      number: Its place among the blocks of the image, row by row.
      rows: Its rows.
      columns: Its columns.
    """

    number: int
    rows: slice
    columns: slice


class Grid(NamedTuple):
    """An image and the size of its blocks, in pixels.

    Attributes:
      height: Height of the image.
      width: Width of the image.
      size: Side of a block; the last of a row or column may be smaller.
    """

    height: int
    width: int
    size: int = BLOCK

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return -(-self.height // self.size) * -(-self.width // self.size)

    def blocks(self) -> Iterator[Block]:
        """Yields all blocks, row by row.

        Example:
          >>> [block.columns for block in Grid(4, 10, size=6).blocks()]
          [slice(0, 6, None), slice(6, 10, None)]
        """
        number = 0
        for top in range(0, self.height, self.size):
            for left in range(0, self.width, self.size):
                yield Block(
                    number,
                    slice(top, min(top + self.size, self.height)),
                    slice(left, min(left + self.size, self.width)),
                )
                number += 1

    def window(self, block: Block, halo: int) -> tuple[slice, slice]:
        """Returns a block with up to `halo` pixels of the image around it."""
        check_range("halo", halo, at_least=0)
        return _widened(block.rows, halo, self.height), _widened(
            block.columns, halo, self.width
        )


def inside(part: slice, whole: slice) -> slice:
    """Returns where a part lies in an array of a whole.

    Example:
      >>> inside(slice(6, 10), slice(4, 12))
      slice(2, 6, None)
    """
    return slice(part.start - whole.start, part.stop - whole.start)


def _widened(span: slice, halo: int, size: int) -> slice:
    return slice(max(span.start - halo, 0), min(span.stop + halo, size))
