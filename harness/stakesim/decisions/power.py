"""The power of an experiment with two arms of runs: a closed form, and the simulation that it is checked against.

Each run has one stake, so runs, not bookings, are drawn at random into the arms. What a run's bookings share (weather,
the audience) makes them count for fewer: for m bookings a run with coefficient of variation c and a correlation rho, by
the design effect 1 + ((1 + c^2) m - 1) rho (S. Eldridge, D. Ashby, S. Kerry 2006).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, TypeAlias

from stakesim.decisions.boundaries import Boundaries
from stakesim.decisions.posterior import correlation
from stakesim.population.measured_people import intercept
from stakesim.population.population import require_whole
from stakesim.schema.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

LEAST_RUNS = 6
"""Runs of an arm at a look: with fewer, the variance among them is not known well enough for any test."""


@dataclass(frozen=True)
class Effect:
    """What an experiment is to tell.

    Attributes:
        outcome: What the other stake changes: the rate of no-shows, or the number of bookings.
        rate: Rate of no-shows under today's stake.
        fall: By which share the outcome falls under the other stake.
        bookings: Bookings of a run, on average, whose attendance is noted.
        booking_spread: Coefficient of variation of what people want, among runs, besides chance.
        clustering: Correlation of two bookings of a run as to no-shows.
    """

    outcome: Literal["no-shows", "bookings"] = "no-shows"
    rate: float = 0.135
    fall: float = 0.3
    bookings: float = 10.0
    booking_spread: float = 0.4
    clustering: float = 0.03

    def check(self) -> None:
        """Checks the values.

        Raises:
            InputError: One is out of its range.
        """
        for name, low, high in (("rate", 0, 1), ("fall", 0, 1), ("clustering", -1e-12, 0.9)):
            if not low < getattr(self, name) < high:
                raise InputError(f"{name} is {getattr(self, name):g}; give a share between 0 and {high:g}")
        if not 1 <= self.bookings <= 500:
            raise InputError(f"bookings is {self.bookings:g}; give 1 to 500 of a run")
        if not 0 <= self.booking_spread <= 3:
            raise InputError(f"booking_spread is {self.booking_spread:g}; give 0 to 3")

    @property
    def spread(self) -> float:
        """Standard deviation of the logit among runs that gives the clustering."""
        low, high = 0.0, 8.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if correlation(self.rate, middle) < self.clustering else (low, middle)
        return (low + high) / 2


def closed_form_runs(effect: Effect, *, level: float = 0.05, power: float = 0.8) -> float:
    """Returns the runs of each arm that a single two-sided test needs.

    Args:
        effect: The effect.
        level: Probability of an effect where there is none.
        power: Probability to find the effect.
    """
    quantiles = NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(power)
    variance, size = _variance_of_a_run(effect)
    return quantiles**2 * variance / size**2


def _variance_of_a_run(effect: Effect) -> tuple[float, float]:
    """The variance of the estimate from one run of each arm, and the size of the effect."""
    m, spread = effect.bookings, effect.booking_spread
    if effect.outcome == "bookings":
        size = -log(1 - effect.fall)
        return (1 / m + spread**2) + (1 / (m * (1 - effect.fall)) + spread**2), size
    varies = 1 + spread**2 + 1 / m  # 1 + c^2
    p, f = effect.rate, effect.fall
    between = effect.clustering * p * (1 - p)
    variance = 0.0
    for rate, of_runs in ((p, between), (p * (1 - f), between * (1 - f) ** 2)):
        correlated = of_runs / (rate * (1 - rate))
        variance += rate * (1 - rate) * (1 + (varies * m - 1) * correlated) / m
    return variance, p * f


def closed_form_power(effect: Effect, runs: int, *, level: float = 0.05) -> float:
    """Returns the power of a single two-sided test with so many runs in each arm."""
    normal = NormalDist()
    variance, size = _variance_of_a_run(effect)
    z, drift = normal.inv_cdf(1 - level / 2), size / sqrt(variance / runs)
    return normal.cdf(drift - z) + normal.cdf(-drift - z)


@dataclass(frozen=True)
class SimulatedPower:
    """What simulated experiments found.

    Attributes:
        power: Share in which an effect was found.
        error: Standard error of it.
        stops: Share that ended at each look.
        runs: Mean number of runs of both arms until the end.
    """

    power: float
    error: float
    stops: tuple[float, ...]
    runs: float


def simulated_power(effect: Effect, runs: int, test: Boundaries, rng: Generator, count: int = 2_000) -> SimulatedPower:
    """Simulates experiments with clustered bookings and a look after each equal part of the runs.

    The test compares both arms by their ratio estimates (no-shows a booking, or logarithms of bookings a run), with the
    variance among runs and Student's t distribution.

    Args:
        effect: The truth; with a `fall` of 0 the power is the level.
        runs: Runs of each arm, of all looks together.
        test: The boundaries.
        rng: The generator.
        count: Number of experiments.

    Raises:
        InputError: An arm has fewer than LEAST_RUNS runs at the first look.
    """
    import numpy as np

    require_whole("runs", runs, least=1)
    looks = len(test.z)
    ends = [ceil(runs * (number + 1) / looks) for number in range(looks)]
    if ends[0] < LEAST_RUNS:
        raise InputError(
            f"an arm has {ends[0]} runs at the first look; take fewer looks, or at least {LEAST_RUNS} runs"
        )
    arms = [_arm(effect, fall, (count, runs), rng) for fall in (0.0, effect.fall)]
    ended = np.full(count, looks - 1)
    found = np.zeros(count, bool)
    going = np.ones(count, bool)
    for look, (end, boundary) in enumerate(zip(ends, test.z, strict=True)):
        z = _statistic(effect, [(k[:, :end], n[:, :end]) for k, n in arms])
        stops = going & (np.abs(z) >= boundary)
        found |= stops
        ended[stops] = look
        going &= ~stops
    power = float(found.mean())
    shares = tuple(float((ended == look).mean()) for look in range(looks))
    mean_runs = sum(2 * end * share for end, share in zip(ends, shares, strict=True))
    return SimulatedPower(power, sqrt(power * (1 - power) / count), shares, mean_runs)


def _arm(effect: Effect, fall: float, shape: tuple[int, int], rng: Generator) -> tuple[Floats, Floats]:
    """No-shows and bookings of each run of an arm."""
    import numpy as np

    falls_bookings = effect.outcome == "bookings"
    mean = np.full(shape, effect.bookings * (1 - fall if falls_bookings else 1))
    if effect.booking_spread:
        gamma = 1 / effect.booking_spread**2
        mean = mean * rng.standard_gamma(gamma, shape) / gamma
    bookings = rng.poisson(mean)
    logit = intercept(effect.rate, effect.spread**2) + effect.spread * rng.standard_normal(shape)
    q = (1 if falls_bookings else 1 - fall) / (1 + np.exp(-logit))
    return rng.binomial(bookings, q).astype(float), bookings.astype(float)


def _statistic(effect: Effect, arms: list[tuple[Floats, Floats]]) -> Floats:
    """The z statistic of each experiment."""
    import numpy as np

    values, variances = [], []
    for no_shows, bookings in arms:
        runs = bookings.shape[1]
        if effect.outcome == "bookings":
            mean = np.maximum(bookings.mean(axis=1), 0.5 / runs)
            values.append(np.log(mean))
            variances.append(bookings.var(axis=1, ddof=1) / runs / mean**2)
        else:
            total = np.maximum(bookings.sum(axis=1), 1)
            rate = no_shows.sum(axis=1) / total
            residuals = no_shows - rate[:, None] * bookings
            values.append(rate)
            variances.append((residuals**2).sum(axis=1) / (runs - 1) * runs / total**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.nan_to_num((values[0] - values[1]) / np.sqrt(variances[0] + variances[1]), posinf=1e3, neginf=-1e3)
    return _t_to_z(t, 2 * (arms[0][0].shape[1] - 1))


def _t_to_z(t: Floats, freedom: int) -> Floats:
    """Student's t as a standard normal value with the same tail, to 0.01 (D. Wallace 1959)."""
    import numpy as np

    factor = (8 * freedom + 1) / (8 * freedom + 3)
    z: Floats = np.sign(t) * factor * np.sqrt(freedom * np.log1p(t**2 / freedom))
    return z
