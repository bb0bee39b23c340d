"""95% confidence intervals of means and probabilities."""

from __future__ import annotations

from math import nan, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Z95 = 1.959964
"""Standard normal quantile of a two-sided 95% interval."""


def mean_half_width(sample: NDArray[np.float64]) -> float:
    """Returns the half-width of the 95% interval of the sample's mean, in its unit; nan for a single value."""
    return Z95 * float(sample.std(ddof=1)) / sqrt(len(sample)) if len(sample) > 1 else nan


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Returns the 95% interval of a probability after `successes` in `trials` (E. B. Wilson 1927)."""
    share, z2 = successes / trials, Z95 * Z95 / trials
    centre = (share + z2 / 2) / (1 + z2)
    half_width = Z95 / (1 + z2) * sqrt(share * (1 - share) / trials + z2 / trials / 4)
    return max(centre - half_width, 0.0), min(centre + half_width, 1.0)
