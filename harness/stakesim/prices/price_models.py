"""The price models of the file formats: how the rate of ETH in INR develops over time.

The field `path` of a file names the model. `rate_path` makes one path of a model, `simulate` many of them at once.
"""

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from stakesim.prices import series
from stakesim.schema.errors import FieldError, InputError
from stakesim.schema.fields import Count, Number, Rate, Seconds, StrictModel, Whole
from stakesim.units import HOUR

Drift: TypeAlias = Annotated[Number, Field(ge=-20, le=20)]
Volatility: TypeAlias = Annotated[Number, Field(ge=0, le=20)]
Seed: TypeAlias = Count


class Constant(StrictModel):
    """The same rate at all times.

    Attributes:
        inr_per_eth: The rate.
    """

    path: Literal["constant"] = "constant"
    inr_per_eth: Rate = Decimal(200_000)


class PriceStep(StrictModel):
    """A change of the rate.

    Attributes:
        at: Seconds from the scenario's start.
        inr_per_eth: The rate from then on.
    """

    at: Seconds
    inr_per_eth: Rate


class Steps(StrictModel):
    """Rates that change at given times. The first rate also holds before its time.

    Attributes:
        rates: The changes, in the order of their times.
    """

    path: Literal["steps"] = "steps"
    rates: tuple[PriceStep, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        times = [step.at for step in self.rates]
        if times != sorted(set(times)):
            raise ValueError("the times of `rates` must rise; put them in order, each once")
        return self


class Crash(StrictModel):
    """A rate that falls once, and may recover in a straight line.

    Attributes:
        inr_per_eth: The rate before the crash.
        at: Time of the crash, in seconds from the scenario's start.
        drop_percent: By how many percent the rate falls.
        recover_over: Seconds until the rate is back; None: it stays low.
    """

    path: Literal["crash"] = "crash"
    inr_per_eth: Rate
    at: Seconds
    drop_percent: Whole = Field(gt=0, lt=100)
    recover_over: Seconds | None = None


class Gbm(StrictModel):
    """Geometric Brownian motion (Black and Scholes 1973), with dt = step / year and Z standard normal.

    S(k+1) = S(k) exp((drift - volatility^2 / 2) dt + volatility sqrt(dt) Z(k)); each value holds for one step.

    Attributes:
        inr_per_eth: The first rate.
        annual_volatility: Volatility in a year, as a fraction: 0.8 is 80%.
        annual_drift: Drift in a year, as a fraction.
        step: Seconds that a value holds.
        seed: Seed of the path.
    """

    path: Literal["gbm"] = "gbm"
    inr_per_eth: Rate
    annual_volatility: Volatility
    annual_drift: Drift = 0.0
    step: Annotated[Seconds, Field(ge=1)] = HOUR
    seed: Seed = 0


class Merton(StrictModel):
    """Jump diffusion (Merton 1976): a Gbm with N(t) jumps, Poisson, of normally distributed log sizes J.

    S(t+dt) = S(t) exp((drift - volatility^2 / 2 - jump_rate k) dt + volatility sqrt(dt) Z + J(1) + ... + J(N(dt)))
    with k = E[exp J - 1] = exp(jump_mean + jump_volatility^2 / 2) - 1, so that the mean grows by the drift alone. Each
    value holds for a day.

    The defaults are the middle of what a threshold finds in 3,804 daily closes of ETH, 2015-08 to 2026-01: 10 to 12
    jumps a year, mean -1 to -2%, deviation 13 to 14%, diffusion 67 to 72%.

    Attributes:
        inr_per_eth: The first rate.
        annual_volatility: Volatility of the diffusion between jumps in a year, as a fraction.
        annual_drift: Drift in a year, as a fraction.
        jump_rate: Expected jumps in a year.
        jump_mean: Mean of a jump's log size.
        jump_volatility: Standard deviation of a jump's log size.
        seed: Seed of the path.
    """

    path: Literal["merton"] = "merton"
    inr_per_eth: Rate
    annual_volatility: Volatility = 0.695
    annual_drift: Drift = 0.0
    jump_rate: Annotated[Number, Field(ge=0, le=1_000)] = 11.0
    jump_mean: Annotated[Number, Field(ge=-2, le=2)] = -0.015
    jump_volatility: Annotated[Number, Field(ge=0, le=2)] = 0.135
    seed: Seed = 0


class Bootstrap(StrictModel):
    """The daily log returns of a series in a random order, in blocks that keep the dependence between days.

    - moving (Kuensch 1989): blocks of block_days days, each from a random day that has so many days after it.
    - stationary (Politis and Romano 1994): each day begins a new block at a random day with the probability
      1 / block_days, and is otherwise the day after the previous one; the series' first day follows its last.

    Each value holds for a day. The drift is the series' own.

    Attributes:
        inr_per_eth: The first rate.
        file: CSV with the columns date and close, see `stakesim.prices.series.read_closes`. The default is synthetic.
        block_days: Length of a block, or its mean. The default is near a month, in which volatility depends on its
            past; 7 keeps only a week's dependence.
        blocks: The kind of blocks.
        seed: Seed of the path.
    """

    path: Literal["bootstrap"] = "bootstrap"
    inr_per_eth: Rate
    file: series.CsvFile = series.SYNTHETIC
    block_days: Annotated[Whole, Field(ge=1, le=1_000)] = 20
    blocks: Literal["stationary", "moving"] = "stationary"
    seed: Seed = 0

    @model_validator(mode="after")
    def _series_is_long_enough(self) -> Self:
        returns = len(series.read_closes(self.file).rates) - 1
        if self.block_days > returns:
            raise InputError(
                f"{self.file}: has {returns} daily returns, too few for blocks of {self.block_days} days; "
                "give a longer series or smaller `block_days`"
            )
        return self


class Garch(StrictModel):
    """GARCH(1,1) with normal innovations (Bollerslev 1986), in days.

    The log return is r(t) = drift / 365 - h(t) / 2 + sqrt(h(t)) Z(t), and its variance
    h(t+1) = omega + alpha h(t) Z(t)^2 + beta h(t) with omega = (1 - alpha - beta) annual_volatility^2 / 365. Each value
    holds for a day.

    With the defaults, half of a difference from the long run's volatility is left after 138 days, so a simulation of
    weeks stays near `first_volatility`. The defaults of alpha and beta come from
    `stakesim.studies.calibration.fit_garch`, which fits them to the 30-day volatilities of ETH and to its calmest and
    wildest year.

    Attributes:
        inr_per_eth: The first rate.
        annual_volatility: Volatility of the long run in a year, as a fraction.
        annual_drift: Drift in a year, as a fraction.
        alpha: Weight of the last squared innovation.
        beta: Weight of the last variance; alpha + beta < 1, or there is no long run.
        first_volatility: Volatility at the start, in a year, as a fraction; None: the long run's.
        seed: Seed of the path.
    """

    path: Literal["garch"] = "garch"
    inr_per_eth: Rate
    annual_volatility: Volatility = 0.78
    annual_drift: Drift = 0.0
    alpha: Annotated[Number, Field(ge=0, lt=1)] = 0.06
    beta: Annotated[Number, Field(ge=0, lt=1)] = 0.935
    first_volatility: Volatility | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _has_a_long_run(self) -> Self:
        if self.alpha + self.beta >= 1:
            raise FieldError(("beta",), "alpha + beta must stay below 1, else the variance has no long run; lower one")
        return self


class Series(StrictModel):
    """The closes of a CSV file, each for its day; the last one holds from then on.

    Attributes:
        file: CSV with the columns date and close (INR per ETH), see `stakesim.prices.series.read_closes`.
        start: The day on which the scenario begins; by default the series' first.
    """

    path: Literal["series"] = "series"
    file: series.CsvFile
    start: date | None = None

    @model_validator(mode="after")
    def _start_is_in_the_series(self) -> Self:
        closes = series.read_closes(self.file)
        if self.start is not None and not closes.first <= self.start <= closes.last:
            raise InputError(f"{self.file}: has no {self.start}; give a `start` from {closes.first} to {closes.last}")
        return self


PriceModel: TypeAlias = Annotated[
    Constant | Steps | Crash | Gbm | Merton | Bootstrap | Garch | Series, Field(discriminator="path")
]
"""Any price model; as a field of a file, `path` names its kind."""


def data_hash(price: PriceModel) -> str:
    """Returns a hash of the data that a price model reads from a file; empty if it reads none.

    Two models are the same only if this is the same as well: a model has the file's name and not its content.

    Raises:
        InputError: The file is not there any more, or can't be read.
    """
    return series.content_hash(price.file) if isinstance(price, Bootstrap | Series) else ""
