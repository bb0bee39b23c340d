"""Price paths: the rate of ETH in INR at every second of a scenario.

A path is a pure function of the time and, where the model is random, of its seed. Rates have two digits, like a
market's, and never fall below 0.01 INR. Floats appear only inside the random models, before the rate is rounded; no
amount is computed with them.
"""

from decimal import Decimal
from math import exp, sqrt

from stakesim.prices.formula_paths import RateAt, formula_path, rounded
from stakesim.prices.market import simulate
from stakesim.prices.price_models import YEAR, Bootstrap, Garch, Gbm, Merton, PriceModel
from stakesim.schema.fields import DAY


def rate_path(price: PriceModel) -> RateAt:
    """One path of a price model: the rate at each second, rounded to a paisa.

    `stakesim.prices.market.simulate` makes many paths at once.
    """
    match price:
        case Gbm():
            return _gbm(price)
        case Merton() | Bootstrap() | Garch():
            return _daily(price)
        case _:
            return formula_path(price)


def _gbm(price: Gbm) -> RateAt:
    """Values are drawn in order and kept, so that a rate does not depend on the times that were asked for before."""
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


def _daily(price: Merton | Bootstrap | Garch) -> RateAt:
    """The path of `simulate` under the price's seed; simulating more days changes no earlier value."""
    from numpy.random import default_rng

    rates: list[Decimal] = []

    def rate_at(seconds: int) -> Decimal:
        day = max(seconds, 0) // DAY
        if day >= len(rates):
            path = simulate(price, default_rng(price.seed), runs=1, days=max(2 * day, 60))[:, 0]
            rates[:] = [Decimal(f"{rate:.2f}") for rate in path]
        return rates[day]

    return rate_at
