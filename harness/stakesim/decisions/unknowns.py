"""Which unknown matters most for a decision: Sobol indices by SALib, and the value of knowing each parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from stakesim.decisions.emulator import Emulator
from stakesim.decisions.information import information, perfect_information
from stakesim.errors import NotInstalled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

BASE_SAMPLES = 1_024
"""Base samples of Saltelli's scheme, a power of 2."""


def unknowns(emulator: Emulator, table: pd.DataFrame, best: int, other: int, seed: int) -> pd.DataFrame:
    """Ranks parameters by what they matter for the decision.

    Args:
        emulator: Scores as functions of the parameters.
        table: Draws of the parameters, a row each.
        best: Number of the best policy.
        other: Number of the policy that it is compared with.
        seed: Seed of Saltelli's samples.

    Returns:
        A row for each parameter: `worth_inr`, the value of knowing it before deciding, in INR a season; and Sobol's
        `first` and `total` index of the gain of the best policy over the other, with half widths of their 95%
        intervals. Indices treat the parameters as independent.

    Raises:
        NotInstalled: SALib is missing.
    """
    import numpy as np
    import pandas as pd

    scores = emulator(table)
    values = table[list(emulator.names)]
    everything = perfect_information(scores)
    worth = [min(information(scores, values[[name]].rank().to_numpy(float)), everything) for name in emulator.names]
    quantiles = {name: np.sort(values[name].to_numpy(float)) for name in emulator.names}

    def gain(shares: Floats) -> Floats:
        points = {name: np.quantile(quantiles[name], shares[:, i]) for i, name in enumerate(emulator.names)}
        at = emulator(pd.DataFrame(points))
        result: Floats = at[:, best] - at[:, other]
        return result

    indices = sobol_indices(gain, emulator.names, seed)
    return indices.assign(worth_inr=worth).sort_values("total", ascending=False)


def sobol_indices(function: Callable[[Floats], Floats], names: Sequence[str], seed: int) -> pd.DataFrame:
    """Sobol's first and total indices of a function of independent uniform inputs between 0 and 1.

    Args:
        function: From inputs of shape (samples, inputs) to shape (samples,).
        names: Names of the inputs.
        seed: Seed of the samples.

    Returns:
        A row for each input: `first`, `first_half_width`, `total` and `total_half_width`.

    Raises:
        NotInstalled: SALib is missing.
    """
    import numpy as np
    import pandas as pd

    try:
        from SALib.analyze import sobol as analysis
        from SALib.sample import sobol as sampling
    except ImportError:
        raise NotInstalled("A Sobol index", "SALib", "decide") from None
    problem = {"num_vars": len(names), "names": list(names), "bounds": [[0.0, 1.0]] * len(names)}
    samples = sampling.sample(problem, BASE_SAMPLES, calc_second_order=False, seed=seed)
    values = function(samples)
    if float(np.ptp(values)) == 0:
        zero = [0.0] * len(names)
        found = {"S1": zero, "S1_conf": zero, "ST": zero, "ST_conf": zero}
    else:
        found = analysis.analyze(problem, values, calc_second_order=False, seed=seed)
    columns = {"first": "S1", "first_half_width": "S1_conf", "total": "ST", "total_half_width": "ST_conf"}
    return pd.DataFrame({name: found[key] for name, key in columns.items()}, index=pd.Index(names, name="parameter"))
