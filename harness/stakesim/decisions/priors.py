"""What is believed before any booking is seen, each belief with its source.

Every parameter is normal on a scale of its own: `log` for what is positive, `logit` for probabilities. A prior is the
median and a range that holds the parameter with 95%; both are on the parameter's own scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Prior:
    """The prior of a parameter.

    Attributes:
        median: Its median.
        high: The upper end of its central 95%.
        scale: The scale on which it is normal.
        unit: Unit and meaning.
        source: Where it is from.
    """

    median: float
    high: float
    scale: Literal["log", "logit", "identity"]
    unit: str
    source: str

    @property
    def centre(self) -> float:
        """The mean on the parameter's scale."""
        return self._to_scale(self.median)

    @property
    def deviation(self) -> float:
        """The standard deviation on the parameter's scale."""
        return (self._to_scale(self.high) - self.centre) / _Z

    @property
    def low(self) -> float:
        """The lower end of the central 95%."""
        lowest = 2 * self.centre - self._to_scale(self.high)
        return exp(lowest) if self.scale == "log" else 1 / (1 + exp(-lowest)) if self.scale == "logit" else lowest

    def _to_scale(self, value: float) -> float:
        return log(value) if self.scale == "log" else log(value / (1 - value)) if self.scale == "logit" else value

    def to_scale(self, values: Any) -> Any:
        """Values of the parameter on its scale."""
        import numpy as np

        if self.scale == "log":
            return np.log(values)
        return np.log(values / (1 - values)) if self.scale == "logit" else np.asarray(values)

    def from_scale(self, values: Any) -> Any:
        """Values on the scale as values of the parameter."""
        import numpy as np

        if self.scale == "log":
            return np.exp(values)
        return 1 / (1 + np.exp(-values)) if self.scale == "logit" else values


NO_SHOW_PRIORS = {
    "no-show rate": Prior(
        0.135,
        0.40,
        "logit",
        "share of bookings not cancelled in time, without a stake",
        "airlines reckon with some 15% of the seats of sold-out flights (B. Smith, J. Leimkuhler, R. Darrow 1992); "
        "medical appointments have 23% on average over 105 studies (L. Dantas et al. 2018); free events "
        "28 to 40% by the figures of registration services",
    ),
    "no-show elasticity": Prior(
        1.0,
        4.0,
        "identity",
        "no-shows are proportional to (1 + stake) ^ -elasticity",
        "nobody has measured it for a stake that is returned; from -2, as a fine can make people feel free to come "
        "late (U. Gneezy, A. Rustichini 2000), to 4, at which a stake of 20% halves no-shows",
    ),
    "no-show spread of runs": Prior(
        0.4,
        1.3,
        "log",
        "standard deviation of the logit among runs of an experience",
        "a correlation within a run of 0.02, and up to 0.15: in 1,039 variables of primary care its median was 0.01 "
        "and its 90% quantile 0.055 (G. Adams et al. 2004)",
    ),
    "no-show spread of experiences": Prior(
        0.3, 1.2, "log", "standard deviation of the logit among experiences", "as among runs; an assumption"
    ),
}
DEMAND_PRIORS = {
    "demand": Prior(
        10.0, 100.0, "log", "people who would book a run at the usual price, without a stake", "vague: 1 to 100"
    ),
    "demand spread of runs": Prior(
        0.4, 1.2, "log", "standard deviation of a gamma factor with mean 1", "an assumption: runs differ by 40%"
    ),
    "demand spread of experiences": Prior(
        0.3, 1.2, "log", "standard deviation of a log-normal factor", "an assumption, as among runs"
    ),
    "demand elasticity": Prior(
        0.3,
        2.0,
        "log",
        "bookings are proportional to (1 + stake) ^ -elasticity",
        "nobody has measured it; the stake comes back, so it deters less than a price that is as much higher",
    ),
    "price elasticity": Prior(
        0.8,
        2.2,
        "log",
        "bookings are proportional to price ^ -elasticity",
        "studies of the performing arts find mostly inelastic demand, and some above 1 (B. Seaman 2006)",
    ),
    "early bookings": Prior(
        1.0, 2.7, "log", "shape of the booking curve at its beginning; below 1 is a rush", "an even flow; vague"
    ),
    "late bookings": Prior(
        1.0, 2.7, "log", "shape of the booking curve at its end; below 1 is a rush", "an even flow; vague"
    ),
}
HAZARD_SHAPE = 1.0
HAZARD_MEANS = {"daily cancellations": 0.01, "daily cancellations near": 0.05}
"""Means of the gamma priors of hazards, each with the shape HAZARD_SHAPE, so that 95% are from 3% to 370% of it."""
HOST_CANCELS = (1.0, 19.0)
"""The beta prior of the share of runs that hosts cancel: 5%, worth 20 runs."""
HOST_EXIT = Prior(
    0.5, 2.5, "log", "runs are proportional to (1 - fee) ^ elasticity", "an assumption: bookings do not tell it"
)


def prior_of(name: str) -> Prior | None:
    """The prior of a parameter; None where it has another form."""
    return {**NO_SHOW_PRIORS, **DEMAND_PRIORS, "host exit": HOST_EXIT}.get(name)
