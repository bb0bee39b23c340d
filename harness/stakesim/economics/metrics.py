"""Metrics of event runs, and their estimates over many runs with 95% confidence intervals.

Every metric is a ratio of two sums over runs, such as no-shows / bookings. A mean over runs is the ratio whose
denominator is the number of runs. Numerators and denominators are exact integers; floats are used for statistics only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import fsum, nan, sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

from stakesim.economics.intervals import Z95
from stakesim.model.state import RunStatus
from stakesim.population.exact_int import exact_sum, wei_to_paise

if TYPE_CHECKING:
    from stakesim.economics.settle import Settlement
    from stakesim.population.outcomes import Outcomes
    from stakesim.population.state import PopulationState, Wei

MetricValues: TypeAlias = Mapping[str, tuple["Wei", "Wei"]]
"""For each metric the numerators and the denominators of all runs, two integer arrays of shape (runs,)."""

METRICS = {
    "bookings": "a run: those that the contract took",
    "seats filled": "share of seats, when the run ended",
    "empty seats": "share of seats of runs that were not cancelled, in which nobody sat",
    "bookings lost": "share of those who would have come to a run, that did not get a seat",
    "cancelled bookings": "share of bookings",
    "no-show rate": "share of bookings of completed runs, of which the host says that nobody came",
    "cancelled runs": "share of runs",
    "expired runs": "share of runs",
    "host profit": "INR a run: what the host got less what the host paid in, at the rate when the run ended",
    "platform income": "INR a run: fees, forfeits and remainders, at the rate when the run ended",
    "attendees' cost": "INR a run: what attendees paid in less what they got back, at the rate when the run ended",
    "wei paid in": "wei a run: by host and attendees",
    "wei kept by the platform": "wei a run",
}
"""The unit of each metric by its name. Both are columns of `sweep.parquet`."""


def measure(state: PopulationState, outcomes: Outcomes, settlement: Settlement) -> MetricValues:
    """Computes every metric of every run.

    Args:
        state: The runs, with what everybody intends to do.
        outcomes: Which bookings were made, and how each run ended.
        settlement: Who paid and received how many wei.
    """
    import numpy as np

    intents, active = state.intents, outcomes.active
    one = np.ones(state.run_count, np.int64)
    not_cancelled = outcomes.final_status != RunStatus.CANCELLED
    occupied_seats = (intents.seats * (active & intents.intends_to_attend)).sum(axis=0)
    completed = active & (outcomes.final_status == RunStatus.COMPLETED)
    rate = state.rate_at(outcomes.closed_at)
    net_paid = settlement.paid - settlement.received
    host_profit = settlement.host - settlement.host_stake - (net_paid * intents.by_host).sum(axis=0)
    bookings = outcomes.accepted.sum(axis=0)
    return {
        "bookings": (bookings, one),
        "seats filled": ((intents.seats * active).sum(axis=0), state.seats),
        "empty seats": ((state.seats - occupied_seats) * not_cancelled, state.seats * not_cancelled),
        "bookings lost": ((intents.interested & ~outcomes.accepted).sum(axis=0), intents.interested.sum(axis=0)),
        "cancelled bookings": (outcomes.cancelled.sum(axis=0), bookings),
        "no-show rate": ((completed & ~intents.reported_attended).sum(axis=0), completed.sum(axis=0)),
        "cancelled runs": ((outcomes.final_status == RunStatus.CANCELLED).astype(np.int64), one),
        "expired runs": ((outcomes.final_status == RunStatus.EXPIRED).astype(np.int64), one),
        "host profit": (wei_to_paise(host_profit, rate), 100 * one),
        "platform income": (wei_to_paise(settlement.platform, rate), 100 * one),
        "attendees' cost": (wei_to_paise((net_paid * ~intents.by_host).sum(axis=0), rate), 100 * one),
        "wei paid in": (settlement.host_stake + settlement.paid.sum(axis=0), one),
        "wei kept by the platform": (settlement.platform, one),
    }


@dataclass(frozen=True)
class MetricSums:
    """Sums of one metric over some runs under one policy, and of its products with the first policy's values.

    Attributes:
        runs: Number of runs.
        numerator: Exact sum of the numerators.
        denominator: Exact sum of the denominators.
        moments: Sums of the products of each two of the four columns (numerator, denominator, the first policy's
            numerator, its denominator), in the order of `combinations_with_replacement`.
    """

    runs: int
    numerator: int
    denominator: int
    moments: tuple[float, ...]

    def to_json(self) -> list[Any]:
        """Returns the sums as a list that `json` can write."""
        return [self.runs, [self.numerator, self.denominator], list(self.moments)]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> MetricSums:
        """Reads what `to_json` returned."""
        runs, (numerator, denominator), moments = data
        return cls(runs, numerator, denominator, tuple(moments))


_COLUMN_PAIRS = tuple(combinations_with_replacement(range(4), 2))


def sum_runs(values: tuple[Wei, Wei], first_policy: tuple[Wei, Wei]) -> MetricSums:
    """Sums one metric over the runs of a chunk.

    Args:
        values: Numerators and denominators under one policy, each of shape (runs,).
        first_policy: The same of the same runs under the first policy.
    """
    import numpy as np

    columns = [np.asarray(column, dtype=np.float64) for column in (*values, *first_policy)]
    moments = tuple(float(np.einsum("i,i->", columns[i], columns[j])) for i, j in _COLUMN_PAIRS)
    numerators, denominators = values
    return MetricSums(len(numerators), exact_sum(numerators), exact_sum(denominators), moments)


def combine(parts: Sequence[MetricSums]) -> MetricSums:
    """Adds the sums of several chunks."""
    return MetricSums(
        sum(part.runs for part in parts),
        sum(part.numerator for part in parts),
        sum(part.denominator for part in parts),
        tuple(fsum(moments) for moments in zip(*(part.moments for part in parts), strict=True)),
    )


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95% interval, and its difference from the first policy's with the 95% interval of that."""

    value: float
    low: float
    high: float
    change: float
    change_low: float
    change_high: float


def estimate(policy: MetricSums, first_policy: MetricSums) -> Estimate:
    """Estimates a metric and its change by the delta method for ratios (W. G. Cochran, Sampling Techniques, 1977, 6.3).

    To first order, the error of a ratio R is the mean over runs of (numerator - R x denominator) / mean denominator.
    The change is paired: both policies met the same runs, so its error is the mean of the difference of both residuals.

    Returns:
        The estimate; all its values are nan where a denominator is 0.
    """
    if not policy.denominator or not first_policy.denominator:
        return Estimate(nan, nan, nan, nan, nan, nan)
    runs = policy.runs
    value = policy.numerator / policy.denominator
    first_value = first_policy.numerator / first_policy.denominator
    weight, first_weight = runs / policy.denominator, runs / first_policy.denominator
    half_width = _half_width(policy, (weight, -value * weight, 0.0, 0.0))
    change_half_width = _half_width(policy, (weight, -value * weight, -first_weight, first_value * first_weight))
    change = value - first_value
    return Estimate(
        value, value - half_width, value + half_width, change, change - change_half_width, change + change_half_width
    )


def _half_width(sums: MetricSums, weights: Sequence[float]) -> float:
    """The half-width of the 95% interval of the mean of the four columns' weighted sum, which has mean 0."""
    products = (
        moment * weights[i] * weights[j] * (1 if i == j else 2)
        for moment, (i, j) in zip(sums.moments, _COLUMN_PAIRS, strict=True)
    )
    return Z95 * sqrt(max(fsum(products), 0.0) / max(sums.runs - 1, 1) / sums.runs)
