"""`WeightMapSettings`: heights, widths and class balance of the weight map, Eq. (2)."""

import math
from dataclasses import dataclass

from unetjax.settings import check_fields, check_range
from unetjax.weight_maps.class_weights import Balance
from unetjax.weight_maps.separation import SeparationBorder


@dataclass(frozen=True)
class WeightMapSettings:
    r"""Options of the weight map, Eq. (2); defaults are the paper's where it has any.

    .. math:: w = w_c + w_0 e^{-(d_1 + d_2)^2 / 2 \sigma^2}
                      + w_n e^{-d_1^2 / 2 \sigma_n^2}

    Both exponentials apply to background only. The second is not part of the paper.

    Attributes:
      w0: Height of the border term, dimensionless; 0 leaves only the class term.
      sigma: Width of the border term, in pixels.
      near: Height w_n of a term around every cell, dimensionless (Falk et al. 2019).
      near_sigma: Its width, in pixels.
      separation_border: Rule that separates touching cells, see
        `separation.separation_border`.
      class_balance: Rule for w_c or its values, see `class_weights.class_weights`.
    """

    w0: float = 10.0  # section 3
    sigma: float = 5.0  # section 3: about 5 pixels
    near: float = 0.0  # ours: not in the paper
    near_sigma: float = 10.0
    separation_border: SeparationBorder = "one_sided"  # ours: the paper names no rule
    class_balance: Balance | tuple[float, ...] = "inverse"  # ours

    def __post_init__(self) -> None:
        """Validates all fields."""
        check_fields(self)
        for name in ("w0", "near"):
            check_range(name, getattr(self, name), at_least=0)
        for name in ("sigma", "near_sigma"):
            check_range(name, getattr(self, name), above=0)
        if not isinstance(self.class_balance, str):
            for weight in self.class_balance:
                check_range("class_balance", weight, at_least=0)


PAPER = WeightMapSettings()


def reach(settings: WeightMapSettings, *, tolerance: float = 1e-7) -> int:
    """Returns the distance in pixels beyond which a cell changes no weight.

    Ignoring all cells farther away than this changes each exponential by at most
    `tolerance`.

    Args:
      settings: Heights and widths of the exponentials.
      tolerance: Largest change of the weight, dimensionless and positive.

    Example:
      >>> reach(PAPER), reach(WeightMapSettings(w0=50.0, sigma=6.0))
      (31, 38)
    """
    heights = (settings.w0, settings.near)
    widths = (settings.sigma, settings.near_sigma)
    return max(
        math.ceil(width * math.sqrt(2 * math.log(max(height / tolerance, 1.0))))
        for height, width in zip(heights, widths, strict=True)
    )
