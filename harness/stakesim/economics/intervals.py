"""95% confidence intervals of means and probabilities."""

from __future__ import annotations

from math import cos, nan, pi, sin, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Z95 = 1.959964
"""Standard normal quantile of a two-sided 95% interval."""


def t_quantile(probability: float, freedom: int) -> float:
    """Returns a quantile of Student's t distribution; exact for one and two degrees of freedom.

    For others it is the expansion of M. Abramowitz and I. Stegun (1964), 26.7.5, which is 0.1% off for three degrees of
    freedom at 97.5%, and less for more of them.
    """
    if freedom == 1:
        return -cos(pi * probability) / sin(pi * probability)
    if freedom == 2:
        return (2 * probability - 1) / sqrt(2 * probability * (1 - probability))
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1_482 * z**5 - 1_920 * z**3 - 945 * z) / 92_160,
    )
    return z + sum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))


def mean_half_width(sample: NDArray[np.float64]) -> float:
    """Returns the half-width of the 95% interval of the sample's mean, in its unit; nan for a single value."""
    count = len(sample)
    return t_quantile(0.975, count - 1) * float(sample.std(ddof=1)) / sqrt(count) if count > 1 else nan


def wilson_interval(successes: float, trials: float) -> tuple[float, float]:
    """Returns the 95% interval of a probability after `successes` in `trials` (E. B. Wilson 1927).

    The trials need not be a whole number: dependent ones count for fewer independent ones.
    """
    share, z2 = successes / trials, Z95 * Z95 / trials
    centre = (share + z2 / 2) / (1 + z2)
    half_width = Z95 / (1 + z2) * sqrt(share * (1 - share) / trials + z2 / trials / 4)
    return max(centre - half_width, 0.0), min(centre + half_width, 1.0)
