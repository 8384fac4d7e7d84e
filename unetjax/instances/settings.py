"""Settings of the post-processing that turns probabilities into instances."""

from dataclasses import dataclass
from typing import Literal

from unetjax.settings import check_fields, check_range

Method = Literal["components", "watershed"]
Seeds = Literal["probability", "distance"]


@dataclass(frozen=True)
class InstanceSettings:
    """Post-processing of probabilities, see `components.instances_from_probs`.

    Attributes:
      threshold: Foreground probability, in [0, 1), above which a pixel is a cell.
      method: Whether connected components are cells, or are cut by a watershed.
      seeds: Seeds of the watershed, see `watershed.watershed_cells`.
      seed_threshold: Foreground probability, in [0, 1), of `probability` seeds.
      min_size: Cells of fewer pixels become background.
      fill_holes: Whether background enclosed by cells becomes foreground.
    """

    threshold: float = 0.5
    method: Method = "components"
    seeds: Seeds = "probability"
    seed_threshold: float = 0.8
    min_size: int = 0
    fill_holes: bool = False

    def __post_init__(self) -> None:
        """Validates all fields."""
        check_fields(self)
        for name in ("threshold", "seed_threshold"):
            hint = "it is a probability, not a grey value"
            check_range(name, getattr(self, name), at_least=0, below=1, hint=hint)
        check_range("min_size", self.min_size, at_least=0)
