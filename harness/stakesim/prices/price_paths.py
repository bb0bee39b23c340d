"""Price paths: INR for one ETH, at every second of a scenario.

A path is a pure function of the time and, where chance is in it, of a seed. Rates have two digits, like a market's, and
never fall below 0.01. Floats appear only inside the random path, before it is rounded; no amount is computed with them.
"""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from stakesim.prices import series
from stakesim.schema.fields import UNITS, Part, Rate, Seconds
from stakesim.schema.yaml_file import FieldError, ScenarioError

RateAt: TypeAlias = Callable[[int], Decimal]
"""INR per ETH at a time in seconds from the scenario's start."""

PAISA = Decimal("0.01")
DAY = UNITS["d"]
YEAR = 365 * DAY

Drift: TypeAlias = Annotated[float, Field(ge=-20, le=20)]
Volatility: TypeAlias = Annotated[float, Field(ge=0, le=20)]
Seed: TypeAlias = Annotated[int, Field(ge=0)]


class Constant(Part):
    """The same rate for ever."""

    path: Literal["constant"] = "constant"
    inr_per_eth: Rate = Decimal(200_000)


class Step(Part):
    at: Seconds
    inr_per_eth: Rate


class Steps(Part):
    """Each rate holds from its time until the next one's; the first holds from the beginning."""

    path: Literal["steps"] = "steps"
    rates: tuple[Step, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        times = [step.at for step in self.rates]
        if times != sorted(set(times)):
            raise ValueError("the times of `rates` must rise; put them in order, each once")
        return self


class Crash(Part):
    """`inr_per_eth` until `at`, then lower by `drop_percent` at once; back up in a straight line over `recover_over`
    seconds, or never."""

    path: Literal["crash"] = "crash"
    inr_per_eth: Rate
    at: Seconds
    drop_percent: int = Field(strict=True, gt=0, lt=100)
    recover_over: Seconds | None = None


class Gbm(Part):
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


class Merton(Part):
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


class Bootstrap(Part):
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


class Garch(Part):
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


class Series(Part):
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
AnyPrice: TypeAlias = Constant | Steps | Crash | Gbm | Daily | Series
Price: TypeAlias = Annotated[AnyPrice, Field(discriminator="path")]


def path(price: AnyPrice) -> RateAt:
    """The rate at each second, with two digits. Many paths at once: `stakesim.prices.market.simulate`."""
    match price:
        case Constant():
            return lambda _: rounded(price.inr_per_eth)
        case Steps():
            return _steps(price)
        case Crash():
            return _crash(price)
        case Gbm():
            return _gbm(price)
        case Series():
            return _series(price)
        case Merton() | Bootstrap() | Garch():
            return _daily(price)


def rounded(rate: Decimal) -> Decimal:
    """Two digits, at least a paisa."""
    return max(rate.quantize(PAISA), PAISA)


def _steps(price: Steps) -> RateAt:
    def rate_at(seconds: int) -> Decimal:
        past = [step for step in price.rates if step.at <= seconds]
        return rounded((past or price.rates)[-1 if past else 0].inr_per_eth)

    return rate_at


def _crash(price: Crash) -> RateAt:
    before = price.inr_per_eth
    drop = before * price.drop_percent / 100

    def rate_at(seconds: int) -> Decimal:
        since = seconds - price.at
        if since < 0:
            return rounded(before)
        if price.recover_over is None:
            return rounded(before - drop)
        if since >= price.recover_over:
            return rounded(before)
        return rounded(before - drop + drop * since / price.recover_over)

    return rate_at


def _gbm(price: Gbm) -> RateAt:
    """Values are drawn in order and kept, so that a rate does not depend on which others were asked for."""
    from math import exp, sqrt

    from numpy.random import default_rng

    rng = default_rng(price.seed)
    dt = price.step / YEAR
    drift = (price.annual_drift - price.annual_volatility**2 / 2) * dt
    spread = price.annual_volatility * sqrt(dt)
    start = rounded(price.inr_per_eth)
    logs, rates = [0.0], [start]

    def rate_at(seconds: int) -> Decimal:
        while len(rates) <= seconds // price.step:
            logs.append(logs[-1] + drift + spread * float(rng.standard_normal()))
            rates.append(rounded(start * Decimal(f"{exp(logs[-1]):.12f}")))
        return rates[max(seconds, 0) // price.step]

    return rate_at


def _series(price: Series) -> RateAt:
    closes = series.read(price.file)
    skipped = (price.start - closes.first).days if price.start else 0
    rates = [rounded(rate) for rate in closes.rates[skipped:]]
    return lambda seconds: rates[min(max(seconds, 0) // DAY, len(rates) - 1)]


def _daily(price: Daily) -> RateAt:
    """The one path of `simulate` under the price's seed. How far it was simulated changes no earlier value."""
    from numpy.random import default_rng

    from stakesim.prices.market import simulate

    rates: list[Decimal] = []

    def rate_at(seconds: int) -> Decimal:
        day = max(seconds, 0) // DAY
        if day >= len(rates):
            drawn = simulate(price, default_rng(price.seed), runs=1, days=max(2 * day, 60))[:, 0]
            rates[:] = [Decimal(f"{rate:.2f}") for rate in drawn]
        return rates[day]

    return rate_at
