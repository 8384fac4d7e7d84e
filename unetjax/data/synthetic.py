"""Synthetic images from a seed: touching cells, branching lines, discs of tf_unet."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int32, UInt16

from unetjax.data.examples import Example, from_instances, from_labels

# All values are ours. They give 12-bit camera counts of nuclei as under a fluorescence
# microscope, too dense and too unevenly lit for a threshold.
_ORDERS = np.arange(2, 5)  # harmonics of an outline: elongation, then bumps
_BUMPS = np.array([0.14, 0.05, 0.03])  # largest amplitudes, relative to the radius
_SIZES = (0.75, 1.3)  # smallest and largest radius, relative to the mean
_PRESSED = (0.84, 0.95)  # distance of touching cells, relative to the sum of radii
_CLUSTER = 6  # mean number of cells in a cluster
_PHOTONS = 260.0  # of the brightest nuclei; their square root is the shot noise
_GAIN = 9.0  # counts per photon
_READ_NOISE = 12.0  # counts
_OFFSET = 100.0  # counts without light
_WIDTHS = (1.0, 6.0)  # pixels: thinnest and widest line
_BENDING = 0.08  # radians: standard deviation of the turn at each half pixel


class _Cell(NamedTuple):
    centre: Float[np.ndarray, "2"]  # row and column
    radius: float  # pixels, mean over the outline
    bumps: Float[np.ndarray, "3"]
    turns: Float[np.ndarray, "3"]  # radians


def touching_cells(
    seed: int,
    index: int = 0,
    *,
    size: tuple[int, int] = (256, 256),
    num_cells: int = 40,
    radius: float = 11.0,
) -> Example:
    """Returns image `index` of the endless data set `seed`: bright nuclei in clusters.

    Nuclei of a cluster are pressed together and share borders; the image has texture,
    blur, an uneven background and camera noise. Equal arguments give equal cells on
    every machine, and equal grey values up to rounding.

    Args:
      seed: Seed of the data set, at least 0.
      index: Index of the image, at least 0.
      size: Height and width in pixels.
      num_cells: Number of nuclei; some are cut by the border of the image.
      radius: Mean radius of the nuclei in pixels, at least 3.

    Returns:
      An example with a uint16 image of one channel and `num_cells` numbered nuclei.

    Raises:
      ValueError: If the nuclei do not fit.

    Example:
      >>> example = touching_cells(0, num_cells=7, size=(64, 96))
      >>> example.image.shape, str(example.image.dtype), example.instances.max()
      ((64, 96, 1), 'uint16', np.int32(7))
    """
    if radius < 3:
        raise ValueError(f"radius must be at least 3 pixels, got {radius}.")
    rng = np.random.default_rng([seed, index])
    cells = _place(rng, size, num_cells, radius)
    instances, depth = _rasterize(cells, size)
    image = _photograph(rng, instances, depth, radius)
    return from_instances(image[..., None], instances, f"synthetic-{seed}-{index:03d}")


def branching_lines(
    seed: int,
    index: int = 0,
    *,
    size: tuple[int, int] = (256, 256),
    num_trees: int = 2,
) -> Example:
    """Returns image `index` of the endless data set `seed`: dark vessels that branch.

    Each tree enters at the border with a width of 3 to 6 pixels, and its branches
    become thinner down to 1 pixel. Light is uneven, thin lines are faint, and shot
    noise is about as strong as the contrast of the thinnest. Equal arguments give equal
    lines on every machine, and equal grey values up to rounding.

    Args:
      seed: Seed of the data set, at least 0.
      index: Index of the image, at least 0.
      size: Height and width in pixels.
      num_trees: Number of trees.

    Returns:
      An example with a uint8 image of one channel, and class 1 on the lines.

    Example:
      >>> example = branching_lines(0, size=(64, 96))
      >>> example.image.shape, np.unique(example.label).tolist()
      ((64, 96, 1), [0, 1])
    """
    rng = np.random.default_rng([seed, index])
    widths = np.zeros(size)  # of the widest line at every pixel
    for _ in range(num_trees):
        _grow(rng, widths)
    label = (widths > 0).astype(np.int32)
    depth = 0.12 + 0.28 * widths / _WIDTHS[1]  # share of the light that is absorbed
    lamp = 1 + 0.25 * _texture(rng, size, max(size) / 6)
    tissue = 1 + 0.04 * _texture(rng, size, 2.0)
    light = np.maximum(lamp * tissue, 0.2) * (1 - _blur(label * depth, 0.8))
    photons = _PHOTONS * light
    photons += np.sqrt(photons) * rng.standard_normal(size)
    image = np.clip(np.rint(photons / 2), 0, 255).astype(np.uint8)
    return from_labels(image[..., None], label, f"lines-{seed}-{index:03d}")


def discs(
    rng: np.random.Generator | np.random.RandomState,
    *,
    size: tuple[int, int] = (572, 572),
    num_discs: int = 20,
    radius: tuple[int, int] = (5, 50),
    border: int = 92,
    noise: float = 20.0,
    squares: bool = False,
    channels: int = 1,
    name: str = "discs",
) -> Example:
    """Returns discs of random grey in strong noise: the toy problem of jakeret/tf_unet.

    Grey values of objects are drawn from 1 to 254, the background is 1; after adding
    noise the image is scaled to [0, 1]. Discs may overlap; touching discs are one
    object of class 1. Draws are in the order of that package, so that a legacy
    generator such as `np.random.RandomState(98765)`, used for one image after another,
    reproduces its images.

    Args:
      rng: Random generator; `np.random.default_rng([seed, index])` makes an image a
        function of two numbers.
      size: Height and width in pixels.
      num_discs: Number of discs; fewer objects, as discs merge.
      radius: Smallest radius in pixels, and the largest plus 1; of squares, the side.
      border: Smallest distance of the centres of discs from the border, in pixels.
      noise: Standard deviation of the noise, in grey values.
      squares: Whether to add half as many squares of class 2, drawn above the discs.
      channels: 1 for grey, 3 for the same image in false colours.
      name: Name of the example.

    Returns:
      An example with a float64 image.

    Raises:
      ValueError: If the image is too small for the border, or the number of channels is
        neither 1 nor 3.

    Example:
      >>> example = discs(np.random.default_rng([0, 0]), size=(200, 220), squares=True)
      >>> example.image.shape, np.unique(example.label).tolist()
      ((200, 220, 1), [0, 1, 2])
    """
    if min(size) < 2 * border + 1:
        raise ValueError(
            f"size must be at least {2 * border + 1} pixels, twice the border plus 1, "
            f"got {size[0]} x {size[1]}; or reduce border."
        )
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (colours), got {channels}.")
    # The same method has different names in the two kinds of generator.
    integers = rng.integers if isinstance(rng, np.random.Generator) else rng.randint
    image, label = np.ones(size), np.zeros(size, np.int32)
    rows, columns = np.ogrid[: size[0], : size[1]]
    for _ in range(num_discs):
        row, column = (integers(border, side - border) for side in size)
        reach, grey = integers(*radius), integers(1, 255)
        inside = (rows - row) ** 2 + (columns - column) ** 2 <= reach**2
        image[inside], label[inside] = grey, 1
    for _ in range(num_discs // 2 if squares else 0):
        row, column = (integers(side) for side in size)
        reach, grey = integers(*radius), integers(1, 255)
        inside = np.s_[row : row + reach, column : column + reach]
        image[inside], label[inside] = grey, 2
    image += rng.normal(scale=noise, size=(*size, 1))[..., 0]
    image -= image.min()
    image /= image.max()
    pixels = image[..., None] if channels == 1 else _false_colors(image)
    return from_labels(pixels, label, name)


def _grow(rng: np.random.Generator, widths: Float[np.ndarray, "H W"]) -> None:
    """Draws one tree: every branch ends in two thinner ones, or leaves the image."""
    size = np.array(widths.shape)
    side, along = rng.integers(4), rng.uniform(0.1, 0.9)
    start = np.array([(0.0, along), (along, 0.0), (1.0, along), (along, 1.0)][side])
    heading = (0.5 - 0.5 * side) * np.pi + rng.uniform(-0.5, 0.5)  # into the image
    branches = [(start * (size - 1), heading, rng.uniform(3, _WIDTHS[1]))]
    while branches:
        position, heading, width = branches.pop()
        num_steps = int(rng.uniform(40, 160))  # of half a pixel
        for turn in rng.normal(scale=_BENDING, size=num_steps):
            heading += turn
            position = position + 0.5 * np.array([np.sin(heading), np.cos(heading)])
            _stamp(widths, position, width)
        is_outside = np.any((position < 0) | (position > size - 1))
        if width > _WIDTHS[0] and not is_outside:
            for sign in (-1, 1):
                thinner = max(width * rng.uniform(0.6, 0.9), _WIDTHS[0])
                branches.append(
                    (position, heading + sign * rng.uniform(0.2, 0.8), thinner)
                )


def _stamp(
    widths: Float[np.ndarray, "H W"], centre: Float[np.ndarray, "2"], width: float
) -> None:
    """Draws a disc; a line one pixel wide takes the nearest pixels."""
    radius = max(width / 2, 0.5)
    low = np.maximum(np.ceil(centre - radius), 0).astype(int)
    high = np.minimum(np.floor(centre + radius) + 1, widths.shape).astype(int)
    if (low >= high).any():
        return
    box = np.s_[low[0] : high[0], low[1] : high[1]]
    rows, columns = np.ogrid[box]
    inside = np.hypot(rows - centre[0], columns - centre[1]) <= radius
    widths[box][inside] = np.maximum(widths[box][inside], width)


def _place(
    rng: np.random.Generator, size: tuple[int, int], num_cells: int, radius: float
) -> list[_Cell]:
    """Places cells one by one; most are pressed against an earlier one."""
    cells = list[_Cell]()
    for _ in range(100 * num_cells):
        if len(cells) == num_cells:
            break
        cell = _Cell(
            rng.uniform((0, 0), size),
            radius * rng.uniform(*_SIZES),
            _BUMPS * rng.uniform(size=3),
            rng.uniform(0, 2 * np.pi, 3),
        )
        if cells and rng.uniform() > 1 / _CLUSTER:
            neighbour = cells[rng.integers(len(cells))]
            angle = rng.uniform(0, 2 * np.pi)
            distance = rng.uniform(*_PRESSED) * _touching_distance(
                neighbour, cell, angle
            )
            step = distance * np.array([np.sin(angle), np.cos(angle)])
            cell = cell._replace(centre=neighbour.centre + step)
        inside = np.all((cell.centre >= 0) & (cell.centre < size))
        if inside and not any(_overlap(cell, other) for other in cells):
            cells.append(cell)
    if len(cells) < num_cells:
        raise ValueError(
            f"num_cells must fit into {size[0]} x {size[1]} pixels, got {num_cells} of "
            f"radius {radius:g}; try {len(cells)} or a larger size."
        )
    return cells


def _reach(cell: _Cell, angle: Float[np.ndarray, "*d"]) -> Float[np.ndarray, "*d"]:
    """Returns the distance of the outline from the centre, in pixels, by direction."""
    phase = _ORDERS * angle[..., None] - cell.turns
    return np.asarray(cell.radius * (1 + np.cos(phase) @ cell.bumps))


def _touching_distance(a: _Cell, b: _Cell, angle: float) -> float:
    """Returns the distance at which two cells touch, b in direction `angle` from a."""
    there, back = np.asarray(angle), np.asarray(angle + np.pi)
    return float(_reach(a, there) + _reach(b, back))


def _overlap(a: _Cell, b: _Cell) -> bool:
    """Returns whether two cells are closer than any cells that touch."""
    rows, columns = b.centre - a.centre
    angle = np.arctan2(rows, columns)
    return bool(np.hypot(rows, columns) < _PRESSED[0] * _touching_distance(a, b, angle))


def _rasterize(
    cells: list[_Cell], size: tuple[int, int]
) -> tuple[Int32[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Draws numbered cells; where outlines cross, the nearer centre wins.

    Returns:
      Instances, and the distance from the centre relative to that of the outline.
    """
    instances = np.zeros(size, np.int32)
    nearest = np.ones(size)  # 1 is the outline
    for number, cell in enumerate(cells, start=1):
        margin = cell.radius * (1 + _BUMPS.sum()) + 1
        low = np.maximum(cell.centre - margin, 0).astype(int)
        high = np.minimum(cell.centre + margin + 1, size).astype(int)
        box = np.s_[low[0] : high[0], low[1] : high[1]]
        rows, columns = np.ogrid[box]
        rows, columns = rows - cell.centre[0], columns - cell.centre[1]
        distance = np.hypot(rows, columns) / _reach(cell, np.arctan2(rows, columns))
        wins = distance < nearest[box]
        instances[box][wins] = number
        nearest[box][wins] = distance[wins]
    return instances, nearest


def _photograph(
    rng: np.random.Generator,
    instances: Int32[np.ndarray, "H W"],
    depth: Float[np.ndarray, "H W"],
    radius: float,
) -> UInt16[np.ndarray, "H W"]:
    """Simulates the camera image: optics, illumination, shot noise and read noise."""
    size = instances.shape
    brightness = np.append(0.0, rng.uniform(0.45, 1.0, instances.max()))
    coarse, fine = _texture(rng, size, radius / 4), _texture(rng, size, 1.2)
    chromatin = 1 + 0.2 * coarse + 0.12 * fine
    nuclei = brightness[instances] * (1 - 0.45 * depth**2) * chromatin
    haze = 0.12 * _blur(nuclei, 1.5 * radius)  # out-of-focus light
    lamp = 1 + 0.25 * _texture(rng, size, max(size) / 4)
    light = lamp * (_blur(nuclei, 1.0) + haze + 0.09)
    photons = _PHOTONS * np.maximum(light, 0.0)
    photons += np.sqrt(photons) * rng.standard_normal(size)
    counts = _OFFSET + _GAIN * photons + _READ_NOISE * rng.standard_normal(size)
    return np.clip(np.rint(counts), 0, 4095).astype(np.uint16)


def _texture(
    rng: np.random.Generator, size: tuple[int, ...], sigma: float
) -> Float[np.ndarray, "H W"]:
    """Returns smooth noise of mean 0 and standard deviation 1."""
    noise = _blur(rng.standard_normal(size), sigma)
    return (noise - noise.mean()) / noise.std()


def _blur(image: Float[np.ndarray, "H W"], sigma: float) -> Float[np.ndarray, "H W"]:
    """Returns a periodic Gaussian blur of `sigma` pixels, computed by FFT."""
    height, width = image.shape
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    transfer = np.exp(-2 * (np.pi * sigma) ** 2 * (rows**2 + columns**2))
    return np.fft.irfft2(np.fft.rfft2(image) * transfer, s=image.shape)


def _false_colors(image: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W 3"]:
    """Maps grey values in [0, 1] to colours from blue over green to red."""
    knots = (0.0, 0.25, 0.5, 0.75, 1.0)
    red, green, blue = (0, 0, 0, 1, 1), (0, 1, 1, 1, 0), (1, 1, 0, 0, 0)
    channels = [np.interp(image, knots, levels) for levels in (red, green, blue)]
    return np.stack(channels, axis=-1)
