"""Settings of the post-processing that turns probabilities into instances."""

from dataclasses import dataclass

from unetjax.instances.components import Method
from unetjax.instances.watershed import Seeds


@dataclass(frozen=True)
class InstanceSettings:
    """From probabilities to cells, see `instances.components.instances_from_probs`."""

    threshold: float = 0.5
    method: Method = "components"
    seeds: Seeds = "probability"
    seed_threshold: float = 0.8
    min_size: int = 0
    fill_holes: bool = False
