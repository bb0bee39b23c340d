"""Gas prices: paths by the day, calm ones and spikes.

The logarithm of the price returns to its median (E. Schwartz 1997, model 1: an Ornstein-Uhlenbeck process), with jumps
upwards that fade as fast (L. Clewlow, C. Strickland, Energy Derivatives, 2000, chapter 2):

x(t+1) = p x(t) + deviation sqrt(1 - p^2) Z(t) + J(t), with p = 0.5 ^ (1 / half_life) and price = median exp(x)

Z: standard normal; J: nothing on most days, else normal and never below 0. The numbers are assumptions of a shape, not
fitted to a chain: a base fee (EIP-1559) follows demand, and demand comes in bursts that last for days.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from numpy.random import Generator

    from stakesim.population.state import Ints

WEI_PER_GWEI = 10**9


class GasPrice(NamedTuple):
    """median: gwei, of a market without spikes. deviation: of its logarithm. half_life: days. spikes: a year. spike,
    spike_deviation: mean and standard deviation of a spike's log size; 1.4 is four times the price."""

    median: float = 5.0
    deviation: float = 0.5
    half_life: float = 3.0
    spikes: float = 12.0
    spike: float = 1.4
    spike_deviation: float = 0.5


def simulate(price: GasPrice, rng: Generator, paths: int, days: int) -> Ints:
    """Wei for a unit of gas on each day: shape (days, paths), each path well after its beginning."""
    import numpy as np

    memory = 0.5 ** (1 / price.half_life)
    before = int(np.ceil(10 * price.half_life))
    shape = (before + days, paths)
    shocks = price.deviation * np.sqrt(1 - memory**2) * rng.standard_normal(shape)
    sizes = np.maximum(price.spike + price.spike_deviation * rng.standard_normal(shape), 0)
    shocks += sizes * (rng.random(shape) < price.spikes / 365)
    log = price.deviation * rng.standard_normal(paths)
    logs = np.empty(shape)
    for day, shock in enumerate(shocks):
        log = memory * log + shock
        logs[day] = log
    return np.maximum(np.rint(price.median * WEI_PER_GWEI * np.exp(logs[before:])), 1).astype(np.int64)
