"""Scores of policies: certainty equivalents of a season's outcome, the sure amount that is as good to the owner.

Over all draws and seasons together it says which policy is best by what is known today: the risk then is that of the
seasons and of what is not known. Within a draw it says which one would be best if the parameters were those.
"""

from __future__ import annotations

from math import ceil
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


def overall_scores(values: Floats, risk: Risk) -> Floats:
    """The certainty equivalents over all draws and seasons, in INR, shape (policies,); see `certain`."""
    return certain(values.reshape(-1, values.shape[2]), risk)


def scores_by_draw(values: Floats, risk: Risk) -> Floats:
    """The certainty equivalents within each draw, in INR, shape (draws, policies); see `certain`."""
    import numpy as np

    return np.array([certain(of_draw, risk) for of_draw in values])


def certain(values: Floats, risk: Risk) -> Floats:
    """Returns the certainty equivalent of each policy.

    Args:
        values: INR of seasons, shape (seasons, policies).
        risk: The attitude to risk.

    Raises:
        InputError: Under CRRA a season costs more than the wealth.
    """
    import numpy as np

    if isinstance(risk, Cvar):
        worst = np.sort(values, axis=0)
        weight = risk.tail * len(worst)
        whole = min(ceil(weight - 1e-9), len(worst))
        weights = np.minimum(1, weight - np.arange(whole))[:, None]  # the season at the tail's edge counts in part
        mean: Floats = (worst[:whole] * weights).sum(axis=0) / weights.sum()
        return mean
    if isinstance(risk, Crra) and risk.aversion:
        wealth = risk.wealth_inr + values
        if wealth.min() <= 0:
            raise InputError(
                f"risk: a season costs up to {-values.min():,.0f} INR, and wealth_inr is {risk.wealth_inr:,.0f}; "
                "CRRA has no answer for somebody who is ruined, so give more wealth, or choose `kind: cvar`"
            )
        scale = wealth.mean(axis=0)  # powers of numbers near 1 lose no digits
        power = 1 - risk.aversion
        if abs(power) < 1e-9:
            equivalent: Floats = scale * np.exp(np.log(wealth / scale).mean(axis=0)) - risk.wealth_inr
        else:
            equivalent = scale * ((wealth / scale) ** power).mean(axis=0) ** (1 / power) - risk.wealth_inr
        return equivalent
    return np.asarray(values.mean(axis=0))
