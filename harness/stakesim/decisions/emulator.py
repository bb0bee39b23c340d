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

_PENALTIES = (1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Ridge penalties to choose from, as multiples of the number of draws."""
_FOLDS = 10


@dataclass(frozen=True)
class Emulator:
    """Scores of policies as functions of parameters.

    Attributes:
        names: The parameters.
        centre: Mean of each parameter on its prior's scale.
        scale: Standard deviation of each.
        coefficients: Shape (terms, policies).
        explained: Of each policy, the share of the variance of its difference from the best one that the emulator
            predicts of draws that it was not fitted to; nan where there is none.
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


def fit(table: pd.DataFrame, scores: Floats, best: int = 0) -> Emulator:
    """Fits the scores of simulated draws.

    Args:
        table: Parameters, a row for each draw.
        scores: Scores in INR, shape (draws, policies).
        best: Number of the policy that the others are compared with.
    """
    import numpy as np

    names = tuple(name for name in table.columns if table[name].nunique() > 1)
    values = on_scale(table, names)
    centre, scale = values.mean(axis=0), values.std(axis=0)
    terms = _terms((values - centre) / scale)
    fold = np.arange(len(terms)) % _FOLDS
    gains = scores - scores[:, [best]]

    def predict(penalty: float) -> Floats:
        predicted = np.empty_like(scores)
        for number in range(_FOLDS):
            kept = fold != number
            predicted[~kept] = terms[~kept] @ _ridge(terms[kept], scores[kept], penalty)
        return predicted - predicted[:, [best]]

    errors = {penalty: np.square(gains - predict(penalty)).sum(axis=0) for penalty in _PENALTIES}
    penalty = min(errors, key=lambda penalty: float(errors[penalty].sum()))
    spread = np.square(gains - gains.mean(axis=0)).sum(axis=0)
    explained = np.full(scores.shape[1], np.nan)
    varies = spread > 1e-9 * np.square(scores).sum()
    explained[varies] = 1 - errors[penalty][varies] / spread[varies]
    return Emulator(names, centre, scale, _ridge(terms, scores, penalty), explained)


def _terms(values: Floats) -> Floats:
    """1, each parameter, and its square, shape (rows, terms)."""
    import numpy as np

    return np.hstack([np.ones((len(values), 1)), values, values**2 - 1])


def _ridge(terms: Floats, scores: Floats, penalty: float) -> Floats:
    import numpy as np

    shrunk = penalty * len(terms) * np.eye(terms.shape[1])
    shrunk[0, 0] = 0
    return np.asarray(np.linalg.solve(terms.T @ terms + shrunk, terms.T @ scores), np.float64)
