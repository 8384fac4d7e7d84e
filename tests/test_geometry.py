"""Facts P1 to P4 of the size arithmetic, each against a walk through the network."""

import pytest

from unetjax.geometry import Geometry, output_size

DEPTHS = range(6)
LEGAL_SIDES = [(572, 388), (188, 4), (700, 516), (444, 260), (892, 708)]
ODD_KERNELS = {  # kernel size: offsets of jakeret/tf_unet at depths 0 to 5
    5: [8, 32, 80, 176, 368, 752],
    7: [12, 48, 120, 264, 552, 1128],
    9: [16, 64, 160, 352, 736, 1504],
}


def walk(side, *, depth, kernel_size, padding="VALID"):
    """The output side, step by step; None where a pooling meets an odd side."""
    lost = 2 * (kernel_size - 1) if padding == "VALID" else 0
    for _ in range(depth):
        side -= lost
        if side <= 0 or side % 2:
            return None
        side //= 2
    side -= lost
    for _ in range(depth):
        side = 2 * side - lost
    return side if side > 0 else None


def seen(position, *, depth, kernel_size):
    """The first and last input pixel seen by an output pixel of a `SAME` network."""
    low = high = position
    for _ in range(depth):  # expanding path: a block, then half the resolution
        low, high = (low - kernel_size + 1) // 2, (high + kernel_size - 1) // 2
    low, high = low - kernel_size + 1, high + kernel_size - 1
    for _ in range(depth):  # contracting path: each pixel pools two, then a block
        low, high = 2 * low - kernel_size + 1, 2 * high + 1 + kernel_size - 1
    return low, high


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 9])
@pytest.mark.parametrize("depth", DEPTHS)
def test_legal_sides_are_those_that_walk_through(depth, kernel_size, padding):
    """P4: the closed form must agree with the operations for every side."""
    geometry = Geometry(depth, kernel_size, padding)
    sides = {n: walk(n, **vars(geometry)) for n in range(1400)}
    legal = {n: geometry.is_legal(n) for n in sides}
    assert legal == {n: m is not None for n, m in sides.items()}
    for n, m in sides.items():
        if m is not None:
            assert geometry.output_size(n) == m


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_input_size_is_the_least_that_suffices(depth, padding):
    geometry = Geometry(depth, padding=padding)
    legal = [n for n in range(600) if geometry.is_legal(n)]
    outputs = [geometry.output_size(n) for n in legal]
    for size in range(1, 100):
        enough = (n for n, m in zip(legal, outputs, strict=True) if m >= size)
        assert geometry.input_size(size) == next(enough)


@pytest.mark.parametrize(("tile", "output"), LEGAL_SIDES)
def test_sides_of_the_paper(tile, output):
    """P1."""
    assert Geometry().output_size(tile) == output_size(tile) == output
    assert Geometry().input_size(output) == tile


@pytest.mark.parametrize(
    ("wanted", "tile"), [(1, 188), (5, 204), (388, 572), (512, 700), (520, 716)]
)
def test_smallest_tiles(wanted, tile):
    assert Geometry().input_size(wanted) == tile


@pytest.mark.parametrize(
    ("side", "below", "above"),
    [
        *((0, 188, 204), (186, 188, 204), (190, 188, 204)),
        *((512, 508, 524), (570, 556, 572), (600, 588, 604)),
    ],
)
def test_refusal_names_the_nearest_legal_sides(side, below, above):
    """P2: the way out must be in the message, and must be one."""
    with pytest.raises(ValueError, match=rf"got {side}; try {below} or {above}\.$"):
        Geometry().output_size(side)
    assert Geometry().is_legal(below)
    assert Geometry().is_legal(above)


def test_refusal_names_the_rule():
    with pytest.raises(ValueError, match="at least 188 and 12 modulo 16 at depth 4"):
        output_size(570)
    with pytest.raises(ValueError, match="0 modulo 16 at depth 4 with SAME padding"):
        output_size(570, padding="SAME")


def test_offsets():
    """P3."""
    assert [Geometry(d).offset for d in DEPTHS] == [4, 16, 40, 88, 184, 376]
    for kernel_size, offsets in ODD_KERNELS.items():
        assert offsets == [Geometry(d, kernel_size).offset for d in DEPTHS]
    assert [Geometry(d).margin for d in DEPTHS] == [2, 8, 20, 44, 92, 188]


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
@pytest.mark.parametrize("depth", DEPTHS)
def test_reaches_are_those_of_all_phases(depth, kernel_size):
    geometry = Geometry(depth, kernel_size)
    regions = [
        (x, *seen(x, depth=depth, kernel_size=kernel_size))
        for x in range(geometry.period)
    ]
    sides = [x - low for x, low, _ in regions] + [high - x for x, _, high in regions]
    assert geometry.reaches == (min(sides), max(sides))


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_margin_of_same_networks_covers_the_reach(depth):
    """Depth D needs 7 * 2^D: a multiple of the period beyond 7 * 2^D - 5 pixels."""
    geometry = Geometry(depth, padding="SAME")
    assert geometry.margin == 7 * 2**depth
    assert geometry.offset == 0
    assert geometry.reaches[1] == 7 * 2**depth - 5


@pytest.mark.parametrize(
    ("depth", "legal", "floored"),
    [
        (4, {572: 388}, (600, 512, 500, 376, 256)),
        (3, {572: 484, 500: 412}, (600, 512, 128)),
        (2, {572: 532, 512: 472, 256: 216, 200: 160, 128: 88}, (290, 210)),
    ],
)
def test_sides_that_jakeret_tf_unet_floors_are_refused(depth, legal, floored):
    """There the skips are shifted by half a pixel, without a word."""
    for side, output in legal.items():
        assert Geometry(depth).output_size(side) == output
    for side in floored:
        with pytest.raises(ValueError, match=f"got {side}; try "):
            Geometry(depth).output_size(side)
