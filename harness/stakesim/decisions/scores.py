"""Scores of policies: the certainty equivalent of a season, and what each draw of the posterior contributes to it.

A risk measure here is the mean over draws of a score, so that two policies are compared draw by draw, on the same
people: with CRRA by expected utility, with CVaR by R. T. Rockafellar's and S. Uryasev's formula (2000),
max over t of t - mean(max(t - x, 0)) / tail, which t = the tail's quantile attains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from stakesim.decisions.question import Crra, Cvar, Question, Risk
from stakesim.schema.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stakesim.decisions.seasons import Outcomes

    Floats: TypeAlias = NDArray[np.float64]


def season_values(question: Question, outcomes: Outcomes) -> Floats:
    """The weighted INR of each season, shape (draws, seasons, policies)."""
    weights = question.weights
    return (
        weights.host * outcomes.host
        + weights.platform * outcomes.platform
        + weights.attendees * outcomes.attendees
        - weights.empty_seat_inr * outcomes.empty
    )


def scores(values: Floats, risk: Risk) -> Floats:
    """What each draw contributes to the certainty equivalent of each policy, in INR, shape (draws, policies).

    The mean over draws is the certainty equivalent; with CRRA that holds for the best policy, and for the others to
    first order of their distance from it.

    Args:
        values: INR of each season, shape (draws, seasons, policies).
        risk: The attitude to risk.

    Raises:
        InputError: Under CRRA a season costs more than the wealth.
    """
    import numpy as np

    if isinstance(risk, Cvar):
        pooled = values.reshape(-1, values.shape[2])
        worst = np.sort(pooled, axis=0)
        threshold = worst[min(int(np.ceil(risk.tail * len(worst) - 1e-9)), len(worst)) - 1]
        return threshold - np.maximum(threshold - values, 0).mean(axis=1) / risk.tail
    if isinstance(risk, Crra) and risk.aversion:
        wealth = risk.wealth_inr + values
        if wealth.min() <= 0:
            raise InputError(
                f"risk: a season costs up to {-values.min():,.0f} INR, and wealth_inr is {risk.wealth_inr:,.0f}; "
                "CRRA has no answer for somebody who is ruined, so give more wealth, or choose `kind: cvar`"
            )
        scale = float(wealth.mean())  # utilities of numbers near 1 lose no digits
        expected = _utility(wealth / scale, risk.aversion).mean(axis=1)
        best = float(_certain(expected.mean(axis=0), risk.aversion).max())
        slope = best**-risk.aversion
        return (best + (expected - _utility(np.asarray(best), risk.aversion)) / slope) * scale - risk.wealth_inr
    mean: Floats = values.mean(axis=1)
    return mean


def _utility(wealth: Floats, aversion: float) -> Floats:
    import numpy as np

    if abs(aversion - 1) < 1e-9:
        return np.log(wealth)
    utility: Floats = wealth ** (1 - aversion) / (1 - aversion)
    return utility


def _certain(utility: Floats, aversion: float) -> Floats:
    """The sure wealth that has a utility."""
    import numpy as np

    if abs(aversion - 1) < 1e-9:
        return np.exp(utility)
    wealth: Floats = (utility * (1 - aversion)) ** (1 / (1 - aversion))
    return wealth
