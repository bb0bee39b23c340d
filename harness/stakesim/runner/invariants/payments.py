"""INV-01 to INV-04: what the contract holds, and what hosts and attendees pay into it."""

from __future__ import annotations

from collections.abc import Iterator

from stakesim.runner.causes import Cause
from stakesim.runner.invariants.registry import Violation, invariant, stake_of
from stakesim.runner.step import Step
from stakesim.scenario.actions import Book, CreateRun


@invariant("INV-01", "conservation", "all wei paid in = all wei paid out + contract balance")
def _conservation(s: Step) -> Iterator[Violation]:
    into_wallets = s.after.into_wallets(s.initial, s.gas_paid)
    into_contract = s.after.balance - s.initial.balance
    if into_wallets + into_contract != 0:
        yield Violation("the contract does not hold what was paid in and not paid out", -into_wallets, into_contract)


@invariant(
    "INV-02",
    "solvency",
    "contract balance >= everything owed: payments and stakes of active bookings, stakes of open runs, credits, "
    "platform balance; equal unless ether was forced in",
)
def _solvency(s: Step) -> Iterator[Violation]:
    owed = s.after.owed
    if s.after.balance < owed:
        yield Violation("the contract owes more than it holds", owed, s.after.balance, cause=Cause.INSOLVENT)
    elif s.after.balance != owed + s.model.forced_wei:
        yield Violation("the contract holds wei that belong to nobody", owed + s.model.forced_wei, s.after.balance)
    if s.after.terms and s.after.liabilities != owed:
        yield Violation("totalLiabilities is not the sum of what is owed", owed, s.after.liabilities)


@invariant("INV-03", "host stake", "host stake = floor(price x max seats x 20%)")
def _host_stake(s: Step) -> Iterator[Violation]:
    for run in s.after.runs.values():
        due = stake_of(run.price * run.max_seats, s)
        if run.host_stake != due:
            yield Violation(f"run {run.id}: wrong host stake", due, run.host_stake)
    if s.ok and isinstance(s.action, CreateRun):
        for event in s.events("EventRunCreated"):
            due = stake_of(event.args["price_per_seat"] * event.args["max_seats"], s)
            message = f"run {event.args['event_run_id']}: the host stake paid in is not the one due"
            yield from _wrong_payments(s, due, message)


@invariant("INV-04", "booking", "payment = price x seats; stake = floor(payment x 20%); the sender paid exactly both")
def _booking(s: Step) -> Iterator[Violation]:
    yield from _booking_amounts(s)
    yield from _quoted_costs(s)
    if s.ok and isinstance(s.action, Book):
        for event in s.events("BookingCreated"):
            run = s.after.runs.get(event.args["event_run_id"])
            payment = run.price * event.args["seat_count"] if run else 0
            message = f"booking {event.args['booking_id']}: the wei paid in are not those due"
            yield from _wrong_payments(s, payment + stake_of(payment, s), message)


def _booking_amounts(s: Step) -> Iterator[Violation]:
    for booking in s.after.bookings.values():
        run = s.after.runs.get(booking.run_id)
        if run is None:
            yield Violation(f"booking {booking.id} is of run {booking.run_id}, which does not exist")
            continue
        payment, stake = run.price * booking.seats, stake_of(booking.payment, s)
        if booking.payment != payment:
            yield Violation(f"booking {booking.id}: wrong payment", payment, booking.payment)
        if booking.stake != stake:
            yield Violation(f"booking {booking.id}: wrong stake", stake, booking.stake)


def _quoted_costs(s: Step) -> Iterator[Violation]:
    """Compares `calculateBookingCost` of one seat with price, stake and their sum."""
    for run_id, cost in s.after.seat_costs.items():
        price = s.after.runs[run_id].price
        stake = stake_of(price, s)
        due = (price, stake, price + stake)
        if cost != due:
            yield Violation(f"run {run_id}: calculateBookingCost of a seat is {cost}, and must be {due}")


def _wrong_payments(s: Step, due: int, message: str) -> Iterator[Violation]:
    """Parties that paid another amount in this step than due: `due` wei for the signer, nothing for anybody else."""
    for party in s.after.wallets:
        paid = -s.gain(party)
        party_due = due if party == s.expected.signer else 0
        if paid != party_due:
            yield Violation(f"{message} ({party})", party_due, paid, party)
