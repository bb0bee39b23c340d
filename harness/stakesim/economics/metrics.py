"""What is measured of each run, and how runs become a mean with its confidence interval.

Every metric is a ratio of two sums over runs, like no-shows to bookings; a mean is one whose denominator is the number
of runs. Sums are exact integers; floats begin where chance is estimated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import fsum, sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

from stakesim.model.state import RunStatus
from stakesim.population.exact_int import exact_sum, wei_to_paise

if TYPE_CHECKING:
    from stakesim.economics.settle import Settlement
    from stakesim.population.outcomes import Outcomes
    from stakesim.population.state import PopulationState, Wei

Z95 = 1.959964
"""Standard normal quantile of a two-sided 95% interval."""

Measured: TypeAlias = Mapping[str, tuple["Wei", "Wei"]]
"""Of each metric, numerator and denominator of each run: whole numbers."""

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
"""Name and unit."""


def measure(state: PopulationState, outcomes: Outcomes, settled: Settlement) -> Measured:
    """Every metric of every run."""
    import numpy as np

    intents, active = state.intents, outcomes.active
    one = np.ones(state.runs, np.int64)
    took_place = outcomes.final_status != RunStatus.CANCELLED
    sat = (intents.seats * (active & intents.intends_to_attend)).sum(axis=0)
    completed = outcomes.final_status == RunStatus.COMPLETED
    finished = active & completed
    attends, own = ~intents.by_host, intents.by_host
    rate = state.rate_at(outcomes.closed_at)
    paid_by = {who: (settled.paid * which).sum(axis=0) for who, which in (("attendees", attends), ("host", own))}
    got_by = {who: (settled.received * which).sum(axis=0) for who, which in (("attendees", attends), ("host", own))}
    host = settled.host - settled.host_stake + got_by["host"] - paid_by["host"]
    made = outcomes.accepted.sum(axis=0)
    wanted = intents.interested.sum(axis=0)
    return {
        "bookings": (made, one),
        "seats filled": ((intents.seats * active).sum(axis=0), state.seats),
        "empty seats": ((state.seats - sat) * took_place, state.seats * took_place),
        "bookings lost": ((intents.interested & ~outcomes.accepted).sum(axis=0), wanted),
        "cancelled bookings": (outcomes.cancelled.sum(axis=0), made),
        "no-show rate": ((finished & ~intents.reported_attended).sum(axis=0), finished.sum(axis=0)),
        "cancelled runs": ((outcomes.final_status == RunStatus.CANCELLED).astype(np.int64), one),
        "expired runs": ((outcomes.final_status == RunStatus.EXPIRED).astype(np.int64), one),
        "host profit": (wei_to_paise(host, rate), 100 * one),
        "platform income": (wei_to_paise(settled.platform, rate), 100 * one),
        "attendees' cost": (wei_to_paise(paid_by["attendees"] - got_by["attendees"], rate), 100 * one),
        "wei paid in": (settled.host_stake + settled.paid.sum(axis=0), one),
        "wei kept by the platform": (settled.platform, one),
    }


@dataclass(frozen=True)
class Sums:
    """Of one metric under one policy, beside the first policy on the same runs. sums: exact, of numerator and
    denominator. moments: of the products of each two of (numerator, denominator, the first policy's two)."""

    runs: int
    sums: tuple[int, int]
    moments: tuple[float, ...]


_PAIRS = tuple(combinations_with_replacement(range(4), 2))


def sums(measured: tuple[Wei, Wei], first: tuple[Wei, Wei]) -> Sums:
    """Of one chunk."""
    import numpy as np

    columns = [np.asarray(values, dtype=np.float64) for values in (*measured, *first)]
    moments = tuple(float(np.einsum("i,i->", columns[i], columns[j])) for i, j in _PAIRS)
    return Sums(len(columns[0]), (exact_sum(measured[0]), exact_sum(measured[1])), moments)


def added(parts: Sequence[Sums]) -> Sums:
    """Of several chunks, in their order."""
    return Sums(
        sum(part.runs for part in parts),
        (sum(part.sums[0] for part in parts), sum(part.sums[1] for part in parts)),
        tuple(fsum(part.moments[k] for part in parts) for k in range(len(_PAIRS))),
    )


@dataclass(frozen=True)
class Estimate:
    """A ratio with its 95% interval, and by how much it is above the first policy's, with its interval."""

    value: float
    low: float
    high: float
    change: float
    change_low: float
    change_high: float


def estimate(own: Sums, first: Sums) -> Estimate:
    """By the delta method for ratios (W. G. Cochran, Sampling Techniques, 1977, 6.3); the change is paired: both
    policies met the same runs."""
    nan = float("nan")
    if not own.sums[1] or not first.sums[1]:
        return Estimate(nan, nan, nan, nan, nan, nan)
    n = own.runs
    value, base = own.sums[0] / own.sums[1], first.sums[0] / first.sums[1]
    a, b = n / own.sums[1], n / first.sums[1]
    own_weights = (a, -value * a, 0.0, 0.0)
    spread = _spread(own, own_weights)
    paired = _spread(own, (a, -value * a, -b, base * b))
    return Estimate(value, value - spread, value + spread, value - base, value - base - paired, value - base + paired)


def _spread(of: Sums, weights: Sequence[float]) -> float:
    """Half of the interval of the mean of a weighted sum of the four columns, whose mean is nought."""
    products = (
        moment * weights[i] * weights[j] * (1 if i == j else 2)
        for moment, (i, j) in zip(of.moments, _PAIRS, strict=True)
    )
    return Z95 * sqrt(max(fsum(products), 0.0) / max(of.runs - 1, 1) / of.runs)


def as_data(of: Sums) -> list[Any]:
    return [of.runs, list(of.sums), list(of.moments)]


def from_data(data: Sequence[Any]) -> Sums:
    return Sums(data[0], (data[1][0], data[1][1]), tuple(data[2]))
