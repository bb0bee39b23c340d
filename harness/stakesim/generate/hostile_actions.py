"""The catalogue of hostile actions: attempts at what the rules forbid, and actions that harm somebody.

Random campaigns (`agents.py`), and random walks and the stateful search (`moves.py`), build their hostile actions here.
The caller decides who acts, on which run or booking, and when; the reference model decides how the action ends.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from stakesim.model.reference import MAX_SEATS
from stakesim.scenario.actions import (
    Action,
    Book,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    ForceEther,
    SetPrice,
    Withdraw,
    WithdrawFees,
)
from stakesim.schema.fields import DAY, HOUR

HostileKind: TypeAlias = Literal[
    "wrong_caller",
    "wrong_value",
    "wrong_list",
    "on_the_edge",
    "twice",
    "grab_fees",
    "grab_credit",
    "force_ether",
    "impossible_run",
    "impossible_booking",
]
"""The kinds that a profile may name.

- wrong_caller: somebody without authority cancels a booking or closes a run.
- wrong_value: a run or a booking is paid with too many or too few wei.
- wrong_list: the host completes a run with bookings that can't be on the attendance list.
- on_the_edge: an ordinary action, one second before, at, or after the moment from which it is allowed or forbidden.
- twice: what is already final is closed once more.
- grab_fees, grab_credit: somebody withdraws the platform's fees, or a credit that they do not have.
- force_ether: ether is pushed into the contract, which can't refuse it.
- impossible_run: a run without seats, with too many, or with a start in the past.
- impossible_booking: a booking of a run in any status, of no seats or of more than there are.
"""


class PriceFault(NamedTuple):
    """A reading of the price feed that no quote may use.

    Attributes:
        inr_per_eth: The rate as the feed gives it.
        age: Seconds since the rate was true.
    """

    inr_per_eth: str
    age: int = 0


def price_faults(usual_rate: str) -> dict[str, PriceFault]:
    """The faults of a price feed by name.

    Args:
        usual_rate: A rate in INR per ETH that would be accepted.
    """
    return {
        "zero": PriceFault("0"),
        "negative": PriceFault("-1"),
        "not a number": PriceFault("NaN"),
        "infinite": PriceFault("Infinity"),
        "stale": PriceFault(usual_rate, age=2 * HOUR),
        "ten times": PriceFault(str(Decimal(usual_rate) * 10)),
    }


def bad_price(fault: PriceFault, at: int | None = None) -> Action:
    """The price feed gives a faulty rate."""
    return SetPrice(at=at, inr_per_eth=fault.inr_per_eth, age=fault.age)


def cancel_run(run: str, by: str, *, direct: bool, at: int | None = None) -> Action:
    """Somebody cancels a run, whether or not it is theirs."""
    return CancelRun(at=at, run=run, by=by, direct=direct)


def expire_run(run: str, by: str, *, direct: bool, at: int | None = None) -> Action:
    """Somebody lets a run expire, whether or not its grace period is over."""
    return Expire(at=at, run=run, by=by, direct=direct)


def complete_run(run: str, by: str, attended: tuple[str, ...], *, direct: bool, at: int | None = None) -> Action:
    """Somebody completes a run, whether or not it is theirs."""
    return Complete(at=at, run=run, by=by, attended=attended, direct=direct)


def cancel_booking(booking: str, by: str, *, direct: bool, at: int | None = None) -> Action:
    """Somebody cancels a booking, whether or not it is theirs."""
    return CancelBooking(at=at, booking=booking, by=by, direct=direct)


def wrong_list(run: str, attended: tuple[str, ...], *, at: int | None = None) -> Action:
    """The host reports bookings as attended that are listed twice, cancelled, or of another run."""
    return Complete(at=at, run=run, attended=attended)


def wrong_value_for_run(
    run: str, by: str, value_off: int, *, price_inr: Decimal, seats: int, starts: int, at: int | None = None
) -> Action:
    """Somebody opens a run with `value_off` wei too many, or too few. Always direct: the backend sends what is due."""
    return CreateRun(
        at=at, run=run, by=by, price_inr=price_inr, seats=seats, starts=starts, value_off=value_off, direct=True
    )


def wrong_value_for_booking(booking: str, run: str, by: str, value_off: int, *, at: int | None = None) -> Action:
    """Somebody books a seat with `value_off` wei too many, or too few. Always direct, as for a run."""
    return Book(at=at, booking=booking, run=run, by=by, seats=1, value_off=value_off, direct=True)


def grab_fees(by: str, *, direct: bool, at: int | None = None) -> Action:
    """Somebody withdraws the platform's fees."""
    return WithdrawFees(at=at, by=by, direct=direct)


def grab_credit(by: str, *, to: str | None = None, at: int | None = None) -> Action:
    """Somebody withdraws a credit that they may not have."""
    return Withdraw(at=at, by=by, to=to)


def force_ether(by: str, wei: int, *, at: int | None = None) -> Action:
    """Somebody pushes ether into the contract, which can't refuse it."""
    return ForceEther(at=at, by=by, wei=wei)


class RunFault(NamedTuple):
    """Terms of a run that the contract refuses.

    Attributes:
        seats: Seats of the run.
        starts: Start of the event, in seconds from the scenario's start.
    """

    seats: int
    starts: int


def run_faults(now: int) -> tuple[RunFault, ...]:
    """A run without seats, one with a seat too many, and one with a start in the past.

    Args:
        now: The time of the action, in seconds from the scenario's start.
    """
    return RunFault(0, now + DAY), RunFault(MAX_SEATS + 1, now + DAY), RunFault(2, 0)


def impossible_run(run: str, by: str, fault: RunFault, *, at: int | None = None) -> Action:
    """Somebody opens a run that the contract refuses."""
    return CreateRun(at=at, run=run, by=by, price_inr=Decimal(2000), seats=fault.seats, starts=fault.starts)


def impossible_booking(booking: str, run: str, by: str, seats: int, *, at: int | None = None) -> Action:
    """Somebody books seats of a run in any status: 0 seats, or more than there are."""
    return Book(at=at, booking=booking, run=run, by=by, seats=seats)
