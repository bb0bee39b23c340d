"""What a person with a few hundred bookings of their own can decide, and what they can't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stakesim.decisions.calibrate import calibrate
from stakesim.decisions.synthetic import USUAL_PEOPLE, synthetic_bookings
from stakesim.population.behaviours import Cancel, HostCancels
from stakesim.population.measured_people import Demand, NoShowByRun

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.decisions import Posterior

KEY_PARAMETERS = ("no-show rate", "no-show elasticity", "demand elasticity")
STAKES_OF_DATA: Mapping[str, tuple[int, ...]] = {"20% alone": (2_000,), "0 and 50% in turn": (0, 5_000)}
"""Stakes under which bookings may have been made, in basis points."""


def truth() -> dict[str, float]:
    """The parameters of the synthetic platform that bookings tell, by name."""
    demand, no_show, cancel, hosts = USUAL_PEOPLE
    assert isinstance(demand, Demand)
    assert isinstance(no_show, NoShowByRun)
    assert isinstance(cancel, Cancel)
    assert isinstance(hosts, HostCancels)
    return {
        "no-show rate": no_show.rate,
        "no-show elasticity": no_show.elasticity,
        "no-show spread of runs": no_show.spread,
        "no-show spread of experiences": no_show.experience_spread,
        "demand spread of runs": demand.spread,
        "demand spread of experiences": demand.experience_spread,
        "demand elasticity": demand.elasticity,
        "price elasticity": demand.price_elasticity,
        "early bookings": demand.early,
        "late bookings": demand.late,
        "daily cancellations": cancel.daily,
        "daily cancellations near": cancel.daily_near,
        "host cancels": hosts.chance,
    }


def against_truth(posterior: Posterior) -> pd.DataFrame:
    """A row for each parameter of the synthetic platform: the truth, the posterior, and whether its 95% holds it."""
    import pandas as pd

    summary = posterior.summary()
    true = pd.Series(truth(), name="truth")
    table = summary.loc[true.index, ["median", "low", "high", "learnt"]].assign(truth=true)
    return table.assign(inside=(table.low <= table.truth) & (table.truth <= table.high))


def learning_curve(runs: Sequence[int], seed: int, *, draws: int = 400) -> pd.DataFrame:
    """Calibrates larger and larger synthetic data sets, with one stake and with two.

    Args:
        runs: Numbers of runs.
        seed: Seed of the bookings.
        draws: Draws of each posterior.

    Returns:
        A row for each number of runs, way of choosing stakes, and parameter: `bookings`, `learnt`, `low` and `high`.
    """
    import pandas as pd

    rows = []
    for name, stakes in STAKES_OF_DATA.items():
        for count in runs:
            posterior = calibrate(synthetic_bookings(runs=count, stakes=stakes, seed=seed), draws=draws, seed=seed)
            summary = posterior.summary()
            for parameter in KEY_PARAMETERS:
                values = summary.loc[parameter]
                rows.append(
                    {
                        "stakes": name,
                        "runs": count,
                        "bookings": posterior.counts["bookings"],
                        "parameter": parameter,
                        "learnt": values["learnt"],
                        "low": values["low"],
                        "high": values["high"],
                    }
                )
    return pd.DataFrame(rows)
