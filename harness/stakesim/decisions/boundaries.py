"""Group-sequential tests: how large a z statistic has to be at each look, so that all looks together keep the level.

The level is spent by the O'Brien-Fleming-like function of K. Lan and D. DeMets (1983), 2 - 2 Phi(z / sqrt(t)) a side,
and boundaries follow by the recursion of P. Armitage, C. McPherson and B. Rowe (1969). Looks are at equal steps of
information; tests are two-sided.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import erfc, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

from stakesim.population.population import require_whole
from stakesim.schema.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

_NODES = 60
_NORMAL = NormalDist()
MOST_LOOKS = 20


@dataclass(frozen=True)
class Boundaries:
    """A group-sequential test.

    Attributes:
        z: The least |z| that ends the experiment, for each look.
        drift: The mean of z at the last look under which the test has its power.
        inflation: By what the largest number of observations is higher than without interim looks.
        stops: Under that drift, the probability that the experiment ends at each look; the last one also without an
            effect found.
    """

    z: tuple[float, ...]
    drift: float
    inflation: float
    stops: tuple[float, ...]

    @property
    def expected_share(self) -> float:
        """The mean share of the largest number of observations, under the effect."""
        looks = len(self.z)
        return sum(stop * number / looks for number, stop in enumerate(self.stops, start=1))


@lru_cache(maxsize=32)
def boundaries(looks: int, *, level: float = 0.05, power: float = 0.8) -> Boundaries:
    """Computes the boundaries of a two-sided test.

    Args:
        looks: Number of looks, the last one included.
        level: Probability of an effect where there is none.
        power: Probability to find the effect.

    Raises:
        InputError: The looks are not 1 to MOST_LOOKS, or level and power not within their bounds.
    """
    require_whole("looks", looks, least=1)
    if looks > MOST_LOOKS or not 0 < level < 0.5 or not level < power < 1:
        raise InputError(
            f"looks is {looks}, level {level:g} and power {power:g}; give at most {MOST_LOOKS} looks, a level below "
            "0.5 and a power between the level and 1"
        )
    times = [number / looks for number in range(1, looks + 1)]
    spent = [_spent(time, level) for time in times]
    z: list[float] = []
    for number in range(looks):
        target = spent[number] - (spent[number - 1] if number else 0.0)
        low, high = 0.5, 40.0
        for _ in range(40):
            middle = (low + high) / 2
            last = _crossings([*z, middle], times[: number + 1], 0.0)[-1]
            low, high = (middle, high) if last > target else (low, middle)
        z.append((low + high) / 2)
    low, high = 0.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(_crossings(z, times, middle)) < power else (low, middle)
    drift = (low + high) / 2
    crossed = _crossings(z, times, drift)
    fixed = _NORMAL.inv_cdf(1 - level / 2) + _NORMAL.inv_cdf(power)
    stops = (*crossed[:-1], 1 - sum(crossed[:-1]))
    return Boundaries(tuple(z), drift, (drift / fixed) ** 2 if looks > 1 else 1.0, stops)


def _spent(time: float, level: float) -> float:
    """The part of a two-sided level that is spent by a share of the information."""
    if time >= 1:
        return level
    return 2 * (2 - 2 * _NORMAL.cdf(_NORMAL.inv_cdf(1 - level / 4) / sqrt(time)))


def _crossings(z: list[float], times: list[float], drift: float) -> list[float]:
    """The probability that each boundary is the first to be crossed, if z has the mean drift x sqrt(time)."""
    import numpy as np

    base, base_weights = np.polynomial.legendre.leggauss(_NODES)
    nodes, density = np.zeros(1), np.ones(1)  # of z x sqrt(time), a Brownian motion, where nothing was crossed yet
    before = 0.0
    result: list[float] = []
    for boundary, time in zip(z, times, strict=True):
        step, edge = time - before, boundary * sqrt(time)
        mean, deviation = nodes + drift * step, sqrt(step)
        crossed = _upper((edge - mean) / deviation) + _upper((edge + mean) / deviation)
        result.append(float(density @ crossed))
        following = edge * base
        kernel = np.exp(-0.5 * ((following[:, None] - mean) / deviation) ** 2) / (deviation * 2.5066282746310002)
        nodes, density = following, (kernel @ density) * base_weights * edge
        before = time
    return result


def _upper(values: Floats) -> Floats:
    """Upper tail of the standard normal distribution."""
    import numpy as np

    return np.array([0.5 * erfc(value / sqrt(2)) for value in values.tolist()])
