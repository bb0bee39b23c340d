"""Metrics of event runs, and their estimates over many runs with 95% confidence intervals.

Every metric is a ratio of two sums over runs, such as no-shows / bookings. A mean over runs is the ratio whose
denominator is the number of runs. Numerators and denominators are exact integers; floats are used for statistics only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import fsum, nan, sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

from stakesim.economics.intervals import Z95, t_quantile, wilson_interval
from stakesim.economics.quantiles import Buckets, add_buckets, count_buckets
from stakesim.model.state import RunStatus
from stakesim.population.exact_int import exact_sums, wei_to_paise
from stakesim.units import BPS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stakesim.economics.settle import Settlement
    from stakesim.population.outcomes import Outcomes
    from stakesim.population.state import Ints, PopulationState, Wei

MetricValues: TypeAlias = Mapping[str, tuple["Wei", "Wei"]]
"""For each metric the numerators and the denominators of all runs, two integer arrays of shape (runs,)."""

METRICS = {
    "bookings": "a run: those that the contract took",
    "seats filled": "share of seats, when the run ended",
    "empty seats": "share of seats of runs that were not cancelled, in which nobody sat",
    "turned away": "share of seats of those who came to a run, of which there were not enough",
    "bookings lost": "share of those who would have come to a run, that did not get a seat",
    "cancelled bookings": "share of bookings",
    "no-show rate": "share of bookings of completed runs, of which the host says that nobody came",
    "cancelled runs": "share of runs",
    "expired runs": "share of runs",
    "host profit": "INR a run: what the host got less what the host paid in, at the rate when the run ended, and less \
what the host pays to those who are turned away",
    "platform income": "INR a run: fees, forfeits and remainders, at the rate when the run ended",
    "transaction costs": "INR a run: gas and data of the platform's transactions, each at the rate of its day",
    "platform profit": "INR a run: platform income less transaction costs",
    "attendees' cost": "INR a run: what attendees paid in less what they got back, at the rate when the run ended",
    "wei paid in": "wei a run: by host and attendees",
    "wei kept by the platform": "wei a run",
}
"""The unit of each metric by its name. Both are columns of `sweep.parquet`."""
OF_GAS = ("transaction costs", "platform profit")
"""The metrics that are there only if a sweep has gas prices."""

BEST_IS_LARGEST = {
    "bookings": True,
    "seats filled": True,
    "empty seats": False,
    "turned away": False,
    "bookings lost": False,
    "cancelled bookings": False,
    "no-show rate": False,
    "cancelled runs": False,
    "expired runs": False,
    "host profit": True,
    "platform income": True,
    "transaction costs": False,
    "platform profit": True,
    "attendees' cost": False,
}
"""Whether a larger value is better; wei are neither."""


def is_share(metric: str) -> bool:
    """Whether the values of a metric are between 0 and 1."""
    return METRICS[metric].startswith("share")


def metrics_of(*, has_gas: bool) -> list[str]:
    """The names of the metrics of a sweep with or without gas prices."""
    return [name for name in METRICS if has_gas or name not in OF_GAS]


def measure(
    state: PopulationState, outcomes: Outcomes, settlement: Settlement, costs: Ints | None = None
) -> MetricValues:
    """Computes every metric of every run.

    Args:
        state: The runs, with what everybody intends to do.
        outcomes: Which bookings were made, and how each run ended.
        settlement: Who paid and received how many wei.
        costs: Paise that the platform's transactions cost in each run; None: not known.
    """
    import numpy as np

    intents, active = state.intents, outcomes.active
    one = np.ones(state.run_count, np.int64)
    not_cancelled = outcomes.final_status != RunStatus.CANCELLED
    wanted_seats = (intents.seats * (active & intents.intends_to_attend)).sum(axis=0)
    occupied_seats = np.minimum(wanted_seats, state.room)
    turned_away = (wanted_seats - occupied_seats) * not_cancelled
    compensation = turned_away * state.price_paise * state.terms.compensation_bps // BPS
    completed = active & (outcomes.final_status == RunStatus.COMPLETED)
    rate = state.rate_at(outcomes.closed_at)
    net_paid = settlement.paid - settlement.received
    net_of_all = net_paid.sum(axis=0)
    net_of_host = (net_paid * intents.by_host).sum(axis=0)
    host_profit = settlement.host - settlement.host_stake - net_of_host
    bookings = outcomes.accepted.sum(axis=0)
    income = wei_to_paise(settlement.platform, rate)
    of_gas = (
        {}
        if costs is None
        else {"transaction costs": (costs, 100 * one), "platform profit": (income - costs, 100 * one)}
    )
    return of_gas | {
        "bookings": (bookings, one),
        "seats filled": ((intents.seats * active).sum(axis=0), state.seats),
        "empty seats": ((state.room - occupied_seats) * not_cancelled, state.room * not_cancelled),
        "turned away": (turned_away, wanted_seats * not_cancelled),
        "bookings lost": ((intents.interested & ~outcomes.accepted).sum(axis=0), intents.interested.sum(axis=0)),
        "cancelled bookings": (outcomes.cancelled.sum(axis=0), bookings),
        "no-show rate": ((completed & ~intents.reported_attended).sum(axis=0), completed.sum(axis=0)),
        "cancelled runs": ((outcomes.final_status == RunStatus.CANCELLED).astype(np.int64), one),
        "expired runs": ((outcomes.final_status == RunStatus.EXPIRED).astype(np.int64), one),
        "host profit": (wei_to_paise(host_profit, rate) - compensation, 100 * one),
        "platform income": (income, 100 * one),
        "attendees' cost": (wei_to_paise(net_of_all - net_of_host, rate), 100 * one),
        "wei paid in": (np.asarray(settlement.host_stake + settlement.paid.sum(axis=0)), one),
        "wei kept by the platform": (np.asarray(settlement.platform), one),
    }


@dataclass(frozen=True)
class MetricSums:
    """Sums of one metric over some runs, under every policy.

    Attributes:
        runs: Number of runs, or of platforms if runs share a market.
        numerators: Exact sums of the numerators, one for each policy.
        denominators: Exact sums of the denominators, one for each policy.
        moments: Sums of the products of each two columns, which are all numerators and then all denominators: the upper
            triangle of their matrix, row by row.
        buckets: The values of runs, or the means over platforms, counted for quantiles, for each policy; or nothing.
    """

    runs: int
    numerators: tuple[int, ...]
    denominators: tuple[int, ...]
    moments: tuple[float, ...]
    buckets: tuple[Buckets, ...] = ()

    def to_json(self) -> list[Any]:
        """Returns the sums as a list that `json` can write."""
        buckets = [sorted(each.items()) for each in self.buckets]
        return [self.runs, list(self.numerators), list(self.denominators), list(self.moments), buckets]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> MetricSums:
        """Reads what `to_json` returned."""
        runs, numerators, denominators, moments, buckets = data
        counted = tuple(dict(each) for each in buckets)
        return cls(runs, tuple(numerators), tuple(denominators), tuple(moments), counted)


def sum_runs(values: Sequence[tuple[Wei, Wei]], *, together: int = 1, with_buckets: bool = False) -> MetricSums:
    """Sums one metric over the runs of a chunk.

    Args:
        values: Numerators and denominators of the same runs under each policy, all of shape (runs,).
        together: How many runs, one after another, share a market: they are not independent of each other, and count
            as one.
        with_buckets: Whether values are counted for quantiles.
    """
    import numpy as np

    count = len(values)
    rows = np.array([column for columns in zip(*values, strict=True) for column in columns])
    if together > 1:
        rows = rows.reshape(2 * count, -1, together).sum(axis=2)
    columns = rows.astype(np.float64)
    products = np.einsum("ir,jr->ij", columns, columns)  # unlike BLAS, to the same bits with any number of threads
    sums = exact_sums(rows)
    return MetricSums(
        rows.shape[1],
        tuple(sums[:count]),
        tuple(sums[count:]),
        tuple(products[_upper_triangle(2 * count)].tolist()),
        tuple(count_buckets(ratios(*pair)) for pair in zip(rows[:count], rows[count:], strict=True))
        if with_buckets
        else (),
    )


@cache
def _upper_triangle(size: int) -> tuple[Ints, ...]:
    import numpy as np

    return np.triu_indices(size)


def ratios(numerators: Wei, denominators: Wei) -> NDArray[np.float64]:
    """The metric of each run as a float; nan for a share of nothing."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        values: NDArray[np.float64] = numerators.astype(np.float64) / denominators.astype(np.float64)
    return values


def combine(parts: Sequence[MetricSums]) -> MetricSums:
    """Adds the sums of several chunks."""
    return MetricSums(
        sum(part.runs for part in parts),
        tuple(map(sum, zip(*(part.numerators for part in parts), strict=True))),
        tuple(map(sum, zip(*(part.denominators for part in parts), strict=True))),
        tuple(map(fsum, zip(*(part.moments for part in parts), strict=True))),
        tuple(map(add_buckets, zip(*(part.buckets for part in parts), strict=True))),
    )


@dataclass(frozen=True)
class Estimate:
    """A metric under one policy.

    Attributes:
        value: The estimate.
        low: Lower end of its 95% interval.
        high: Upper end.
        change: Difference from the first policy's value.
        change_low: Lower end of the 95% interval of that; it is paired, as both policies met the same runs.
        change_high: Upper end.
        may_be_largest: Whether no other policy's value is shown to be larger. The policy whose value is the largest in
            truth is among those that may be with a probability of at least 95%.
        may_be_smallest: The same of smaller ones.
    """

    value: float
    low: float
    high: float
    change: float
    change_low: float
    change_high: float
    may_be_largest: bool
    may_be_smallest: bool


def estimate(sums: MetricSums, *, is_share: bool) -> list[Estimate]:
    """Estimates a metric under each policy.

    To first order, the error of a ratio R is the mean over runs of (numerator - R x denominator) / mean denominator
    (W. G. Cochran, Sampling Techniques, 1977, 6.3). The covariances of these means over all policies give

    - the intervals of means, with quantiles of Student's t distribution;
    - the intervals of shares by E. B. Wilson's formula, for the number of independent trials with the same variance
      (E. Korn, B. Graubard 1998), and of their changes from both intervals and the correlation (R. Newcombe 1998,
      method 10). A share of 0 or 1 counts each run as one trial;
    - the policies that may be the best: those that no other one beats by a one-sided test. The level of the tests is 5%
      divided by the number of other policies (subset selection: S. Gupta 1965; Bonferroni). So neither the order of the
      policies nor which of them is ahead by chance matters.

    Args:
        sums: Sums over all runs.
        is_share: Whether the values are between 0 and 1.

    Returns:
        An estimate for each policy. Its numbers are nan where a denominator is 0, and ends of intervals where a single
        run does not tell them.
    """
    count = len(sums.numerators)
    known = [bool(denominator) for denominator in sums.denominators]
    values = [
        numerator / denominator if denominator else nan
        for numerator, denominator in zip(sums.numerators, sums.denominators, strict=True)
    ]
    covariances = _covariances(sums, values)
    errors = [sqrt(max(covariances[i, i], 0.0)) for i in range(count)]
    width = t_quantile(0.975, sums.runs - 1) if sums.runs > 1 else nan
    level = t_quantile(1 - 0.05 / max(count - 1, 1), sums.runs - 1) if sums.runs > 1 else nan

    def interval(i: int) -> tuple[float, float]:
        if not known[i]:
            return nan, nan
        if is_share:
            return _share_interval(values[i], errors[i], sums.runs, sums.denominators[i])
        return values[i] - width * errors[i], values[i] + width * errors[i]

    def error_of_difference(i: int, j: int) -> float:
        return sqrt(max(covariances[i, i] + covariances[j, j] - 2 * covariances[i, j], 0.0))

    def change_interval(i: int) -> tuple[float, float]:
        change = values[i] - values[0]
        if i == 0 or not (known[0] and known[i]):
            return change, change
        if is_share:
            correlation = covariances[0, i] / (errors[0] * errors[i]) if errors[0] * errors[i] > 0 else 0.0
            return _difference_interval(values[i], intervals[i], values[0], intervals[0], min(correlation, 1.0))
        return change - width * error_of_difference(i, 0), change + width * error_of_difference(i, 0)

    def is_beaten(i: int, sign: int) -> bool:
        gains = ((sign * (values[j] - values[i]), j) for j in range(count) if j != i)
        return any(gain > 0 and gain > level * error_of_difference(i, j) for gain, j in gains)

    intervals = [interval(i) for i in range(count)]
    return [
        Estimate(
            values[i],
            *intervals[i],
            values[i] - values[0],
            *change_interval(i),
            may_be_largest=not is_beaten(i, 1),
            may_be_smallest=not is_beaten(i, -1),
        )
        for i in range(count)
    ]


def _covariances(sums: MetricSums, values: Sequence[float]) -> NDArray[np.float64]:
    """The covariances of the means of all policies' residuals, shape (policies, policies); 0 for a single run."""
    import numpy as np

    count = len(values)
    moments = np.zeros((2 * count, 2 * count))
    rows, columns = _upper_triangle(2 * count)
    moments[rows, columns] = moments[columns, rows] = sums.moments
    weights = np.array([sums.runs / denominator if denominator else 0.0 for denominator in sums.denominators])
    residuals = np.hstack([np.diag(weights), np.diag(-weights * np.nan_to_num(values))])
    products: NDArray[np.float64] = np.einsum("ik,kl,jl->ij", residuals, moments, residuals)
    return products / max(sums.runs - 1, 1) / sums.runs if sums.runs > 1 else np.zeros((count, count))


def _share_interval(share: float, error: float, runs: int, denominator: int) -> tuple[float, float]:
    """The interval of a share with a standard error, of `denominator` bookings or seats of `runs` runs."""
    if error > 0 and 0 < share < 1:
        trials = min(share * (1 - share) / error**2, denominator) * (Z95 / t_quantile(0.975, runs - 1)) ** 2
    else:
        trials = min(runs, denominator)
    return wilson_interval(share * trials, trials)


def _difference_interval(
    share: float, ends: tuple[float, float], first: float, first_ends: tuple[float, float], correlation: float
) -> tuple[float, float]:
    """The interval of the difference of two shares from that of each."""

    def distance(a: float, b: float) -> float:
        return sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))

    change = share - first
    return (
        change - distance(share - ends[0], first_ends[1] - first),
        change + distance(ends[1] - share, first - first_ends[0]),
    )
