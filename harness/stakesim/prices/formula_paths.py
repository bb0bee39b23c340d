"""Price paths that follow from their model alone, without random numbers."""

from collections.abc import Callable
from decimal import Decimal
from typing import TypeAlias

from stakesim.prices import series
from stakesim.prices.price_models import Constant, Crash, Series, Steps
from stakesim.schema.fields import DAY

RateAt: TypeAlias = Callable[[int], Decimal]
"""The rate in INR per ETH at a time in seconds from the scenario's start."""

PAISA = Decimal("0.01")


def formula_path(price: Constant | Steps | Crash | Series) -> RateAt:
    """The rate at each second, rounded to a paisa."""
    match price:
        case Constant():
            return lambda _: rounded(price.inr_per_eth)
        case Steps():
            return _steps(price)
        case Crash():
            return _crash(price)
        case Series():
            return _series(price)


def rounded(rate: Decimal) -> Decimal:
    """A rate rounded to a paisa, and at least one paisa."""
    return max(rate.quantize(PAISA), PAISA)


def _steps(price: Steps) -> RateAt:
    def rate_at(seconds: int) -> Decimal:
        reached = [step for step in price.rates if step.at <= seconds]
        step = reached[-1] if reached else price.rates[0]
        return rounded(step.inr_per_eth)

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


def _series(price: Series) -> RateAt:
    closes = series.read_closes(price.file)
    skipped_days = (price.start - closes.first).days if price.start else 0
    rates = [rounded(rate) for rate in closes.rates[skipped_days:]]
    return lambda seconds: rates[min(max(seconds, 0) // DAY, len(rates) - 1)]
