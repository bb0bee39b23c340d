"""What the parties get in a season under each policy, for each draw of a posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from stakesim.decisions.question import Policy, Question
from stakesim.economics.settle import settle
from stakesim.model.state import RunStatus
from stakesim.population.exact_int import wei_to_paise
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import chunks_of, draw, first_runs
from stakesim.scenario.actions import Terms
from stakesim.units import BPS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from stakesim.decisions.posterior import Posterior
    from stakesim.population.population import Population
    from stakesim.population.state import PopulationState

    Floats: TypeAlias = NDArray[np.float64]

_PARTS = ("revenue", "forfeits", "attended_value", "attended", "bookings", "empty", "seats")


@dataclass(frozen=True)
class Outcomes:
    """Sums over seasons, each array of shape (draws, seasons, policies).

    Attributes:
        host: The host's profit in INR.
        platform: The platform's income less its costs in INR.
        attendees: What attending is worth less what attendees paid, in INR.
        empty: Seats in which nobody sat, of runs that took place.
        seats: All seats of these runs.
    """

    host: Floats
    platform: Floats
    attendees: Floats
    empty: Floats
    seats: Floats


def simulate_seasons(
    question: Question, posterior: Posterior, progress: Callable[[int], None] | None = None
) -> Outcomes:
    """Simulates the seasons of each draw under each policy; all policies meet the same people.

    Fee and split change no intent, so each stake and price is simulated once, and settled as every fee and split would:
    the host gets (1 - fee) of the revenue and the split of the forfeits, the platform the rest. The contract rounds to
    whole wei. A higher fee than today's makes hosts leave: the season then has (1 - fee) ^ `host exit` as many runs,
    against today.

    Args:
        question: What is asked.
        posterior: The draws.
        progress: Called with 1 after each draw.
    """
    import numpy as np

    policies = question.policies()
    seasons = question.runs // question.season
    shape = (len(posterior), seasons, len(policies))
    result = Outcomes(*(np.empty(shape) for _ in range(5)))
    for number in range(len(posterior)):
        parts = {}
        for factor in question.choices.price_factor:
            population = posterior.population(number, price_factor=factor, price=question.market)
            for stake in question.choices.stake_bps:
                terms = population.terms.model_copy(update={"stake_bps": stake})
                runs = _parts_of_runs(population, terms, seasons * question.season, question.seed, float(factor))
                parts[stake, factor] = runs.reshape(len(_PARTS), seasons, question.season).sum(axis=2)
        exit_elasticity = posterior.parameters["host exit"][number]
        for column, policy in enumerate(policies):
            _settle(
                result, (number, slice(None), column), question, policy, parts[policy.stake_bps, policy.price_factor],
                exit_elasticity,
            )  # fmt: skip
        if progress:
            progress(1)
    return result


def _parts_of_runs(population: Population, terms: Terms, count: int, seed: int, price_factor: float) -> Floats:
    """Of each run the `_PARTS`, shape (parts, runs): INR, seats, or bookings."""
    import numpy as np

    parts = []
    for number, runs in chunks_of(population, count):
        state = first_runs(draw(population, seed, number, terms), runs)
        parts.append(_parts_of(state, price_factor))
    return np.concatenate(parts, axis=1)


def _parts_of(state: PopulationState, price_factor: float) -> Floats:
    import numpy as np

    outcomes = resolve_outcomes(state)
    settlement = settle(state, outcomes)
    rate = state.rate_at(outcomes.closed_at)
    intents = state.intents
    took_place = outcomes.final_status == RunStatus.COMPLETED
    attended = (intents.seats * (outcomes.active & intents.intends_to_attend)).sum(axis=0) * took_place
    return np.array(
        [
            wei_to_paise(settlement.revenue, rate) / 100,
            wei_to_paise(settlement.forfeits, rate) / 100,
            attended * state.price_paise / 100 / price_factor,
            attended,
            outcomes.accepted.sum(axis=0),
            (state.seats - attended) * took_place,
            state.seats * took_place,
        ],
        np.float64,
    )


def _settle(
    result: Outcomes,
    place: tuple[int, slice, int],
    question: Question,
    policy: Policy,
    parts: Floats,
    exit_elasticity: float,
) -> None:
    """Writes what the parties get in each season of a draw under a policy."""
    revenue, forfeits, attended_value, attended, bookings, empty, seats = parts
    fee, split = policy.fee_bps / BPS, policy.forfeit_to_host_bps / BPS
    today = question.choices.fee_bps[0] / BPS
    runs = ((1 - fee) / (1 - today)) ** exit_elasticity
    result.host[place] = runs * ((1 - fee) * revenue + split * forfeits + question.extra_inr * attended)
    costs = question.booking_cost_inr * bookings + question.run_cost_inr * question.season
    result.platform[place] = runs * (fee * revenue + (1 - split) * forfeits - costs)
    result.attendees[place] = runs * (question.attendee_value * attended_value - revenue - forfeits)
    result.empty[place] = runs * empty
    result.seats[place] = runs * seats
