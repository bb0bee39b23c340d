"""Synthetic bookings with known parameters: the people of a population, as the platform's records would show them.

They are made by the simulation itself, so that a calibration that recovers the parameters also shows that both are the
same model.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from stakesim.decisions.bookings import COLUMNS
from stakesim.model.state import RunStatus
from stakesim.population.behaviours import AnyBehaviour, Cancel, HostCancels
from stakesim.population.measured_people import Demand, NoShowByRun
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import CHUNK_SIZE, Population, draw, require_whole
from stakesim.population.state import NEVER, PopulationState
from stakesim.prices.price_models import Constant
from stakesim.schema.errors import InputError
from stakesim.units import DAY

if TYPE_CHECKING:
    import pandas as pd

FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
RUNS_EACH = 5
"""Runs of an experience."""
USUAL_PEOPLE: tuple[AnyBehaviour, ...] = (
    Demand(price_inr=Decimal(800), runs_each=RUNS_EACH, early=0.9, late=0.7, party=(0.5, 0.4, 0.1)),
    NoShowByRun(rate=0.15, elasticity=1.5, runs_each=RUNS_EACH),
    Cancel(),
    HostCancels(chance=0.04),
)
USUAL_POPULATION = Population(
    name="platform",
    story="Workshops and tours: 10 to 30 seats, on sale for one to five weeks.",
    seats=(10, 30),
    price_inr=(Decimal(400), Decimal(1_600)),
    lead_time=(7 * DAY, 35 * DAY),
    attendees=(70, 70),
    price=Constant(),
)


def synthetic_bookings(
    people: Sequence[AnyBehaviour] = USUAL_PEOPLE,
    *,
    runs: int = 30,
    stakes: Sequence[int] = (2_000,),
    seed: int = 0,
    first: int = 0,
    population: Population = USUAL_POPULATION,
) -> pd.DataFrame:
    """Returns the bookings of runs of a population, as in a CSV file of bookings.

    Args:
        people: How people behave.
        runs: Number of runs.
        stakes: Stakes in basis points; the runs have them in turn.
        seed: Seed of all random numbers.
        first: Number of the first run. One seed has CHUNK_SIZE runs; others are those of other seeds.
        population: The runs.

    Raises:
        InputError: There are no stakes, or not so many runs.
    """
    import pandas as pd

    require_whole("runs", runs, least=1)
    if not stakes or first + runs > CHUNK_SIZE:
        raise InputError(f"a seed has {CHUNK_SIZE} runs, and needs a stake; give other seeds for more runs")
    rows: list[dict[str, Any]] = []
    for number, bps in enumerate(stakes):
        terms = population.terms.model_copy(update={"stake_bps": bps})
        state = draw(population, seed, 0, terms, people).state
        rows += _rows(state, range(first + number, first + runs, len(stakes)), _runs_each(people))
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "order"]).sort_values(["order", "booked_at"], kind="stable")
    return frame.drop(columns="order").reset_index(drop=True)


def _runs_each(people: Sequence[AnyBehaviour]) -> int:
    return next((each.runs_each for each in people if isinstance(each, Demand | NoShowByRun)), 1)


def _rows(state: PopulationState, numbers: range, runs_each: int) -> list[dict[str, Any]]:
    outcomes = resolve_outcomes(state)
    rows = []
    for run in numbers:
        opened = FIRST_DAY + timedelta(days=run)
        common = {
            "run": f"run-{run + 1}",
            "experience": f"experience-{run // runs_each + 1}",
            "opened_at": opened,
            "starts_at": opened + timedelta(seconds=int(state.start[run])),
            "run_seats": int(state.seats[run]),
            "price_inr": Decimal(int(state.price_paise[run])) / 100,
            "stake_bps": state.terms.stake_bps,
            "order": run,
        }
        accepted = outcomes.accepted[:, run].nonzero()[0]
        if not len(accepted):
            rows.append(common | {"booked_at": None, "seats": 0, "outcome": "", "cancelled_at": None})
        for place in accepted:
            cancels_at = int(state.intents.cancels_at[place, run])
            if outcomes.cancelled[place, run] and cancels_at < NEVER:
                outcome = "cancelled"
            elif outcomes.final_status[run] == RunStatus.CANCELLED:
                outcome = "run_cancelled"
            else:
                outcome = "attended" if state.intents.reported_attended[place, run] else "no_show"
            rows.append(
                common
                | {
                    "booked_at": opened + timedelta(seconds=int(outcomes.booked_at[place, run])),
                    "seats": int(state.intents.seats[place, run]),
                    "outcome": outcome,
                    "cancelled_at": opened + timedelta(seconds=cancels_at) if outcome == "cancelled" else None,
                }
            )
    return rows
