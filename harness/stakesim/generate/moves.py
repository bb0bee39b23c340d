"""The catalogue of moves: the actions that may be worth a try in a given state.

Random walks (`stakesim.search.walks`) and the stateful search (`stakesim.search.stateful`) choose from it. Ordinary
moves try what the rules allow, hostile ones what they forbid; the reference model decides how the action ends. Time
passes before every action, often until one second before, at, or after the moment at which something becomes allowed or
forbidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias

from stakesim.generate import hostile_actions as hostile
from stakesim.generate.draws import draw_between, pick
from stakesim.generate.hostile_actions import HostileKind, price_faults
from stakesim.generate.payment_draws import ODD_PAYMENTS
from stakesim.model.rates import PRICE_MAX_AGE
from stakesim.model.rules import MAX_SEATS
from stakesim.model.state import Run, RunStatus, State
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
    Wait,
    Withdraw,
    WithdrawFees,
)
from stakesim.units import DAY, HOUR

if TYPE_CHECKING:
    from numpy.random import Generator

PRICES_INR = ("2000", "19999.99", "0.01", "333.33", "1000000")
"""Prices of a seat in INR."""
USUAL_RATES = ("200000", "150000", "260000")
"""Rates in INR per ETH that lie within the allowed jump of each other."""
PAUSES = (60, 1, 60, HOUR, HOUR, DAY)
"""Seconds between two actions."""
WRONG_VALUES = (1, -1, 10**18)
"""Wei sent beyond what is due."""


MakeAction: TypeAlias = Callable[["Generator", State], Action]
Condition: TypeAlias = Callable[[State], bool]


@dataclass(frozen=True)
class Move:
    """A kind of action that can be made from a state.

    Attributes:
        name: Name for statistics.
        weight: How often the move is chosen, relative to the others that are possible.
        hostile: Whether the move tries what the rules forbid.
        kinds: Which kinds of the hostile catalogue the move makes.
        possible: Whether the move is worth a try in a state.
        make: Makes the action; its time is set by the caller.
    """

    name: str
    weight: int
    hostile: bool
    kinds: tuple[HostileKind, ...]
    possible: Condition
    make: MakeAction


MOVES: list[Move] = []


def _move(weight: int, possible: Condition = lambda _: True) -> Callable[[MakeAction], MakeAction]:
    """Adds the decorated function to `MOVES` as an ordinary move."""

    def add(make: MakeAction) -> MakeAction:
        MOVES.append(
            Move(make.__name__.removeprefix("_"), weight, hostile=False, kinds=(), possible=possible, make=make)
        )
        return make

    return add


def _hostile_move(*kinds: HostileKind, possible: Condition = lambda _: True) -> Callable[[MakeAction], MakeAction]:
    """Adds the decorated function to `MOVES` as a hostile move of these kinds."""

    def add(make: MakeAction) -> MakeAction:
        MOVES.append(Move(make.__name__.removeprefix("_"), 1, hostile=True, kinds=kinds, possible=possible, make=make))
        return make

    return add


def next_action_time(rng: Generator, state: State) -> int:
    """When the next action lands, in seconds from the scenario's start: after a pause, or close to a deadline."""
    coming = sorted({deadline for deadline in deadlines(state) if deadline > state.now + 1})
    if coming and draw_between(rng, 0, 4) == 4:
        return pick(rng, coming[:2]) + draw_between(rng, -1, 1) - state.epoch
    return state.now - state.epoch + pick(rng, PAUSES)


def deadlines(state: State) -> Iterator[int]:
    """Times at which something about an open run becomes allowed or forbidden, in seconds since 1970."""
    for run in state.runs.values():
        if run.open:
            yield run.start - state.terms.cancellation_cutoff
            yield run.start
            yield run.start + state.terms.completion_grace


# Conditions


def _has_runs(state: State) -> bool:
    return len(state.runs) > 0


def _has_bookings(state: State) -> bool:
    return len(state.bookings) > 0


def _has_open_run(state: State) -> bool:
    return any(run.open for run in state.runs.values())


def _bookable(run: Run, state: State) -> bool:
    """Whether seats can be booked, or could until a second ago."""
    return run.status == RunStatus.ACTIVE and state.now <= run.start + 1


def _completable(run: Run, state: State) -> bool:
    """Whether the run can be completed, or could a second earlier or later."""
    return run.open and run.start - 1 <= state.now <= run.start + state.terms.completion_grace


def _payers(state: State) -> list[str]:
    """Actors who pay the platform in INR."""
    return [name for name, actor in state.actors.items() if actor.pays == "platform"]


def _somebody_pays_inr(state: State) -> bool:
    return bool(_payers(state))


def _price_is_faulty(state: State) -> bool:
    reading = state.price_reading
    return reading is not None and (reading.as_of is not None or str(reading.rate) not in USUAL_RATES)


# Ordinary moves


@_move(6, lambda state: sum(run.open for run in state.runs.values()) < 3)
def _open_run(rng: Generator, state: State) -> Action:
    lead_time = pick(rng, (2 * DAY, 7 * DAY, HOUR, DAY))
    if state.terms.cancellation_cutoff > DAY:
        lead_time += pick(rng, (0, state.terms.cancellation_cutoff))
    return CreateRun(
        run=_new_run(state),
        by=pick(rng, [*state.actors]),
        price_inr=Decimal(pick(rng, PRICES_INR)),
        seats=pick(rng, (4, 1, 2, 7)),
        starts=state.now - state.epoch + lead_time + 2 * DAY,
    )


@_move(12, lambda state: any(_bookable(run, state) for run in state.runs.values()))
def _book(rng: Generator, state: State) -> Action:
    bookable = [run.label for run in state.runs.values() if _bookable(run, state)]
    return Book(
        booking=_new_booking(state),
        run=pick(rng, bookable),
        by=pick(rng, [*state.actors]),
        seats=draw_between(rng, 1, 3),
    )


@_move(3, lambda state: any(booking.active for booking in state.bookings.values()))
def _cancel_booking(rng: Generator, state: State) -> Action:
    return CancelBooking(booking=pick(rng, [b.label for b in state.bookings.values() if b.active]))


@_move(1, _has_open_run)
def _cancel_run(rng: Generator, state: State) -> Action:
    return CancelRun(run=_any_open_run(rng, state), by=pick(rng, (None, PLATFORM)))


@_move(8, lambda state: any(_completable(run, state) for run in state.runs.values()))
def _complete(rng: Generator, state: State) -> Action:
    run = state.runs[pick(rng, [r.label for r in state.runs.values() if _completable(r, state)])]
    attended = tuple(b.label for b in state.active_bookings_of(run) if draw_between(rng, 0, 1))
    return Complete(run=run.label, by=pick(rng, (None, PLATFORM)), attended=attended)


@_move(1, _has_open_run)
def _expire(rng: Generator, state: State) -> Action:
    return Expire(run=_any_open_run(rng, state), by=pick(rng, _signers(state)))


@_move(3, lambda state: bool(state.credits))
def _withdraw(rng: Generator, state: State) -> Action:
    creditors = [party for party, wei in state.credits.items() if wei and party != PLATFORM] or [*state.actors]
    by = pick(rng, creditors)
    return Withdraw(by=by, to=pick(rng, (None, *_signers(state))))


@_move(1, lambda state: state.platform_balance > 0)
def _withdraw_fees(rng: Generator, state: State) -> Action:
    return WithdrawFees()


@_move(1)
def _swing_price(rng: Generator, state: State) -> Action:
    return SetPrice(inr_per_eth=pick(rng, USUAL_RATES))


@_move(6, _price_is_faulty)
def _mend_price(rng: Generator, state: State) -> Action:
    return SetPrice(inr_per_eth=pick(rng, USUAL_RATES))


@_hostile_move()  # of no kind: profiles have `bad_feed` for it
def _spoil_price(rng: Generator, state: State) -> Action:
    """The feed breaks, or stops: then its rate gets too old by and by."""
    faults = price_faults(USUAL_RATES[0])
    kind = pick(rng, ("zero", "not a number", "negative", "stale", "stops"))
    if kind == "stops":
        return SetPrice(inr_per_eth=USUAL_RATES[0], age=PRICE_MAX_AGE - pick(rng, (0, 1, 2, 60)))
    return hostile.bad_price(faults[kind])


@_move(1)
def _wait(rng: Generator, state: State) -> Action:
    return Wait()


# Hostile moves


@_hostile_move("wrong_caller", "twice", possible=_has_runs)
def _meddle_with_run(rng: Generator, state: State) -> Action:
    """Anybody closes any run, open or not, at any time."""
    run, (by, direct) = pick(rng, [*state.runs]), _anybody(rng, state)
    kind = draw_between(rng, 0, 2)
    if kind == 0:
        return hostile.cancel_run(run, by, direct=direct)
    if kind == 1:
        return hostile.expire_run(run, by, direct=direct)
    attended = tuple(b.label for b in state.bookings_of(state.runs[run]) if draw_between(rng, 0, 1))
    return hostile.complete_run(run, by, attended, direct=direct)


@_hostile_move("wrong_caller", "twice", possible=_has_bookings)
def _meddle_with_booking(rng: Generator, state: State) -> Action:
    by, direct = _anybody(rng, state)
    return hostile.cancel_booking(pick(rng, [*state.bookings]), by, direct=direct)


@_hostile_move("wrong_list", possible=_has_bookings)
def _wrong_list(rng: Generator, state: State) -> Action:
    """The host reports who came, one of them twice; or somebody of another run, or who cancelled."""
    runs = [run for run in state.runs.values() if _completable(run, state)] or [*state.runs.values()]
    run = runs[draw_between(rng, 0, len(runs) - 1)]
    attended = [b.label for b in state.active_bookings_of(run) if draw_between(rng, 0, 2)]
    wrong = pick(rng, attended or [*state.bookings] if draw_between(rng, 0, 1) else [*state.bookings])
    attended.insert(draw_between(rng, 0, len(attended)), wrong)
    return hostile.wrong_list(run.label, tuple(attended))


@_hostile_move(possible=_somebody_pays_inr)  # of no kind: profiles have `odd_payment` for it
def _open_run_and_pay_oddly(rng: Generator, state: State) -> Action:
    return CreateRun(
        run=_new_run(state),
        by=pick(rng, _payers(state)),
        price_inr=Decimal(2000),
        seats=pick(rng, (2, 1)),
        starts=state.now - state.epoch + 4 * DAY,
        payment=pick(rng, ODD_PAYMENTS),
    )


@_hostile_move(possible=lambda state: _has_runs(state) and _somebody_pays_inr(state))
def _book_and_pay_oddly(rng: Generator, state: State) -> Action:
    run, by = pick(rng, [*state.runs]), pick(rng, _payers(state))
    return Book(booking=_new_booking(state), run=run, by=by, seats=1, payment=pick(rng, ODD_PAYMENTS))


@_hostile_move("impossible_run")
def _impossible_run(rng: Generator, state: State) -> Action:
    fault = pick(rng, hostile.run_faults(state.now - state.epoch))
    return hostile.impossible_run(_new_run(state), pick(rng, [*state.actors]), fault)


@_hostile_move("impossible_booking", possible=_has_runs)
def _any_booking(rng: Generator, state: State) -> Action:
    by = pick(rng, [*state.actors])
    run = pick(rng, [*state.runs])
    return hostile.impossible_booking(_new_booking(state), run, by, pick(rng, (1, 0, MAX_SEATS)))


@_hostile_move("wrong_value")
def _wrong_value_for_a_run(rng: Generator, state: State) -> Action:
    by, value_off = pick(rng, _signers(state)), pick(rng, WRONG_VALUES)
    starts = state.now - state.epoch + 10 * DAY
    return hostile.wrong_value_for_run(_new_run(state), by, value_off, price_inr=Decimal(2000), seats=2, starts=starts)


@_hostile_move("wrong_value", possible=_has_runs)
def _wrong_value_for_a_booking(rng: Generator, state: State) -> Action:
    value_off = pick(rng, WRONG_VALUES)
    run, by = pick(rng, [*state.runs]), pick(rng, _signers(state))
    return hostile.wrong_value_for_booking(_new_booking(state), run, by, value_off)


@_hostile_move("grab_fees", "grab_credit")
def _grab(rng: Generator, state: State) -> Action:
    by, direct = _anybody(rng, state)
    if draw_between(rng, 0, 1):
        return hostile.grab_fees(by, direct=direct)
    return hostile.grab_credit(by, to=pick(rng, (None, PLATFORM)))


@_hostile_move("force_ether")
def _force_ether(rng: Generator, state: State) -> Action:
    return hostile.force_ether(pick(rng, _signers(state)), pick(rng, (1, 10**17)))


# What moves choose from


def _any_open_run(rng: Generator, state: State) -> str:
    return pick(rng, [run.label for run in state.runs.values() if run.open])


def _signers(state: State) -> list[str]:
    """Actors with a key of their own."""
    return [name for name, actor in state.actors.items() if actor.wallet == "own" and not actor.is_contract]


def _anybody(rng: Generator, state: State) -> tuple[str, bool]:
    """Any actor, and whether they bypass the backend, which needs a key of their own."""
    by = pick(rng, [*state.actors])
    return by, by in _signers(state) and bool(draw_between(rng, 0, 1))


def _new_run(state: State) -> str:
    """A label that no other run has, as no two actions have the same time."""
    return f"run{state.now - state.epoch}"


def _new_booking(state: State) -> str:
    return f"b{state.now - state.epoch}"
