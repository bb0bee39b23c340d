"""People as one's own bookings show them: behaviours whose numbers `stakesim.decisions.calibrate` estimates.

Both have effects that the bookings of a run share, and those of an experience: runs differ in how many people want to
come, and in how many of them stay away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from math import exp, log, sqrt
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from stakesim.population.state import NEVER, Intents, PopulationState
from stakesim.schema.errors import FieldError
from stakesim.schema.fields import Inr, Number, StrictModel, Whole
from stakesim.units import HOUR, MINUTE

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

Positive: TypeAlias = Annotated[Number, Field(gt=0, le=1_000)]
Spread: TypeAlias = Annotated[Number, Field(ge=0, le=10)]
SALE_BEGINS, SALE_ENDS = MINUTE, HOUR
"""Seconds after the opening and before the start between which people book, so that delays by seconds do not matter."""
LOGISTIC_NORMAL = (16 / 15) ** 2 * 3 / 3.141592653589793**2
"""Factor of the variance in the approximation of a logistic normal's mean (A. Monahan, L. Stefanski 1992)."""


def intercept(rate: Any, variance: Any) -> Any:
    """Returns the logit around which a normal effect has to vary for the mean probability to be `rate`.

    Args:
        rate: The mean probability, between 0 and 1; a number or an array.
        variance: Variance of the normal effect on the logit.
    """
    import numpy as np

    return np.log(rate / (1 - rate)) * np.sqrt(1 + LOGISTIC_NORMAL * variance)


class Demand(StrictModel):
    """How many people want to come to a run, when they book, and how many seats.

    The number is Poisson around mean x f x g x (price / price_inr) ** -price_elasticity, where f has a gamma
    distribution of its own for each run, and g a lognormal one for each experience, both with mean 1. Of these people
    the share (1 + stake) ** -elasticity books. The share of bookings that have come by the share u of the time on sale
    (see `SALE_BEGINS`) is 1 - (1 - u ** early) ** late (P. Kumaraswamy 1980); 1 and 1 is an even flow.

    Attributes:
        mean: People for a run at `price_inr` without a stake.
        spread: Standard deviation of f.
        experience_spread: Standard deviation of log g.
        elasticity: Elasticity of booking in 1 + stake.
        price_elasticity: Elasticity of booking in the price.
        price_inr: The price of a seat at which `mean` holds.
        early: Below 1, many book when the run opens.
        late: Below 1, many book just before the start.
        party: Shares of bookings of 1, 2, 3 ... seats.
        runs_each: Consecutive runs that are of one experience.
    """

    do: Literal["demand"] = "demand"
    mean: Positive = 12.0
    spread: Spread = 0.4
    experience_spread: Spread = 0.3
    elasticity: Spread = 0.3
    price_elasticity: Spread = 0.8
    price_inr: Inr = Decimal(500)
    early: Positive = 1.0
    late: Positive = 1.0
    party: tuple[Annotated[Number, Field(ge=0, le=1)], ...] = (1.0,)
    runs_each: Annotated[Whole, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if abs(sum(self.party) - 1) > 1e-6:
            raise FieldError(("party",), f"the shares add up to {sum(self.party):g}; make them add up to 1")
        return self

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        """Decides who wants to come, who is lost to the stake, and when the others book how many seats."""
        import numpy as np

        places, runs = state.shape
        of_experience = _by_experience(rng, runs, self.runs_each)
        share, deterred = rng.random((places, runs)), rng.random((places, runs))
        size = rng.random((places, runs))
        mean = self.mean * np.exp(self.experience_spread * of_experience - self.experience_spread**2 / 2)
        mean *= (state.price_paise / (100 * float(self.price_inr))) ** -self.price_elasticity
        if self.spread:
            shape = 1 / self.spread**2
            mean *= rng.standard_gamma(shape, runs) / shape
        interested = np.arange(places)[:, None] < rng.poisson(mean)
        books = interested & (deterred < (1 + state.stake_share) ** -self.elasticity)
        books_at = np.full((places, runs), NEVER)
        when = (1 - (1 - share[books]) ** (1 / self.late)) ** (1 / self.early)
        time = np.broadcast_to(state.start - SALE_BEGINS - SALE_ENDS, books.shape)[books]
        books_at[books] = SALE_BEGINS + (when * time).astype(np.int64)
        seats = np.ones((places, runs), np.int64)
        seats[books] += np.searchsorted(np.cumsum(self.party)[:-1], size[books], side="right")
        return replace(state.intents, interested=interested, books_at=books_at, seats=seats)


class NoShowByRun(StrictModel):
    """People who booked stay away, in some runs and experiences more than in others.

    The probability is q x (1 + stake) ** -elasticity. The logit of q varies normally among experiences, and among the
    runs of each, around a value that makes `rate` the mean of q.

    Attributes:
        rate: The probability without a stake, over all runs: of the bookings that nobody cancelled in time.
        elasticity: How strongly the loss of ticket and stake deters, as observed among those who book; below 0 a stake
            makes people feel free to stay away (U. Gneezy, A. Rustichini 2000).
        spread: Standard deviation of the logit among the runs of an experience.
        experience_spread: Standard deviation of the logit among experiences.
        runs_each: Consecutive runs that are of one experience.
    """

    do: Literal["no_show_by_run"] = "no_show_by_run"
    rate: Annotated[Number, Field(gt=0, lt=1)] = 0.135
    elasticity: Annotated[Number, Field(ge=-20, le=20)] = 0.0
    spread: Spread = 0.4
    experience_spread: Spread = 0.3
    runs_each: Annotated[Whole, Field(ge=1)] = 1

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        """Some people who booked stay away."""
        import numpy as np

        runs = state.run_count
        of_experience = _by_experience(rng, runs, self.runs_each)
        variance = self.spread**2 + self.experience_spread**2
        logit = intercept(self.rate, variance) + self.experience_spread * of_experience
        logit = logit + self.spread * rng.standard_normal(runs)
        probability = np.minimum((1 + state.stake_share) ** -self.elasticity / (1 + np.exp(-logit)), 1)
        attends = state.intents.intends_to_attend & (rng.random(state.shape) >= probability)
        return replace(
            state.intents,
            intends_to_attend=attends,
            reported_attended=state.intents.reported_attended & attends,
        )


def most_people(demand: Demand, prices_inr: Sequence[float]) -> int:
    """Returns a number of people that a run exceeds in about one of 1,000 cases.

    Gamma, lognormal and Poisson variation and that of the prices are taken together as one lognormal.

    Args:
        demand: The demand.
        prices_inr: Equally likely prices of a run.
    """
    factors = [(price / float(demand.price_inr)) ** -demand.price_elasticity for price in prices_inr]
    mean = demand.mean * fmean(factors)
    by_price = fmean(factor**2 for factor in factors) / fmean(factors) ** 2
    variance = by_price * (1 + demand.spread**2) * exp(demand.experience_spread**2) - 1 + 1 / mean
    sigma = sqrt(log(1 + variance))
    return int(mean * exp(3.1 * sigma - sigma**2 / 2)) + 2


def _by_experience(rng: Generator, runs: int, runs_each: int) -> Floats:
    """A standard normal effect of each run, shape (runs,), which consecutive runs share."""
    import numpy as np

    return np.repeat(rng.standard_normal(-(-runs // runs_each)), runs_each)[:runs]
