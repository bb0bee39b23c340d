"""Price paths: INR for one ETH, at every second of a scenario.

A path is a pure function of the time and, where chance is in it, of a seed. Rates have two digits, like a market's, and
never fall below 0.01. Floats appear only inside the random path, before it is rounded; no amount is computed with them.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from harness.scenario.fields import UNITS, Part, Rate, Seconds

RateAt: TypeAlias = Callable[[int], Decimal]
"""INR per ETH at a time in seconds from the scenario's start."""

PAISA = Decimal("0.01")
YEAR = 365 * UNITS["d"]


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
    annual_volatility: float = Field(ge=0, le=20)
    annual_drift: Annotated[float, Field(ge=-20, le=20)] = 0.0
    step: Annotated[Seconds, Field(ge=1)] = UNITS["h"]
    seed: Annotated[int, Field(ge=0)] = 0


Price: TypeAlias = Annotated[Constant | Steps | Crash | Gbm, Field(discriminator="path")]


def path(price: Constant | Steps | Crash | Gbm) -> RateAt:
    """The rate at each second, with two digits."""
    match price:
        case Constant():
            return lambda _: _rounded(price.inr_per_eth)
        case Steps():
            return _steps(price)
        case Crash():
            return _crash(price)
        case Gbm():
            return _gbm(price)


def _rounded(rate: Decimal) -> Decimal:
    return max(rate.quantize(PAISA), PAISA)


def _steps(price: Steps) -> RateAt:
    def rate_at(seconds: int) -> Decimal:
        past = [step for step in price.rates if step.at <= seconds]
        return _rounded((past or price.rates)[-1 if past else 0].inr_per_eth)

    return rate_at


def _crash(price: Crash) -> RateAt:
    before = price.inr_per_eth
    drop = before * price.drop_percent / 100

    def rate_at(seconds: int) -> Decimal:
        since = seconds - price.at
        if since < 0:
            return _rounded(before)
        if price.recover_over is None:
            return _rounded(before - drop)
        if since >= price.recover_over:
            return _rounded(before)
        return _rounded(before - drop + drop * since / price.recover_over)

    return rate_at


def _gbm(price: Gbm) -> RateAt:
    """Values are drawn in order and kept, so that a rate does not depend on which others were asked for."""
    from math import exp, sqrt

    from numpy.random import default_rng

    rng = default_rng(price.seed)
    dt = price.step / YEAR
    drift = (price.annual_drift - price.annual_volatility**2 / 2) * dt
    spread = price.annual_volatility * sqrt(dt)
    start = _rounded(price.inr_per_eth)
    logs, rates = [0.0], [start]

    def rate_at(seconds: int) -> Decimal:
        while len(rates) <= seconds // price.step:
            logs.append(logs[-1] + drift + spread * float(rng.standard_normal()))
            rates.append(_rounded(start * Decimal(f"{exp(logs[-1]):.12f}")))
        return rates[max(seconds, 0) // price.step]

    return rate_at
