"""The value of information: what it would be worth to know a parameter, or what an experiment shows, before deciding.

All are per season, in INR. With scores s(a) of policies a, whose expectation decides now:

    value of perfect information:          E[max over a of s(a)] - max over a of E[s(a)]
    of knowing x, or of seeing data x:     E[max over a of E[s(a) | x]] - max over a of E[s(a)]

E[s(a) | x] is a regression on x (M. Strong, J. Oakley, A. Brennan 2014; M. Strong et al. 2015).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]


def perfect_information(scores: Floats) -> float:
    """Returns the value of knowing everything.

    Args:
        scores: Shape (draws, policies).
    """
    return float(scores.max(axis=1).mean() - scores.mean(axis=0).max())


def information(scores: Floats, seen: Floats) -> float:
    """Returns the value of seeing something before deciding.

    Args:
        scores: Shape (draws, policies).
        seen: What is seen under each draw, shape (draws, numbers).
    """
    return max(perfect_information(expected_scores(scores, seen)), 0.0)


def expected_scores(scores: Floats, seen: Floats) -> Floats:
    """Expected scores given what is seen: a cubic regression on each number, with products of each two.

    Args:
        scores: Shape (draws, policies).
        seen: Shape (draws, numbers).
    """
    import numpy as np

    spread = seen.std(axis=0)
    x = (seen - seen.mean(axis=0))[:, spread > 1e-12] / spread[spread > 1e-12]
    x = np.clip(x, -4, 4)
    columns = [np.ones((len(x), 1)), x, x**2, x**3]
    columns += [(x[:, i] * x[:, j])[:, None] for i in range(x.shape[1]) for j in range(i)]
    terms = np.hstack(columns)
    coefficients, *_ = np.linalg.lstsq(terms, scores, rcond=None)
    predicted: Floats = terms @ coefficients
    return predicted
