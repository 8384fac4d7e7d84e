"""Sizes of a benchmark that takes seconds."""

from experiments.benchmarks import plan
from experiments.benchmarks.measuring import Effort

TINY = plan.QUICK._replace(
    effort=Effort(rounds=2, most=2, seconds=0.0, turn=0.0),
    features=(2,),
    depth=1,
    tile_size=20,
    precisions=("float32",),
    watch_memory=False,
    matrix_size=16,
    images=((2, 30),),
    cells=(3, 9),
    map_size=40,
    most_naive_cells=5,
    rewritten_size=16,
)
