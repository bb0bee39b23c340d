"""A smooth stand-in for the simulation: scores as quadratic functions of the unknown parameters.

It takes the noise of a finite number of runs out of the draws, and answers at once for parameters that were not
simulated. `fit` says by cross-validation how much of the scores it explains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from stakesim.decisions.priors import prior_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

_RIDGE = 1e-3
_FOLDS = 10


@dataclass(frozen=True)
class Emulator:
    """Scores of policies as functions of parameters.

    Attributes:
        names: The parameters.
        centre: Mean of each parameter on its prior's scale.
        scale: Standard deviation of each.
        coefficients: Shape (terms, policies).
        explained: Of each policy but today's, the share of the variance of its gain over today's that the emulator
            predicts of draws that it was not fitted to; nan where there is no gain.
    """

    names: tuple[str, ...]
    centre: Floats
    scale: Floats
    coefficients: Floats
    explained: Floats

    def __call__(self, table: pd.DataFrame) -> Floats:
        """Scores at parameters, a row each, shape (rows, policies)."""
        scores: Floats = _terms((on_scale(table, self.names) - self.centre) / self.scale) @ self.coefficients
        return scores


def on_scale(table: pd.DataFrame, names: tuple[str, ...]) -> Floats:
    """Parameters on the scales on which their priors are normal, shape (rows, parameters)."""
    import numpy as np

    columns = []
    for name in names:
        prior = prior_of(name)
        values = table[name].to_numpy(float)
        columns.append(prior.to_scale(values) if prior else np.log(np.maximum(values, 1e-6)))
    return np.stack(columns, axis=1)


def fit(table: pd.DataFrame, scores: Floats) -> Emulator:
    """Fits the scores of simulated draws.

    Args:
        table: Parameters, a row for each draw.
        scores: Scores in INR, shape (draws, policies).
    """
    import numpy as np

    names = tuple(name for name in table.columns if table[name].nunique() > 1)
    values = on_scale(table, names)
    centre, scale = values.mean(axis=0), values.std(axis=0)
    terms = _terms((values - centre) / scale)
    fold = np.arange(len(terms)) % _FOLDS
    predicted = np.empty_like(scores)
    for number in range(_FOLDS):
        predicted[fold == number] = terms[fold == number] @ _ridge(terms[fold != number], scores[fold != number])
    gains, told = scores - scores[:, :1], predicted - predicted[:, :1]
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.square(gains - gains.mean(axis=0)).sum(axis=0)
        explained = np.where(
            spread > 1e-9 * np.square(scores).sum(), 1 - np.square(gains - told).sum(axis=0) / spread, np.nan
        )
    return Emulator(names, centre, scale, _ridge(terms, scores), explained)


def _terms(values: Floats) -> Floats:
    """1, each parameter, and its square, shape (rows, terms)."""
    import numpy as np

    return np.hstack([np.ones((len(values), 1)), values, values**2 - 1])


def _ridge(terms: Floats, scores: Floats) -> Floats:
    import numpy as np

    penalty = _RIDGE * len(terms) * np.eye(terms.shape[1])
    penalty[0, 0] = 0
    solution: Floats = np.linalg.solve(terms.T @ terms + penalty, terms.T @ scores)
    return solution
