"""What can be lost: quantiles, value at risk and expected shortfall of a sample, with 95% intervals.

For losses L (gains are negative) and the worst share `tail` of them, so a confidence level of 1 - tail:

VaR = the smallest l with P(L > l) <= tail (McNeil, Frey, Embrechts, Quantitative Risk Management, 2015, 2.3.2)
ES = the mean of VaR over all levels beyond 1 - tail (the same, 2.3.3; C. Acerbi, D. Tasche 2002)

ES is a coherent measure of risk (P. Artzner, F. Delbaen, J.-M. Eber, D. Heath, Coherent Measures of Risk, 1999); VaR is
not: it says nothing of how bad the worst share is, and two positions together may have more of it than each alone.
"""

from __future__ import annotations

from math import ceil, floor, sqrt
from typing import TYPE_CHECKING, NamedTuple

from stakesim.economics.metrics import Z95

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

TAIL = 0.05


class Risk(NamedTuple):
    """In the unit of the losses; low and high are the ends of a 95% interval."""

    var: float
    var_low: float
    var_high: float
    es: float
    es_low: float
    es_high: float


def risk(losses: ArrayLike, tail: float = TAIL) -> Risk:
    """Raises `ValueError` where the sample is too small to have such a tail.

    Interval of VaR: order statistics (H. David, H. Nagaraja, Order Statistics, 2003, 7.1). Of ES: its asymptotic
    variance, (variance of the tail + (1 - tail) (ES - VaR)^2) / (n tail) (B. Manistre, G. Hancock 2005).
    """
    import numpy as np

    worst = np.sort(np.asarray(losses, dtype=np.float64))[::-1]
    count = len(worst)
    if count * tail < 1:
        raise ValueError(f"{count} losses have no worst {tail:.0%}; take at least {ceil(1 / tail)}")
    var, es = value_at_risk(worst, tail), expected_shortfall(worst, tail)
    spread = Z95 * sqrt(count * tail * (1 - tail))
    high, low = max(floor(count * tail - spread), 0), min(ceil(count * tail + spread), count - 1)
    beyond = worst[: max(floor(count * tail), 1)]
    deviation = Z95 * sqrt((float(beyond.var()) + (1 - tail) * (es - var) ** 2) / (count * tail))
    return Risk(var, float(worst[low]), float(worst[high]), es, es - deviation, es + deviation)


def value_at_risk(losses: ArrayLike, tail: float = TAIL) -> float:
    import numpy as np

    worst = np.sort(np.asarray(losses, dtype=np.float64))[::-1]
    return float(worst[_beyond(len(worst), tail)])


def expected_shortfall(losses: ArrayLike, tail: float = TAIL) -> float:
    """The worst share of losses on the average; the one at its edge counts for as much of it as belongs there."""
    import numpy as np

    worst = np.sort(np.asarray(losses, dtype=np.float64))[::-1]
    whole = _beyond(len(worst), tail)
    share = len(worst) * tail
    return float((worst[:whole].sum() + (share - whole) * worst[whole]) / share)


def _beyond(count: int, tail: float) -> int:
    """How many losses may be larger than VaR; 1e-9: 100 x 0.07 is 7, not the float beside it."""
    return min(floor(count * tail + 1e-9), count - 1)


def interval(hits: int, of: int) -> tuple[float, float]:
    """95% interval of a chance that was seen `hits` times (E. B. Wilson 1927)."""
    share, z = hits / of, Z95 * Z95 / of
    middle = (share + z / 2) / (1 + z)
    spread = Z95 / (1 + z) * sqrt(share * (1 - share) / of + z / of / 4)
    return max(middle - spread, 0.0), min(middle + spread, 1.0)
