"""Variants of an action: options that disturb it, and arguments at the boundaries of a state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from stakesim.generate.draws import draw_between, pick
from stakesim.generate.payment_draws import ODD_PAYMENTS
from stakesim.model.rules import MAX_SEATS
from stakesim.model.state import Run, State
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    Book,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    SetPrice,
    Withdraw,
    WithdrawFees,
)
from stakesim.units import DAY, HOUR

if TYPE_CHECKING:
    from numpy.random import Generator

PRICES_INR = ("2000", "19999.99", "333.33", "0.01", "1", "1000000")
RATES = ("200000", "150000", "260000", "600000", "66666.67", "600000.01", "0", "NaN")
AGES = (0, 0, HOUR - 60, HOUR - 2, HOUR - 1, HOUR)  # old by the next action, which comes 1, 2 or 60 s later
LEAD_TIMES = (DAY, 2 * DAY, 7 * DAY, HOUR, DAY + 1, DAY - 1, 1, 0, 400 * DAY)
_KEYED = (CreateRun, Book, CancelBooking, CancelRun, Complete, Expire)
"""Actions that the backend takes an idempotency key for."""
_REORGANISED = (*_KEYED, WithdrawFees)
_PLAIN: Mapping[str, Any] = {
    **dict.fromkeys(("direct", "pending", "retried", "answer_lost", "feed_moves"), False),
    **{"reorganised": None, "payment": "in_time"},
}
"""Options of actions, with the value that each has if it is left out."""

_ALONE = 0.7
"""Probability that a disturbance is left out beside another one."""

Option: TypeAlias = tuple[str, str, Any]
"""An action's kind, and the name and value of one of its options."""
Tried: TypeAlias = Counter[Option]
"""How often actions with each option succeeded."""


def options_of(action: Action) -> Iterator[Option]:
    """The options of an action that are set, as `Tried` counts them."""
    for name in _PLAIN:
        value = getattr(action, name, _PLAIN[name])
        if value != _PLAIN[name]:
            yield action.do, name, value


def draw_options(
    rng: Generator, action: Action, tried: Tried, fits: Callable[[Mapping[str, Any]], bool]
) -> dict[str, Any]:
    """Another way in which client, network, chain, feed or payer behave; or the actor goes past the backend.

    Disturbances come together: what is found is made short afterwards.

    Args:
        rng: The source of randomness.
        action: The action.
        tried: How often each option of each kind of action was tried. Options are drawn by rarity.
        fits: Whether the action may have these options.

    Returns:
        New values for all options; none if no option fits.
    """
    disturbed = [way for way in _disturbances(action) if fits(_without_options(action) | way)]
    past: list[dict[str, Any]] = []
    if isinstance(action, (*_REORGANISED, Withdraw)):
        past.append({"direct": True})
    if isinstance(action, _KEYED):
        past.append({"direct": True, "pending": True})
    if isinstance(action, CreateRun | Book):
        past.append({"payment": pick(rng, ODD_PAYMENTS)})
    ways = [*disturbed, *(way for way in past if fits(_without_options(action) | way))]
    if not ways:
        return {}
    weights = [1 / (1 + min(tried[action.do, name, value] for name, value in way.items())) for way in ways]
    chosen = ways[_weighted(rng, weights)]
    if chosen in disturbed:
        for way in disturbed:
            chosen = chosen if rng.random() < _ALONE else way | chosen
    return _without_options(action) | chosen


def _without_options(action: Action) -> dict[str, Any]:
    return {name: value for name, value in _PLAIN.items() if hasattr(action, name)}


def _disturbances(action: Action) -> Iterator[dict[str, Any]]:
    """Single options that may be combined."""
    if isinstance(action, _KEYED):
        yield from ({"retried": True}, {"answer_lost": True})
    if isinstance(action, _REORGANISED):
        yield from ({"reorganised": "moved"}, {"reorganised": "dropped"})
    if isinstance(action, CreateRun | Book):
        yield {"feed_moves": True}


def _weighted(rng: Generator, weights: Sequence[float]) -> int:
    """Draws a position by the weights."""
    point = rng.random() * sum(weights)
    for position, weight in enumerate(weights):
        point -= weight
        if point <= 0:
            return position
    return len(weights) - 1


def draw_arguments(rng: Generator, action: Action, state: State) -> dict[str, Any]:
    """A boundary value for one of the action's arguments."""
    choices = list(_argument_choices(rng, action, state))
    return pick(rng, choices) if choices else {}


def _argument_choices(rng: Generator, action: Action, state: State) -> Iterator[dict[str, Any]]:
    if hasattr(action, "by"):
        yield {"by": pick(rng, (PLATFORM, *state.actors))}
    match action:
        case CreateRun():
            yield {"price_inr": pick(rng, PRICES_INR)}
            yield {"seats": pick(rng, (1, 2, 3, 7, 0, MAX_SEATS, MAX_SEATS + 1))}
            yield {"starts": state.now + pick(rng, LEAD_TIMES)}
            yield {"starts": state.now + draw_between(rng, 1, 30 * DAY)}
        case Book():
            run = state.runs.get(action.run)
            left = run.max_seats - run.seats_booked if run else 1
            yield {"seats": pick(rng, (left, left, max(left - 1, 0), left + 1, 1, 2, 0))}
            if state.runs:
                yield {"run": pick(rng, [*state.runs])}
        case Complete():
            yield {"attended": _attended(rng, state, state.runs.get(action.run))}
            yield {"attended": _attended(rng, state, state.runs.get(action.run))}
        case SetPrice():
            yield {"inr_per_eth": pick(rng, RATES), "age": pick(rng, AGES)}
        case Withdraw():
            with_wallets = [name for name, actor in state.actors.items() if actor.wallet == "own"]
            yield {"to": pick(rng, (None, PLATFORM, *with_wallets))}


def _attended(rng: Generator, state: State, run: Run | None) -> tuple[str, ...]:
    """An attendance list: some, all or none; now and then somebody twice, or of anywhere."""
    booked = [one.label for one in state.active_bookings_of(run)] if run else []
    some = [label for label in booked if draw_between(rng, 0, 1)]
    lists = [some, some, booked, [], booked[:1], booked[1:]]
    if state.bookings:
        lists += [[*some, pick(rng, [*state.bookings])]]
    return tuple(pick(rng, lists))
