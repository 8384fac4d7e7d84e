"""What is measured at which size."""

from typing import NamedTuple

from experiments.benchmarks.measuring import Effort


class Plan(NamedTuple):
    """Sizes of all workloads, and how long to measure.

    Attributes:
      effort: How long each case is measured.
      features: Widths of the network at full resolution.
      depth: Its number of poolings.
      tile_size: Side of its tiles, in pixels.
      batch_sizes: Tiles of a step; 0 stands for as many as fit into the device.
      precisions: Numbers in which the network computes.
      optimizers: Rules of the training step.
      compiled: Whether PyTorch is measured through `torch.compile` as well.
      matrix_size: Side of the product whose rate is called the peak.
    """

    effort: Effort = Effort()
    features: tuple[int, ...] = (16, 64)
    depth: int = 4
    tile_size: int = 572
    batch_sizes: tuple[int, ...] = (1,)
    precisions: tuple[str, ...] = ("float32", "bfloat16")
    optimizers: tuple[str, ...] = ("sgd",)
    compiled: bool = True
    matrix_size: int = 2048


DEFAULT = Plan()
QUICK = Plan(
    effort=Effort(rounds=3, seconds=5.0),
    features=(16,),
    compiled=False,
    matrix_size=1024,
)
FULL = Plan(
    effort=Effort(rounds=9, seconds=60.0),
    optimizers=("sgd", "adam"),
)


def on_accelerator(plan: Plan) -> Plan:
    """Returns the plan for a device that fills larger batches and products.

    Steps are short there: 200 rounds at least.
    """
    return plan._replace(
        effort=plan.effort._replace(rounds=max(plan.effort.rounds, 200)),
        batch_sizes=(1, 8, 0),
        matrix_size=8192,
    )
