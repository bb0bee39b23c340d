"""Posterior samples by adaptive importance sampling.

Proposals are Student t distributions fitted to the weighted draws so far (M.-S. Oh, J. Berger 1992; O. Cappe et al.
2004), mixed with the prior, so that weights stay bounded. The likelihood is raised to a power below 1 until the
effective number of draws allows for the next step (P. Del Moral, A. Doucet, A. Jasra 2006). All normal priors are
standardised first: a draw is in standard deviations from the prior's mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import lgamma, log, pi
from typing import TYPE_CHECKING, TypeAlias

from stakesim.errors import StakesimError

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

DRAWS = 3_000
"""Draws of a step; the last step has twice as many."""
LEAST_EFFECTIVE = 400
"""Effective draws (L. Kish 1965) that a result has to have."""
_FREEDOM = 5.0
"""Degrees of freedom of the proposals."""
_FROM_PRIOR = 0.1
"""Share of each step's draws that are from the prior."""
_MOST_STEPS = 30
_IMPOSSIBLE = -1e12
"""Log likelihood of draws so odd that it is no number."""


class NotConverged(StakesimError):
    """The sampler has found no proposal that resembles the posterior."""


@dataclass(frozen=True)
class Sample:
    """Equally likely draws from a posterior.

    Attributes:
        draws: Shape (draws, parameters).
        effective: Effective number of independent draws that they were resampled from.
    """

    draws: Floats
    effective: float


def sample_posterior(log_likelihood: Callable[[Floats], Floats], parameters: int, count: int, rng: Generator) -> Sample:
    """Draws from the posterior under standard normal priors.

    Args:
        log_likelihood: Of draws of shape (draws, parameters), shape (draws,).
        parameters: Number of parameters.
        count: Number of draws to return.
        rng: The generator.

    Raises:
        NotConverged: The effective number of draws stays below LEAST_EFFECTIVE.
    """
    import numpy as np

    def likelihood(draws: Floats) -> Floats:
        values = log_likelihood(draws)
        return np.where(np.isfinite(values), values, _IMPOSSIBLE)

    draws = rng.standard_normal((DRAWS, parameters))
    likelihoods = likelihood(draws)
    log_ratio = np.zeros(DRAWS)
    power = 0.0
    for _ in range(_MOST_STEPS):
        is_last = power == 1.0
        power = _next_power(log_ratio, likelihoods, power)
        weights = _normalised(log_ratio + power * likelihoods)
        effective = 1 / float(np.square(weights).sum())
        if is_last and effective >= LEAST_EFFECTIVE:
            chosen = _systematic(weights, count, rng)
            return Sample(draws[rng.permutation(chosen)], effective)
        proposed, log_proposal = _propose(draws, weights, 2 * DRAWS if power == 1.0 else DRAWS, rng)
        ratio, new = _log_normal(proposed) - log_proposal, likelihood(proposed)
        if is_last:  # weights of all proposals have one constant, so what has been drawn so far is kept
            draws, log_ratio = np.concatenate([draws, proposed]), np.concatenate([log_ratio, ratio])
            likelihoods = np.concatenate([likelihoods, new])
        else:
            draws, log_ratio, likelihoods = proposed, ratio, new
    raise NotConverged("the bookings contradict the priors too much to be weighed; check the units of the columns")


def _log_normal(draws: Floats) -> Floats:
    """Log density of the standard normal distribution."""
    density: Floats = -0.5 * (draws**2).sum(axis=1) - 0.5 * draws.shape[1] * log(2 * pi)
    return density


def _normalised(log_weights: Floats) -> Floats:
    import numpy as np

    weights = np.exp(log_weights - log_weights.max())
    normalised: Floats = weights / weights.sum()
    return normalised


def _next_power(log_ratio: Floats, likelihoods: Floats, power: float) -> float:
    """The largest power from `power` to 1 under which a tenth of the draws is effective; at least a little more."""
    import numpy as np

    def effective(candidate: float) -> float:
        return 1 / float(np.square(_normalised(log_ratio + candidate * likelihoods)).sum())

    enough = len(likelihoods) / 10
    if effective(1.0) >= enough or power == 1.0:
        return 1.0
    low, high = power, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if effective(middle) >= enough else (low, middle)
    return min(max(low, power * 1.05), 1.0)


def _propose(draws: Floats, weights: Floats, size: int, rng: Generator) -> tuple[Floats, Floats]:
    """New draws from a t distribution like the weighted draws, some from the prior, and their log densities."""
    import numpy as np

    parameters = draws.shape[1]
    mean = weights @ draws
    centred = draws - mean
    covariance = (centred * weights[:, None]).T @ centred + 1e-8 * np.eye(parameters)
    root = np.linalg.cholesky(covariance * 1.2)
    from_t = size - int(size * _FROM_PRIOR)
    radius = np.sqrt(_FREEDOM / rng.chisquare(_FREEDOM, from_t))[:, None]
    proposed = np.concatenate(
        [
            mean + rng.standard_normal((from_t, parameters)) @ root.T * radius,
            rng.standard_normal((size - from_t, parameters)),
        ]
    )
    standard = np.linalg.solve(root, (proposed - mean).T)
    log_t = (
        lgamma((_FREEDOM + parameters) / 2)
        - lgamma(_FREEDOM / 2)
        - 0.5 * parameters * log(_FREEDOM * pi)
        - np.log(np.diag(root)).sum()
        - 0.5 * (_FREEDOM + parameters) * np.log1p((standard**2).sum(axis=0) / _FREEDOM)
    )
    mixture = np.logaddexp(log_t + log(1 - _FROM_PRIOR), _log_normal(proposed) + log(_FROM_PRIOR))
    return proposed, mixture


def _systematic(weights: Floats, count: int, rng: Generator) -> NDArray[np.int64]:
    """Numbers of draws, each as often as its weight says, by systematic resampling."""
    import numpy as np

    points = (rng.random() + np.arange(count)) / count
    chosen: NDArray[np.int64] = np.searchsorted(np.cumsum(weights), points * (1 - 1e-12))
    return np.minimum(chosen, len(weights) - 1)
