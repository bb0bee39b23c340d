"""What can be done at any moment of a long run: the moves of the fuzzer and of the stateful search.

A move has a weight, a condition under which it is worth a try, and a function that makes an action of it. Most moves
try what the rules allow, and the hostile ones what they forbid; what comes of either is for the model to say. Time
passes before every action, often to one second before, at or after a moment at which something begins or ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, TypeVar

from stakesim.model.reference import MAX_SEATS, Run, RunStatus, State
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    Book,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    ForceEther,
    SetPrice,
    Wait,
    Withdraw,
    WithdrawFees,
)
from stakesim.schema.fields import UNITS

if TYPE_CHECKING:
    pass

HOUR, DAY = UNITS["h"], UNITS["d"]
PRICES_INR = ("2000", "19999.99", "0.01", "333.33", "1000000")
SANE_RATES = ("200000", "150000", "260000")
"""INR for one ETH."""
PAUSES = (60, 1, 60, HOUR, HOUR, DAY)
"""Seconds."""
T = TypeVar("T")


class ChoiceSource(Protocol):
    """Where choices come from: a random generator, or Hypothesis, which can shrink them."""

    def integer(self, low: int, high: int) -> int:
        """Both ends included."""

    def choice(self, items: Sequence[T]) -> T: ...


@dataclass(frozen=True)
class Move:
    """name: for statistics. weight: how often it is chosen, beside the others that are possible."""

    name: str
    weight: int
    hostile: bool
    possible: Callable[[State], bool]
    make: Callable[[ChoiceSource, State], Action]


MOVES: list[Move] = []


def _move(
    weight: int, possible: Callable[[State], bool] = lambda state: True, hostile: bool = False
) -> Callable[[Callable[[ChoiceSource, State], Action]], Callable[[ChoiceSource, State], Action]]:
    def enter(make: Callable[[ChoiceSource, State], Action]) -> Callable[[ChoiceSource, State], Action]:
        MOVES.append(Move(make.__name__, weight, hostile, possible, make))
        return make

    return enter


def next_action_time(chance: ChoiceSource, state: State) -> int:
    """When the next action lands, in seconds from the scenario's start: after a pause, or about an edge in time."""
    edges = sorted({edge for edge in _edges(state) if edge > state.now + 1})
    if edges and chance.integer(0, 4) == 4:
        return chance.choice(edges[:2]) + chance.integer(-1, 1) - state.epoch
    return state.now - state.epoch + chance.choice(PAUSES)


def _edges(state: State) -> Iterator[int]:
    for run in state.runs.values():
        if run.open:
            yield run.start - state.terms.cancellation_cutoff
            yield run.start
            yield run.start + state.terms.completion_grace


# The moves; those without `hostile` are what an ordinary season is made of


@_move(6, lambda s: sum(run.open for run in s.runs.values()) < 3)
def open_run(chance: ChoiceSource, state: State) -> Action:
    lead = chance.choice((2 * DAY, 7 * DAY, HOUR, DAY))
    return CreateRun(
        run=_new_run(state),
        by=chance.choice([*state.actors]),
        price_inr=Decimal(chance.choice(PRICES_INR)),
        seats=chance.choice((4, 1, 2, 7)),
        starts=state.now - state.epoch + lead + 2 * DAY,
    )


@_move(12, lambda s: any(_bookable(run, s) for run in s.runs.values()))
def book(chance: ChoiceSource, state: State) -> Action:
    active = [run.label for run in state.runs.values() if _bookable(run, state)]
    return Book(
        booking=_new_booking(state),
        run=chance.choice(active),
        by=chance.choice([*state.actors]),
        seats=chance.integer(1, 3),
    )


@_move(3, lambda s: any(booking.active for booking in s.bookings.values()))
def cancel_booking(chance: ChoiceSource, state: State) -> Action:
    return CancelBooking(booking=chance.choice([b.label for b in state.bookings.values() if b.active]))


@_move(1, lambda s: any(run.open for run in s.runs.values()))
def cancel_run(chance: ChoiceSource, state: State) -> Action:
    return CancelRun(run=_open(chance, state), by=chance.choice((None, PLATFORM)))


@_move(8, lambda s: any(_completable(run, s) for run in s.runs.values()))
def complete(chance: ChoiceSource, state: State) -> Action:
    run = state.runs[chance.choice([r.label for r in state.runs.values() if _completable(r, state)])]
    attended = tuple(b.label for b in state.active_bookings_of(run) if chance.integer(0, 1))
    return Complete(run=run.label, by=chance.choice((None, PLATFORM)), attended=attended)


@_move(1, lambda s: any(run.open for run in s.runs.values()))
def expire(chance: ChoiceSource, state: State) -> Action:
    return Expire(run=_open(chance, state), by=chance.choice(_signers(state)))


@_move(3, lambda s: bool(s.credits))
def withdraw(chance: ChoiceSource, state: State) -> Action:
    owed = [party for party, wei in state.credits.items() if wei and party != PLATFORM] or [*state.actors]
    by = chance.choice(owed)
    return Withdraw(by=by, to=chance.choice((None, *_signers(state))))


@_move(1, lambda s: s.platform_balance > 0)
def withdraw_fees(chance: ChoiceSource, state: State) -> Action:
    return WithdrawFees()


@_move(1)
def swing_price(chance: ChoiceSource, state: State) -> Action:
    return SetPrice(inr_per_eth=chance.choice(SANE_RATES))


@_move(6, lambda s: s.feed is not None and (s.feed.as_of is not None or str(s.feed.rate) not in SANE_RATES))
def mend_price(chance: ChoiceSource, state: State) -> Action:
    return SetPrice(inr_per_eth=chance.choice(SANE_RATES))


@_move(1, hostile=True)
def spoil_price(chance: ChoiceSource, state: State) -> Action:
    rate, age = chance.choice((("0", 0), ("NaN", 0), ("-1", 0), ("200000", 2 * HOUR)))
    return SetPrice(inr_per_eth=rate, age=age)


@_move(1)
def wait(chance: ChoiceSource, state: State) -> Action:
    return Wait()


@_move(1, lambda s: len(s.runs) > 0, hostile=True)
def meddle_with_run(chance: ChoiceSource, state: State) -> Action:
    """Anybody closes any run, at any time, open or not."""
    label, by, direct = chance.choice([*state.runs]), *_somebody(chance, state)
    kind = chance.integer(0, 2)
    if kind == 0:
        return CancelRun(run=label, by=by, direct=direct)
    if kind == 1:
        return Expire(run=label, by=by, direct=direct)
    attended = tuple(b.label for b in state.bookings_of(state.runs[label]) if chance.integer(0, 1))
    return Complete(run=label, by=by, attended=attended, direct=direct)


@_move(1, lambda s: len(s.bookings) > 0, hostile=True)
def meddle_with_booking(chance: ChoiceSource, state: State) -> Action:
    by, direct = _somebody(chance, state)
    return CancelBooking(booking=chance.choice([*state.bookings]), by=by, direct=direct)


@_move(1, lambda s: len(s.bookings) > 0, hostile=True)
def wrong_list(chance: ChoiceSource, state: State) -> Action:
    """The host ticks off whoever comes to mind, some of them twice."""
    bookings = [*state.bookings]
    attended = tuple(chance.choice(bookings) for _ in range(chance.integer(1, 3)))
    return Complete(run=chance.choice([*state.runs]), attended=attended)


@_move(1, hostile=True)
def impossible_run(chance: ChoiceSource, state: State) -> Action:
    """No seats, too many, or in the past."""
    now = state.now - state.epoch
    seats, starts = chance.choice(((0, now + DAY), (MAX_SEATS + 1, now + DAY), (2, 0)))
    by = chance.choice([*state.actors])
    return CreateRun(run=_new_run(state), by=by, price_inr=Decimal(2000), seats=seats, starts=starts)


@_move(1, lambda s: len(s.runs) > 0, hostile=True)
def any_booking(chance: ChoiceSource, state: State) -> Action:
    """Of a run in whatever state, no seats, or more than there are."""
    by = chance.choice([*state.actors])
    label = chance.choice([*state.runs])
    return Book(booking=_new_booking(state), run=label, by=by, seats=chance.choice((1, 0, MAX_SEATS)))


@_move(1, hostile=True)
def wrong_value_for_a_run(chance: ChoiceSource, state: State) -> Action:
    starts = state.now - state.epoch + 10 * DAY
    return CreateRun(
        run=_new_run(state),
        by=chance.choice(_signers(state)),
        price_inr=Decimal(2000),
        seats=2,
        starts=starts,
        value_off=chance.choice((1, -1, 10**18)),
        direct=True,
    )


@_move(1, lambda s: len(s.runs) > 0, hostile=True)
def wrong_value_for_a_booking(chance: ChoiceSource, state: State) -> Action:
    off = chance.choice((1, -1, 10**18))
    run, by = chance.choice([*state.runs]), chance.choice(_signers(state))
    return Book(booking=_new_booking(state), run=run, by=by, seats=1, value_off=off, direct=True)


@_move(1, hostile=True)
def grab(chance: ChoiceSource, state: State) -> Action:
    """Fees or a credit, by whoever has none."""
    by, direct = _somebody(chance, state)
    if chance.integer(0, 1):
        return WithdrawFees(by=by, direct=direct)
    return Withdraw(by=by, to=chance.choice((None, PLATFORM)))


@_move(1, hostile=True)
def force_ether(chance: ChoiceSource, state: State) -> Action:
    return ForceEther(by=chance.choice(_signers(state)), wei=chance.choice((1, 10**17)))


def _bookable(run: Run, state: State) -> bool:
    """About: up to a second too late."""
    return run.status == RunStatus.ACTIVE and state.now <= run.start + 1


def _completable(run: Run, state: State) -> bool:
    """About: from a second too early to a second too late."""
    return run.open and run.start - 1 <= state.now <= run.start + state.terms.completion_grace


def _open(chance: ChoiceSource, state: State) -> str:
    return chance.choice([run.label for run in state.runs.values() if run.open])


def _signers(state: State) -> list[str]:
    """Who has a key of their own."""
    return [name for name, one in state.actors.items() if one.wallet == "own" and not one.is_contract]


def _somebody(chance: ChoiceSource, state: State) -> tuple[str, bool]:
    """Anyone, and whether they go past the service, which takes a key."""
    by = chance.choice([*state.actors])
    return by, by in _signers(state) and bool(chance.integer(0, 1))


def _new_run(state: State) -> str:
    """A label that nothing has or had: no two actions have the same time."""
    return f"run{state.now - state.epoch}"


def _new_booking(state: State) -> str:
    return f"b{state.now - state.epoch}"
