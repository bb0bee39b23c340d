"""Simulated gas prices by the day, with calm times and spikes.

The logarithm x of the price, relative to its median, reverts to 0 (E. Schwartz 1997, model 1: an Ornstein-Uhlenbeck
process). Jumps upwards fade at the same speed (L. Clewlow, C. Strickland, Energy Derivatives, 2000, chapter 2):

    x(t+1) = p x(t) + deviation sqrt(1 - p^2) Z(t) + J(t)     with p = 0.5 ^ (1 / half_life)
    price(t) = median exp(x(t))

Z is standard normal. J is 0 on most days; on a day with a spike it is normal, and at least 0. The parameters are
assumptions about the shape of gas prices and are not fitted to a chain: a base fee (EIP-1559) follows demand, and
demand has bursts that last for days. The median is the middle, on a logarithmic scale, of 0.05 to 5 gwei, between which
averages of months in 2025 and 2026 were reported for Ethereum; on rollups 0.01 gwei and less is usual. Look up today's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stakesim.units import WEI_PER_GWEI

if TYPE_CHECKING:
    from numpy.random import Generator

    from stakesim.population.state import Ints


class GasPrice(NamedTuple):
    """Parameters of a gas price.

    Attributes:
        median: Gwei per gas, without spikes.
        deviation: Standard deviation of the logarithm.
        half_life: Days in which half of a deviation from the median is gone.
        spikes: Spikes a year.
        spike: Mean logarithm of a spike's factor; 1.4 is four times the price.
        spike_deviation: Standard deviation of that logarithm.
    """

    median: float = 0.5
    deviation: float = 0.5
    half_life: float = 3.0
    spikes: float = 12.0
    spike: float = 1.4
    spike_deviation: float = 0.5


def simulate(price: GasPrice, rng: Generator, paths: int, days: int) -> Ints:
    """Simulates gas prices, after a burn-in of ten half-lives.

    Returns:
        Wei per gas on each day, at least 1; shape (days, paths).
    """
    import numpy as np

    memory = 0.5 ** (1 / price.half_life)
    burn_in = int(np.ceil(10 * price.half_life))
    shape = (burn_in + days, paths)
    shocks = price.deviation * np.sqrt(1 - memory**2) * rng.standard_normal(shape)
    spike_sizes = np.maximum(price.spike + price.spike_deviation * rng.standard_normal(shape), 0)
    shocks += spike_sizes * (rng.random(shape) < price.spikes / 365)
    log_price = price.deviation * rng.standard_normal(paths)
    log_prices = np.empty(shape)
    for day, shock in enumerate(shocks):
        log_price = memory * log_price + shock
        log_prices[day] = log_price
    return np.maximum(np.rint(price.median * WEI_PER_GWEI * np.exp(log_prices[burn_in:])), 1).astype(np.int64)
