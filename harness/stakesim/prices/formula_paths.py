"""Price paths without chance: constant rates, steps, crashes and stored series."""

from collections.abc import Callable
from decimal import Decimal
from typing import TypeAlias

from stakesim.prices import series
from stakesim.prices.price_models import DAY, Constant, Crash, Series, Steps

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


def _series(price: Series) -> RateAt:
    closes = series.read(price.file)
    skipped = (price.start - closes.first).days if price.start else 0
    rates = [rounded(rate) for rate in closes.rates[skipped:]]
    return lambda seconds: rates[min(max(seconds, 0) // DAY, len(rates) - 1)]
