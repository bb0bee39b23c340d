"""The price models of the file formats: how the rate of ETH in INR develops over time.

The field `path` of a file names the model. `rate_path` makes one path of a model, `simulate` many of them at once.
"""

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from stakesim.prices import series
from stakesim.schema.fields import UNITS, Rate, Seconds, StrictModel
from stakesim.schema.yaml_file import FieldError, ScenarioError

DAY = UNITS["d"]
YEAR = 365 * DAY

Drift: TypeAlias = Annotated[float, Field(ge=-20, le=20)]
Volatility: TypeAlias = Annotated[float, Field(ge=0, le=20)]
Seed: TypeAlias = Annotated[int, Field(ge=0)]


class Constant(StrictModel):
    """The same rate for ever."""

    path: Literal["constant"] = "constant"
    inr_per_eth: Rate = Decimal(200_000)


class PriceStep(StrictModel):
    at: Seconds
    inr_per_eth: Rate


class Steps(StrictModel):
    """Each rate holds from its time until the next one's; the first holds from the beginning."""

    path: Literal["steps"] = "steps"
    rates: tuple[PriceStep, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        times = [step.at for step in self.rates]
        if times != sorted(set(times)):
            raise ValueError("the times of `rates` must rise; put them in order, each once")
        return self


class Crash(StrictModel):
    """`inr_per_eth` until `at`, then lower by `drop_percent` at once; back up in a straight line over `recover_over`
    seconds, or never."""

    path: Literal["crash"] = "crash"
    inr_per_eth: Rate
    at: Seconds
    drop_percent: int = Field(strict=True, gt=0, lt=100)
    recover_over: Seconds | None = None


class Gbm(StrictModel):
    """Geometric Brownian motion (Black and Scholes 1973), with dt = step / year and Z standard normal:

    S(k+1) = S(k) exp((drift - volatility^2 / 2) dt + volatility sqrt(dt) Z(k))

    Each value holds for one step. volatility and drift: a year's, as fractions (0.8 is 80%).
    """

    path: Literal["gbm"] = "gbm"
    inr_per_eth: Rate
    annual_volatility: Volatility
    annual_drift: Drift = 0.0
    step: Annotated[Seconds, Field(ge=1)] = UNITS["h"]
    seed: Seed = 0


class Merton(StrictModel):
    """Jump diffusion (Merton 1976): a Gbm with jumps of a normally distributed log size J, N(t) of them, Poisson:

    S(t+dt) = S(t) exp((drift - volatility^2 / 2 - jump_rate k) dt + volatility sqrt(dt) Z + J(1) + ... + J(N(dt)))

    with k = E[exp J - 1] = exp(jump_mean + jump_volatility^2 / 2) - 1, so that the mean grows by the drift alone.
    Each value holds for a day. annual_volatility: of the diffusion between jumps; jump_rate: jumps a year; jump_mean,
    jump_volatility: mean and standard deviation of a jump's log size. Defaults: the middle of what a threshold finds in
    3,804 daily closes of ETH, 2015-08 to 2026-01: 10 to 12 jumps a year, mean -1 to -2%, deviation 13 to 14%,
    diffusion 67 to 72%.
    """

    path: Literal["merton"] = "merton"
    inr_per_eth: Rate
    annual_volatility: Volatility = 0.695
    annual_drift: Drift = 0.0
    jump_rate: Annotated[float, Field(ge=0, le=1_000)] = 11.0
    jump_mean: Annotated[float, Field(ge=-2, le=2)] = -0.015
    jump_volatility: Annotated[float, Field(ge=0, le=2)] = 0.135
    seed: Seed = 0


class Bootstrap(StrictModel):
    """Days of a series put together anew, in blocks that keep what hangs together in time: the log returns of

    moving (Kuensch 1989): blocks of block_days, each from a day drawn among all that have so many days after them;
    stationary (Politis and Romano 1994): each day begins a new block with the chance 1 / block_days, else it is the
    day after the one before; the series' first day follows its last.

    Each value holds for a day. file: CSV with the columns date and close, see `stakesim.prices.series.read`; the
    default is synthetic, `scenarios/README.md` says how. block_days: 20 by default, near a month, in which
    volatility hangs together; 7 keeps a week's. The drift is the series' own.
    """

    path: Literal["bootstrap"] = "bootstrap"
    inr_per_eth: Rate
    file: str = series.SYNTHETIC
    block_days: Annotated[int, Field(strict=True, ge=1, le=1_000)] = 20
    blocks: Literal["stationary", "moving"] = "stationary"
    seed: Seed = 0

    @model_validator(mode="after")
    def _readable(self) -> Self:
        returns = len(series.read(self.file).rates) - 1
        if self.block_days > returns:
            raise ScenarioError(
                f"{self.file}: has {returns} daily returns, too few for blocks of {self.block_days} days; "
                "give a longer series or smaller `block_days`"
            )
        return self


class Garch(StrictModel):
    """GARCH(1,1) with normal innovations (Bollerslev 1986), in days:

    r(t) = drift / 365 - h(t) / 2 + sqrt(h(t)) Z(t)
    h(t+1) = omega + alpha h(t) Z(t)^2 + beta h(t), with omega = (1 - alpha - beta) annual_volatility^2 / 365

    r: log return; h: its variance. Each value holds for a day. annual_volatility: the long run's, as h(1) is too unless
    first_volatility says what the market is like at the start: with the defaults half of a difference is left after
    138 days, so a simulation of weeks stays near where it began. alpha + beta < 1, else there is no long run. Defaults:
    `stakesim.studies.calibration.fit_garch`, to the 30-day volatilities of ETH and its calmest and wildest year.
    """

    path: Literal["garch"] = "garch"
    inr_per_eth: Rate
    annual_volatility: Volatility = 0.78
    annual_drift: Drift = 0.0
    alpha: Annotated[float, Field(ge=0, lt=1)] = 0.06
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.935
    first_volatility: Volatility | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _stationary(self) -> Self:
        if self.alpha + self.beta >= 1:
            raise FieldError(("beta",), "alpha + beta must stay below 1, else the variance has no long run; lower one")
        return self


class Series(StrictModel):
    """The closes of a CSV file as they are, each for its day, the last one for ever after.

    file: CSV with the columns date and close (INR for one ETH), see `stakesim.prices.series.read`. start: the day
    with which the scenario begins, the series' first by default.
    """

    path: Literal["series"] = "series"
    file: str
    start: date | None = None

    @model_validator(mode="after")
    def _covered(self) -> Self:
        closes = series.read(self.file)
        if self.start is not None and not closes.first <= self.start <= closes.last:
            raise ScenarioError(
                f"{self.file}: has no {self.start}; give a `start` from {closes.first} to {closes.last}"
            )
        return self


Daily: TypeAlias = Merton | Bootstrap | Garch
"""Random paths with one value a day."""
PriceModel: TypeAlias = Annotated[Constant | Steps | Crash | Gbm | Daily | Series, Field(discriminator="path")]
