"""Sizes of the workloads, and how long to measure them."""

import types
from collections.abc import Mapping
from typing import Literal, NamedTuple

from .measuring import Effort

Rule = Literal["sgd", "adam"]


class Plan(NamedTuple):
    """Sizes of all workloads, and how long to measure.

    Attributes:
      effort: How long each case is measured.
      features: Widths of the network at full resolution.
      depth: Its number of poolings.
      tile_size: Side of its tiles, in pixels.
      batch_sizes: Tiles of a step; 0 for as many as fit into memory.
      precisions: Dtypes in which the network computes.
      optimizers: Rules of the training step.
      compiled: Whether PyTorch is measured through `torch.compile` as well.
      watch_memory: Whether PyTorch's peak memory is measured, in fresh processes.
      matrix_size: Side of the matrices whose product gives the peak.
      images: Width of the network and side of the image, in pixels, of predictions.
      cells: Numbers of cells of a weight map.
      map_size: Side of the weight map, in pixels.
      most_naive_cells: Cells up to which one distance transform a cell is measured.
      data_precisions: Dtypes of the steps that draw their data.
      augmented: Images augmented at once.
      rewritten_size: Side of the maps of rewritten operations, in pixels.
      first_run: Options of the training whose first step is timed.
    """

    effort: Effort = Effort()
    features: tuple[int, ...] = (16, 64)
    depth: int = 4
    tile_size: int = 572
    batch_sizes: tuple[int, ...] = (1,)
    precisions: tuple[str, ...] = ("float32", "bfloat16")
    optimizers: tuple[Rule, ...] = ("sgd",)
    compiled: bool = True
    watch_memory: bool = True
    matrix_size: int = 2048
    images: tuple[tuple[int, int], ...] = ((16, 512), (16, 2048), (64, 512))
    cells: tuple[int, ...] = (10, 140, 500, 2000)
    map_size: int = 512
    most_naive_cells: int = 140
    data_precisions: tuple[str, ...] = ("float32",)
    augmented: int = 1
    rewritten_size: int = 280
    first_run: Mapping[str, int] = types.MappingProxyType(
        {"model.features": 16, "model.depth": 4, "tile_size": 572, "batch_size": 1}
    )


DEFAULT = Plan()
QUICK = Plan(
    effort=Effort(rounds=3, seconds=5.0),
    features=(16,),
    compiled=False,
    matrix_size=1024,
    images=((16, 512),),
    cells=(10, 140),
    first_run={"model.features": 4},
)
FULL = Plan(
    effort=Effort(rounds=9, seconds=60.0),
    optimizers=("sgd", "adam"),
    images=((16, 512), (16, 2048), (16, 10_000), (64, 512), (64, 2048)),
    most_naive_cells=2000,
)


def on_accelerator(plan: Plan) -> Plan:
    """Returns the plan with batches and products that suit an accelerator.

    Turns are short there, so there are at least 20 rounds to warm up and 200 that
    count.
    """
    return plan._replace(
        effort=plan.effort._replace(rounds=200, warm_up=20),
        batch_sizes=(1, 8, 0),
        matrix_size=8192,
        images=((64, 512), (64, 2048), (64, 10_000)),
        data_precisions=plan.precisions,
        augmented=16,
    )
