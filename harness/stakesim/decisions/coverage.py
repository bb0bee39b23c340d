"""Coverage: how often the posterior's intervals hold the parameters that synthetic bookings were made with.

If the parameters are drawn from the priors, a 95% interval of a right calibration holds them in 95% of data sets,
whatever the bookings are (S. Talts et al. 2018, simulation-based calibration). With fixed parameters the shares may
differ a little: that is the priors' doing.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from stakesim.decisions.calibrate import calibrate
from stakesim.decisions.priors import DEMAND_PRIORS, HAZARD_MEANS, HAZARD_SHAPE, HOST_CANCELS, NO_SHOW_PRIORS
from stakesim.decisions.synthetic import RUNS_EACH, USUAL_POPULATION, synthetic_bookings
from stakesim.economics.intervals import wilson_interval
from stakesim.population.behaviours import AnyBehaviour, Cancel, HostCancels
from stakesim.population.measured_people import Demand, NoShowByRun, most_people
from stakesim.population.streams import stream
from stakesim.units import DAY

if TYPE_CHECKING:
    import pandas as pd

LEVELS = (0.5, 0.8, 0.95)
PARTY = (0.5, 0.4, 0.1)
_REFERENCE_INR = Decimal(800)
_MOST_DEMAND = 150.0
"""People of a run, beyond which a run of the synthetic platform is only sold out."""


def draw_truth(seed: int) -> dict[str, float]:
    """Draws all parameters that bookings tell from their priors."""
    rng = stream(seed, "truth")
    truth = {}
    for name, prior in {**NO_SHOW_PRIORS, **DEMAND_PRIORS}.items():
        truth[name] = float(prior.from_scale(prior.centre + prior.deviation * rng.standard_normal()))
    for name, mean in HAZARD_MEANS.items():
        truth[name] = float(min(rng.gamma(HAZARD_SHAPE, mean / HAZARD_SHAPE), 1.0))
    truth["host cancels"] = float(rng.beta(*HOST_CANCELS))
    return truth


def people_of(truth: dict[str, float]) -> tuple[AnyBehaviour, ...]:
    """The people with these parameters, in experiences of `RUNS_EACH` runs."""
    return (
        Demand(
            mean=min(truth["demand"], _MOST_DEMAND),
            spread=truth["demand spread of runs"],
            experience_spread=truth["demand spread of experiences"],
            elasticity=truth["demand elasticity"],
            price_elasticity=truth["price elasticity"],
            price_inr=_REFERENCE_INR,
            early=truth["early bookings"],
            late=truth["late bookings"],
            party=PARTY,
            runs_each=RUNS_EACH,
        ),
        NoShowByRun(
            rate=truth["no-show rate"],
            elasticity=truth["no-show elasticity"],
            spread=truth["no-show spread of runs"],
            experience_spread=truth["no-show spread of experiences"],
            runs_each=RUNS_EACH,
        ),
        Cancel(daily=truth["daily cancellations"], daily_near=truth["daily cancellations near"], observed_cutoff=DAY),
        HostCancels(chance=truth["host cancels"]),
    )


def coverage(
    data_sets: int,
    seed: int,
    *,
    runs: int = 30,
    stakes: Sequence[int] = (2_000, 0),
    truth: dict[str, float] | None = None,
    draws: int = 500,
) -> pd.DataFrame:
    """Calibrates many synthetic data sets, and counts how often intervals hold the truth.

    Args:
        data_sets: Number of data sets.
        seed: Seed of the first of them; the others have the seeds after it.
        runs: Runs of each.
        stakes: Stakes in basis points, which the runs have in turn.
        truth: Parameters of all data sets; None: drawn from the priors, for each anew.
        draws: Draws of each posterior.

    Returns:
        A row for each parameter: the share of data sets in which the central 50, 80 and 95% of the posterior hold it,
        and the 95% interval of the last share.
    """
    import numpy as np
    import pandas as pd

    shares: dict[str, list[float]] = {}
    for number in range(seed, seed + data_sets):
        true = truth or draw_truth(number)
        people = people_of(true)
        demand = people[0]
        assert isinstance(demand, Demand)
        places = min(most_people(demand, [float(price) for price in USUAL_POPULATION.price_inr]), 490)
        population = USUAL_POPULATION.model_copy(update={"attendees": (places, places)})
        bookings = synthetic_bookings(people, runs=runs, stakes=stakes, seed=number, population=population)
        if not bookings.booked_at.notna().any():
            continue
        posterior = calibrate(bookings, draws=draws, seed=number)
        # the reference price of the data is not the one of the truth
        shift = (float(posterior.price_inr) / float(_REFERENCE_INR)) ** -true["price elasticity"]
        for name, value in true.items():
            values = np.asarray(posterior.parameters[name])
            wanted = min(value, _MOST_DEMAND) * shift if name == "demand" else value
            shares.setdefault(name, []).append(float((values < wanted).mean() + (values == wanted).mean() / 2))
    rows = {}
    for name, ranks in shares.items():
        inside = {level: sum(abs(rank - 0.5) <= level / 2 for rank in ranks) for level in LEVELS}
        low, high = wilson_interval(inside[0.95], len(ranks))
        rows[name] = {f"{level:.0%}": inside[level] / len(ranks) for level in LEVELS}
        rows[name] |= {"95% from": low, "95% to": high, "data sets": len(ranks)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")
