"""Tail risk of a sample of losses: value at risk (VaR) and expected shortfall (ES), with 95% confidence intervals.

For losses L (a gain is a negative loss) and a tail probability `tail`, that is a confidence level of 1 - tail:

    VaR = the smallest l with P(L > l) <= tail     (McNeil, Frey, Embrechts, Quantitative Risk Management, 2015, 2.3.2)
    ES  = the mean of VaR over all levels above 1 - tail      (the same, 2.3.3; C. Acerbi, D. Tasche 2002)

ES is a coherent measure of risk (P. Artzner, F. Delbaen, J.-M. Eber, D. Heath, Coherent Measures of Risk, 1999). VaR is
not: it ignores the size of the losses beyond it, and the VaR of two positions together may exceed the sum of both.
"""

from __future__ import annotations

from math import ceil, floor, sqrt
from typing import TYPE_CHECKING, NamedTuple

from stakesim.economics.intervals import Z95, t_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

TAIL = 0.05
MIN_TAIL_LOSSES = 20
"""Losses that a tail must have: the interval of ES then covers it in 91 to 94% of samples."""


class TailRisk(NamedTuple):
    """VaR and ES in the unit of the losses, each with the ends of its 95% interval."""

    var: float
    var_low: float
    var_high: float
    es: float
    es_low: float
    es_high: float


def tail_risk(losses: ArrayLike, *, tail: float = TAIL) -> TailRisk:
    """Estimates VaR and ES with their intervals.

    The interval of VaR is given by order statistics (H. David, H. Nagaraja, Order Statistics, 2003, 7.1). That of ES is
    given by its asymptotic variance, (variance of the tail + (1 - tail) (ES - VaR)^2) / (n tail) (B. Manistre,
    G. Hancock 2005), with a quantile of Student's t distribution for the losses in the tail.

    Args:
        losses: The sample, shape (losses,).
        tail: Probability of the tail, between 0 and 1.

    Raises:
        ValueError: The sample is too small for such a tail.
    """
    import numpy as np

    count = np.size(losses)
    if _losses_in_tail(count, tail) < MIN_TAIL_LOSSES:
        raise ValueError(
            f"the worst {tail:.0%} of {count} losses are too few to say how bad they are; take at least "
            f"{ceil(MIN_TAIL_LOSSES / tail - 1e-9)}"
        )
    worst_first = _worst_first(losses)
    var, es = value_at_risk(worst_first, tail=tail), expected_shortfall(worst_first, tail=tail)
    rank_half_width = Z95 * sqrt(count * tail * (1 - tail))
    high_rank = max(floor(count * tail - rank_half_width), 0)
    low_rank = min(ceil(count * tail + rank_half_width), count - 1)
    tail_losses = worst_first[: _losses_in_tail(count, tail)]
    variance = float(tail_losses.var(ddof=1)) + (1 - tail) * (es - var) ** 2
    es_half_width = t_quantile(0.975, len(tail_losses) - 1) * sqrt(variance / (count * tail))
    return TailRisk(
        var, float(worst_first[low_rank]), float(worst_first[high_rank]), es, es - es_half_width, es + es_half_width
    )


def value_at_risk(losses: ArrayLike, *, tail: float = TAIL) -> float:
    """Returns the loss that is exceeded with a probability of at most `tail`."""
    worst_first = _worst_first(losses)
    return float(worst_first[_losses_beyond_var(len(worst_first), tail)])


def expected_shortfall(losses: ArrayLike, *, tail: float = TAIL) -> float:
    """Returns the mean of the worst share `tail` of the losses; the loss at its edge has a fractional weight."""
    worst_first = _worst_first(losses)
    whole_losses = _losses_beyond_var(len(worst_first), tail)
    weight = len(worst_first) * tail
    return float((worst_first[:whole_losses].sum() + (weight - whole_losses) * worst_first[whole_losses]) / weight)


def _worst_first(losses: ArrayLike) -> Floats:
    import numpy as np

    return np.sort(np.asarray(losses, dtype=np.float64))[::-1]


def _losses_in_tail(count: int, tail: float) -> int:
    """Whole losses in the tail. 1e-9 undoes rounding: as floats, 100 x 0.29 is 28.999999999999996."""
    return floor(count * tail + 1e-9)


def _losses_beyond_var(count: int, tail: float) -> int:
    """The number of losses that may exceed VaR."""
    return min(_losses_in_tail(count, tail), count - 1)
