"""The separation weight map of Eq. (2), and one distance transform a cell."""

import functools
from collections.abc import Iterator
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32
from scipy import ndimage

from unetjax.weight_maps import device, reference
from unetjax.weight_maps.settings import PAPER

from . import contenders, measuring
from .measuring import OURS, Case, Contender, Row
from .plan import Plan

# Public snippets have no separation border, so nobody computes it.
SETTINGS = replace(PAPER, separation_border="none")
_CLASS_WEIGHTS = (1.0, 1.0)


def weight_maps(plan: Plan, _: dict[str, float]) -> Iterator[list[Row]]:
    """Measures one weight map, for few and for many cells."""
    on_device = functools.partial(device.separation_weight_map, settings=SETTINGS)
    for number in plan.cells:
        size = plan.map_size
        instances = cells(number, size)
        case = Case("weight_map", f"{number} cells, {size} x {size} pixels")
        on_host = functools.partial(
            reference.label_and_weight,
            np.sign(instances),
            instances,
            _CLASS_WEIGHTS,
            settings=SETTINGS,
        )
        found = [
            contenders.of_function(OURS, on_device, jnp.asarray(instances)),
            Contender(
                "unetjax, on the host",
                contenders.repeat(on_host),
                precision="",
                note="SciPy, one transform a cell in its own neighbourhood",
            ),
            public(instances, measured=number <= plan.most_naive_cells),
        ]
        yield measuring.measure(case, found, plan.effort)


def cells(number: int, size: int) -> Int32[np.ndarray, "S S"]:
    """Returns numbered discs on a jittered grid, some of them close to each other.

    Args:
      number: How many; each has at least a few pixels if there is room.
      size: Side of the image, in pixels.
    """
    rng = np.random.default_rng(0)
    side = int(np.ceil(np.sqrt(number)))
    pitch = size / side
    spots = np.sort(rng.permutation(side**2)[:number])
    numbers = np.zeros(side**2, np.int32)
    numbers[spots] = np.arange(1, number + 1)
    shift = rng.uniform(-0.06, 0.06, (side**2, 2)) * pitch
    rows, columns = np.indices((size, size)) + 0.5
    spot = (rows // pitch).astype(int) * side + (columns // pitch).astype(int)
    middle = np.stack([spot // side, spot % side]) + 0.5
    away = np.hypot(
        rows - middle[0] * pitch - shift[spot, 0],
        columns - middle[1] * pitch - shift[spot, 1],
    )
    return np.where(away < 0.42 * pitch, numbers[spot], 0).astype(np.int32)


def one_transform_a_cell(
    instances: Int32[np.ndarray, "H W"],
) -> Float[np.ndarray, "H W"]:
    """Returns the weight map as public snippets compute it: K maps, then sorted."""
    distances = np.stack(
        [
            np.asarray(ndimage.distance_transform_edt(instances != cell))
            for cell in range(1, instances.max() + 1)
        ]
    )
    distances.sort(axis=0)
    d1, d2 = distances[:2]
    border = SETTINGS.w0 * np.exp(-((d1 + d2) ** 2) / (2 * SETTINGS.sigma**2))
    return 1.0 + np.where(instances == 0, border, 0)


def public(instances: Int32[np.ndarray, "H W"], *, measured: bool) -> Contender:
    """Returns the public snippet, or a contender that says how much memory it takes."""
    name = "one transform a cell, sorted"
    if not measured:
        gigabytes = int(instances.max()) * instances.size * 8 / 1e9
        note = f"left out: {gigabytes:.1f} GB of distances; --full measures it"
        return Contender(name, None, precision="", note=note)
    run = contenders.repeat(lambda: one_transform_a_cell(instances))
    return Contender(name, run, precision="", note="as in public snippets, SciPy")
