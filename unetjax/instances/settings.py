"""Settings of the post-processing that turns probabilities into instances."""

from dataclasses import dataclass
from typing import Literal

from unetjax.settings import check_fields, check_range

Method = Literal["components", "watershed"]
Seeds = Literal["probability", "distance", "maps"]


@dataclass(frozen=True)
class InstanceSettings:
    """Post-processing of probabilities, see `components.instances_from_probs`.

    Attributes:
      threshold: Foreground probability, in [0, 1), above which a pixel is a cell.
      method: Whether connected components are cells, or are cut by a watershed.
      seeds: Seeds of the watershed, see `watershed.watershed_cells`. `maps` are those
        of the target that the network learned, and need one other than `classes`.
      seed_threshold: Foreground probability, in [0, 1), of `probability` seeds; of
        `maps` the score of `watershed.seed_score` above which a pixel is a seed.
      smoothing: Standard deviation of a Gaussian filter of the maps, in pixels.
      relative_smoothing: The same relative to the radius of the cells, where that is
        larger, so that large cells do not fall into pieces; see `smoothing.smooth`.
      merge_solidity: Cells of a watershed are merged where they are pieces of a cell
        that covers at least this fraction of its convex hull, see `fragments.merge`; 0
        merges none.
      min_size: Cells of fewer pixels become background.
      fill_holes: Whether background enclosed by cells becomes foreground.
    """

    threshold: float = 0.5
    method: Method = "components"
    seeds: Seeds = "probability"
    seed_threshold: float = 0.8
    smoothing: float = 1.0
    relative_smoothing: float = 0.0
    merge_solidity: float = 0.0
    min_size: int = 0
    fill_holes: bool = False

    def __post_init__(self) -> None:
        """Validates all fields."""
        check_fields(self)
        for name in ("threshold", "seed_threshold"):
            hint = "it is a probability, not a grey value"
            check_range(name, getattr(self, name), at_least=0, below=1, hint=hint)
        for name in ("min_size", "smoothing"):
            check_range(name, getattr(self, name), at_least=0)
        for name in ("relative_smoothing", "merge_solidity"):
            check_range(name, getattr(self, name), at_least=0, at_most=1)
