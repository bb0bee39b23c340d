"""What must hold after every step of every scenario: INV-01 to INV-20.

An invariant only looks: it never sends a transaction or moves time. Each is a function of one `Step` that yields a
`Violation` for whatever it finds wrong, and all are evaluated and reported together. The statements here are those of
INVARIANTS.md, word for word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from typing import Any

from stakesim.backend import NOT_STORED, Rows
from stakesim.model.reference import (
    BookingStatus,
    RunStatus,
    attended_booking_ids,
    liabilities,
)
from stakesim.runner.observe import ContractState, RunView
from stakesim.runner.parties import EXPERIENCE_ID
from stakesim.runner.step import Step
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
    Wait,
    Withdraw,
    WithdrawFees,
)

BPS = 10_000
PAISA = Decimal("0.01")
WEI_PER_ETH = 10**18
INEXACT = "the conversion between INR and wei is inexact"
"""What a violation says of such a conversion."""
NEAR = 10**6
"""A price is converted inexactly, and not at another rate, if it is off by less than one part in so many."""
AUTHORITY_ERRORS = ("NotAuthorized", "OwnableUnauthorizedAccount")


@dataclass(frozen=True)
class Violation:
    """expected, found: wei, where the trouble is an amount."""

    message: str
    expected: int | None = None
    found: int | None = None


Check = Callable[[Step], Iterator[Violation]]


@dataclass(frozen=True)
class Invariant:
    id: str
    title: str
    statement: str
    check: Check


INVARIANTS: dict[str, Invariant] = {}


def _invariant(id: str, title: str, statement: str) -> Callable[[Check], Check]:
    def enter(check: Check) -> Check:
        INVARIANTS[id] = Invariant(id, title, statement, check)
        return check

    return enter


def violations(step: Step) -> list[tuple[Invariant, Violation]]:
    """Everything that is wrong after this step."""
    return [(inv, violation) for inv in INVARIANTS.values() for violation in inv.check(step)]


def _stake(amount: int, step: Step) -> int:
    return amount * step.model.terms.stake_bps // BPS


# ------------------------------------------------------------------------------------------------------ money


@_invariant("INV-01", "conservation", "all wei paid in = all wei paid out + contract balance")
def conservation(s: Step) -> Iterator[Violation]:
    into_wallets = s.after.into_wallets(s.first, s.fees)
    held = s.after.balance - s.first.balance
    if into_wallets + held != 0:
        yield Violation("the contract does not hold what went in and did not come out", -into_wallets, held)


@_invariant(
    "INV-02",
    "solvency",
    "contract balance >= everything owed: payments and stakes of active bookings, stakes of open runs, credits, "
    "platform balance; equal unless ether was forced in",
)
def solvency(s: Step) -> Iterator[Violation]:
    if s.after.balance < s.after.owed:
        yield Violation("the contract owes more than it holds", s.after.owed, s.after.balance)
    elif s.after.balance != s.after.owed + s.model.forced:
        yield Violation("the contract holds wei that belong to nobody", s.after.owed + s.model.forced, s.after.balance)
    if s.after.terms and s.after.liabilities != s.after.owed:
        yield Violation("totalLiabilities is not the sum of what is owed", s.after.owed, s.after.liabilities)


@_invariant("INV-03", "host stake", "host stake = floor(price x max seats x 20%)")
def host_stake(s: Step) -> Iterator[Violation]:
    for run in s.after.runs.values():
        due = _stake(run.price * run.max_seats, s)
        if run.host_stake != due:
            yield Violation(f"run {run.id}: wrong host stake", due, run.host_stake)
    if s.ok and isinstance(s.action, CreateRun):
        for event in s.events("EventRunCreated"):
            due = _stake(event.args["price_per_seat"] * event.args["max_seats"], s)
            yield from _paid_in(s, due, f"run {event.args['event_run_id']}: the host stake paid in is not the one due")


@_invariant("INV-04", "booking", "payment = price x seats; stake = floor(payment x 20%); the sender paid exactly both")
def booking(s: Step) -> Iterator[Violation]:
    for b in s.after.bookings.values():
        run = s.after.runs.get(b.run_id)
        if run is None:
            yield Violation(f"booking {b.id} is of run {b.run_id}, which does not exist")
            continue
        if b.payment != run.price * b.seats:
            yield Violation(f"booking {b.id}: wrong payment", run.price * b.seats, b.payment)
        if b.stake != _stake(b.payment, s):
            yield Violation(f"booking {b.id}: wrong stake", _stake(b.payment, s), b.stake)
    for id, cost in s.after.costs.items():
        price = s.after.runs[id].price
        right = (price, _stake(price, s), price + _stake(price, s))
        if cost != right:
            yield Violation(f"run {id}: calculateBookingCost of a seat is {cost}, and must be {right}")
    if s.ok and isinstance(s.action, Book):
        for event in s.events("BookingCreated"):
            run = s.after.runs.get(event.args["event_run_id"])
            payment = run.price * event.args["seat_count"] if run else 0
            due = payment + _stake(payment, s)
            yield from _paid_in(s, due, f"booking {event.args['booking_id']}: the wei paid in are not those due")


def _paid_in(s: Step, due: int, message: str) -> Iterator[Violation]:
    """The signer paid `due` and nobody else paid or got anything."""
    for party in s.after.wallets:
        paid = -s.gain(party)
        owed = due if party == s.expected.signer else 0
        if paid != owed:
            yield Violation(f"{message} ({party})", owed, paid)


@dataclass(frozen=True)
class _Settlement:
    """What one step must pay, worked out from the picture before it. platform: wei its balance grows by."""

    due: Mapping[str, int]
    platform: int = 0


def _settlement(s: Step) -> _Settlement:
    due: dict[str, int] = {}
    platform = 0

    def pay(party: str, wei: int) -> None:
        due[party] = due.get(party, 0) + wei

    if not s.ok:
        return _Settlement({})
    action, terms = s.action, s.model.terms
    if isinstance(action, CancelBooking):
        made = s.booking(action.booking)
        before = s.before.bookings.get(made.id) if made else None
        if before and before.active:
            pay(before.user, before.payment + before.stake)
    elif isinstance(action, Complete | CancelRun | Expire):
        known = s.run(action.run)
        run = s.before.runs.get(known.id) if known else None
        if run is None or not run.open:
            return _Settlement({})
        active = s.before.active_bookings_of(run.id)
        stake = _stake(run.price * run.max_seats, s)
        if isinstance(action, CancelRun):
            for b in active:
                pay(b.user, b.payment + b.stake)
            pay(run.host, stake)
        elif isinstance(action, Expire):
            seats = sum(b.seats for b in active)
            platform = stake if active else 0
            for b in active:
                share = stake * b.seats // seats
                platform -= share
                pay(b.user, b.payment + b.stake + share)
            if not active:
                pay(run.host, stake)
        else:
            attended = set(attended_booking_ids(s.model_before, action))
            revenue = sum(b.payment for b in active)
            forfeits = sum(b.stake for b in active if b.id not in attended)
            fee = revenue * terms.fee_bps // BPS
            to_host = forfeits * terms.forfeit_to_host_bps // BPS
            platform = fee + forfeits - to_host
            for b in active:
                pay(b.user, b.stake if b.id in attended else 0)
            pay(run.host, revenue - fee + to_host + stake)
    return _Settlement(due, platform)


def _misdue(s: Step, roles: Mapping[str, str]) -> Iterator[Violation]:
    """Parties in the given roles that got something else than their due in this step."""
    if s.ok and isinstance(s.action, CreateRun | Book | Withdraw | WithdrawFees | ForceEther):
        return  # money moves, but no settlement: INV-03, INV-04 and the model (INV-16) judge it
    settlement = _settlement(s)
    for party, role in roles.items():
        due = settlement.due.get(party, 0)
        if party in s.after.wallets and s.gain(party) != due:
            yield Violation(f"{party} ({role}) got the wrong amount", due, s.gain(party))


def _attendees(s: Step, *statuses: BookingStatus) -> set[str]:
    return {b.user for b in s.after.bookings.values() if b.status in statuses}


@_invariant(
    "INV-05",
    "fee",
    "on completion the platform earns floor(5% of ticket revenue) + its share of forfeits, and the host gets all "
    "the rest",
)
def fee(s: Step) -> Iterator[Violation]:
    if not (s.ok and isinstance(s.action, Complete) and s.after.terms):
        return
    due = _settlement(s).platform
    earned = s.after.platform_balance - s.before.platform_balance
    if earned != due:
        yield Violation("the platform earned the wrong amount", due, earned)
    for event in s.events("EventCompleted"):
        run = s.after.runs[event.args["event_run_id"]]
        total = sum(b.payment for b in s.before.active_bookings_of(run.id)) + sum(
            b.stake for b in s.after.bookings_of(run.id) if b.status == BookingStatus.NO_SHOW
        )
        if event.args["host_payout"] != total - due:
            yield Violation("the host's payout is not all the rest", total - due, event.args["host_payout"])


@_invariant("INV-06", "attendee", "who came gets exactly the stake, once")
def attendee(s: Step) -> Iterator[Violation]:
    roles = dict.fromkeys(_attendees(s, BookingStatus.COMPLETED), "came")
    yield from _misdue(s, roles)


@_invariant("INV-07", "no-show", "who did not come gets nothing")
def no_show(s: Step) -> Iterator[Violation]:
    roles = dict.fromkeys(_attendees(s, BookingStatus.NO_SHOW), "no-show")
    yield from _misdue(s, roles)


@_invariant("INV-08", "host", "the host gets revenue - fee + own stake, once")
def host(s: Step) -> Iterator[Violation]:
    hosts = {r.host for r in s.after.runs.values() if r.status == RunStatus.COMPLETED}
    yield from _misdue(s, dict.fromkeys(hosts, "host"))


@_invariant("INV-09", "cancellation", "everybody gets back exactly what they paid in; the platform earns nothing")
def cancellation(s: Step) -> Iterator[Violation]:
    roles = dict.fromkeys(_attendees(s, BookingStatus.CANCELLED), "refunded")
    roles |= {r.host: "host" for r in s.after.runs.values() if r.status == RunStatus.CANCELLED}
    yield from _misdue(s, roles)
    if s.ok and isinstance(s.action, CancelRun | CancelBooking):
        earned = s.after.platform_balance - s.before.platform_balance
        if earned:
            yield Violation("the platform earned on a cancellation", 0, earned)


# ---------------------------------------------------------------------------------------------- terms and state


@_invariant("INV-10", "terms frozen", "the terms of a run never change")
def terms_frozen(s: Step) -> Iterator[Violation]:
    if s.after.terms != s.first.terms:
        yield Violation(f"the contract's terms were {s.first.terms} and are {s.after.terms}")
    for id, was in s.before.runs.items():
        now = s.after.runs.get(id)
        for name in ("host", "experience", "price", "max_seats", "host_stake", "start", "created_at"):
            if now and getattr(now, name) != getattr(was, name):
                yield Violation(f"run {id}: {name} was {getattr(was, name)} and is {getattr(now, name)}")


@_invariant(
    "INV-11",
    "liveness",
    "every open run can still be closed, and every credit withdrawn, whatever receivers do (checked at the end on a "
    "snapshot)",
)
def liveness(s: Step) -> Iterator[Violation]:
    for exit, wei in s.blocked:
        yield Violation(exit, wei, 0)


_RUN_MOVES = {
    RunStatus.ACTIVE: {*RunStatus} - {RunStatus.CREATED},
    RunStatus.FULL: {*RunStatus} - {RunStatus.CREATED},
}


@_invariant("INV-12", "transitions", "final is final: only the allowed status transitions happen")
def transitions(s: Step) -> Iterator[Violation]:
    for id, run in s.after.runs.items():
        was = s.before.runs[id].status if id in s.before.runs else RunStatus.ACTIVE
        if run.status != was and run.status not in _RUN_MOVES.get(RunStatus(was), set()):
            yield Violation(f"run {id} went from {RunStatus(was).name} to {RunStatus(run.status).name}")
        if run.stake_withdrawn == run.open:
            yield Violation(f"run {id} is {RunStatus(run.status).name}, hostStakeWithdrawn {run.stake_withdrawn}")
    for id, b in s.after.bookings.items():
        was = s.before.bookings[id].status if id in s.before.bookings else BookingStatus.ACTIVE
        if b.status != was and was != BookingStatus.ACTIVE:
            yield Violation(f"booking {id} went from {BookingStatus(was).name} to {BookingStatus(b.status).name}")
        if b.run_id in s.after.runs and b.active and not s.after.runs[b.run_id].open:
            yield Violation(f"booking {id} is still active, its run is final")


@_invariant(
    "INV-13",
    "seats",
    "0 <= booked <= max; booked = sum over active bookings; Full exactly when equal",
)
def seats(s: Step) -> Iterator[Violation]:
    for id, run in s.after.runs.items():
        if not 0 <= run.seats_booked <= run.max_seats:
            yield Violation(f"run {id}: {run.seats_booked} of {run.max_seats} seats are booked")
        if not run.open:
            continue
        active = sum(b.seats for b in s.after.active_bookings_of(id))
        if run.seats_booked != active:
            yield Violation(f"run {id}: {run.seats_booked} seats booked, active bookings hold {active}")
        if (run.status == RunStatus.FULL) != (run.seats_booked == run.max_seats):
            yield Violation(
                f"run {id} is {RunStatus(run.status).name} with {run.seats_booked} of {run.max_seats} seats booked"
            )


@_invariant("INV-14", "authority", "who may not do a thing can't, and the attempt changes nothing")
def authority(s: Step) -> Iterator[Violation]:
    if s.expected.error not in AUTHORITY_ERRORS:
        return
    if s.ok:
        yield Violation(f"{s.expected.actor} may not {_said(s.action)}, and could")
    for change in _changes(s):
        yield Violation(f"{s.expected.actor} may not {_said(s.action)}, and the attempt changed {change}")


@_invariant("INV-15", "atomicity", "a rejected or reverted action changes nothing but the sender's gas")
def atomicity(s: Step) -> Iterator[Violation]:
    if not s.ok:
        for change in _changes(s):
            yield Violation(f"{_said(s.action)} was {s.observed.status}, and changed {change}")


def _said(action: Action) -> str:
    return action.do.replace("_", " ")


def _changes(s: Step) -> Iterator[str]:
    """What differs between the pictures before and after, gas apart."""
    for part in fields(ContractState):
        if part.name in ("lists", "costs"):
            continue  # not looked at each time
        was, now = getattr(s.before, part.name), getattr(s.after, part.name)
        if part.name == "wallets":
            now = {party: wei + s.fee(party) for party, wei in now.items()}
        if was != now:
            yield part.name.replace("_", " ")


# -------------------------------------------------------------------------------------------- three accounts agree


@_invariant("INV-16", "books agree", "database, contract and reference model say the same after each step")
def books_agree(s: Step) -> Iterator[Violation]:
    yield from _outcomes_agree(s)
    yield from _prices_agree(s)
    yield from _contract_agrees(s)
    yield from _database_agrees(s)


def _outcomes_agree(s: Step) -> Iterator[Violation]:
    failed = s.observed.status in ("rejected", "reverted")
    found = "ok" if s.ok else s.observed.error or s.observed.status
    want = s.expected.error or s.expected.status
    if s.expected.status == "ok" and not s.ok:
        yield Violation(f"{_said(s.action)} must succeed and was {s.observed.status}: {s.observed.message or found}")
    elif s.expected.status == "rejected" and s.ok:
        yield Violation(f"{_said(s.action)} must fail with {want} and succeeded")
    elif failed and not s.own_errors:
        return
    elif failed and (s.expected.error != s.observed.error):
        yield Violation(f"{_said(s.action)} must fail with {want} and failed with {found}")
    elif failed and s.expected.args and s.expected.args != s.observed.args:
        yield Violation(f"{want} must say {list(s.expected.args)} and says {list(s.observed.args)}")


def _contract_agrees(s: Step) -> Iterator[Violation]:
    model, after = s.model, s.after
    for party, wallet in after.wallets.items():
        due = s.first.wallets[party] + model.wallet_flow.get(party, 0) - s.fees.get(party, 0)
        if wallet != due:
            yield Violation(
                f"{party}'s wallet, from the start on",
                due - s.first.wallets[party],
                wallet - s.first.wallets[party],
            )
        if after.terms and after.credits[party] != model.credits.get(party, 0):
            yield Violation(f"{party}'s credit", model.credits.get(party, 0), after.credits[party])
    if after.balance != model.contract_balance:
        yield Violation("the contract's balance", model.contract_balance, after.balance)
    if after.terms:
        if after.platform_balance != model.platform_balance:
            yield Violation("the platform's balance", model.platform_balance, after.platform_balance)
        if after.liabilities != liabilities(model):
            yield Violation("totalLiabilities", liabilities(model), after.liabilities)
    runs = {
        run.id: (
            run.host,
            run.price,
            run.max_seats,
            run.seats_booked,
            run.host_stake,
            run.start,
            int(run.status),
        )
        for run in model.runs.values()
    }
    yield from _differences("run", runs, {id: _run_facts(run) for id, run in after.runs.items()})
    for id, view in after.runs.items():
        if view.experience != EXPERIENCE_ID:
            yield Violation(f"run {id} is of experience {view.experience!r}, not of {EXPERIENCE_ID!r}")
    bookings = {
        b.id: (model.runs[b.run].id, b.attendee, b.seats, b.payment, b.stake, int(b.status), b.booked_at)
        for b in model.bookings.values()
    }
    yield from _differences("booking", bookings, {id: b[1:] for id, b in after.bookings.items()})


def _prices_agree(s: Step) -> Iterator[Violation]:
    """Of the run that this step opened: by `_differences` it is only one of many facts."""
    run = s.run(s.action.run) if s.ok and isinstance(s.action, CreateRun) else None
    found = s.after.runs.get(run.id) if run is not None else None
    if run is not None and found is not None and found.host == run.host and found.price != run.price:
        near = abs(found.price - run.price) * NEAR < run.price
        what = INEXACT if near else "it is another one"
        yield Violation(f"run {run.id}, price of a seat: {what}", run.price, found.price)


def _run_facts(run: RunView) -> tuple[Any, ...]:
    return run.host, run.price, run.max_seats, run.seats_booked, run.host_stake, run.start, run.status


def _differences(what: str, want: Mapping[int, Any], found: Mapping[int, Any]) -> Iterator[Violation]:
    for id in want.keys() | found.keys():
        if want.get(id) != found.get(id):
            yield Violation(f"{what} {id}: the model says {want.get(id)}, the contract {found.get(id)}")


RUN_ROW_STATUS = {
    RunStatus.ACTIVE: "active",
    RunStatus.FULL: "full",
    RunStatus.COMPLETED: "completed",
    RunStatus.CANCELLED: "cancelled",
    RunStatus.EXPIRED: "expired",
}
BOOKING_ROW_STATUS = {
    BookingStatus.ACTIVE: "active",
    BookingStatus.COMPLETED: "completed",
    BookingStatus.NO_SHOW: "no_show",
    BookingStatus.CANCELLED: "cancelled",
}


def _database_agrees(s: Step) -> Iterator[Violation]:
    if s.rows is None:
        return
    run_rows = {row.onchain_run_id: (row.status, row.price_wei, row.stake_wei) for row in s.rows.runs if row.confirmed}
    want_runs = {
        run.id: (RUN_ROW_STATUS[run.status], run.price, run.host_stake)
        for run in s.model.runs.values()
        if not run.direct
    }
    yield from _row_differences("run", want_runs, run_rows)
    booking_rows = {
        row.onchain_booking_id: (row.status, row.seats, row.payment_wei, row.stake_wei)
        for row in s.rows.bookings
        if row.confirmed
    }
    want_bookings = {
        b.id: (BOOKING_ROW_STATUS[b.status], b.seats, b.payment, b.stake)
        for b in s.model.bookings.values()
        if not b.direct
    }
    yield from _row_differences("booking", want_bookings, booking_rows)


def _row_differences(
    what: str, want: Mapping[Any, tuple[Any, ...]], found: Mapping[Any, tuple[Any, ...]]
) -> Iterator[Violation]:
    for id in want.keys() | found.keys():
        due, row = want.get(id), found.get(id)
        if due is not None and row is not None:
            row = tuple(w if value is NOT_STORED else value for w, value in zip(due, row, strict=True))
        if due != row:
            yield Violation(f"{what} {id}: the model says {due}, the database {row}")


@_invariant(
    "INV-17",
    "exactly once",
    "one operation has at most one effect on chain, however often it is retried",
)
def exactly_once(s: Step) -> Iterator[Violation]:
    sends_nothing = isinstance(s.action, SetPrice | Wait) or s.observed.status in ("rejected", "skipped")
    most = 0 if sends_nothing else 1
    if len(s.sent) > most:
        yield Violation(f"{_said(s.action)} ({s.observed.status}) sent {len(s.sent)} transactions, not {most}")
    for kind, name in ((CreateRun, "EventRunCreated"), (Book, "BookingCreated")):
        effects = len(s.events(name))
        if effects > (1 if isinstance(s.action, kind) else 0):
            yield Violation(f"{_said(s.action)} had the effect {name} {effects} times")
    for id, listed in s.after.lists.items():
        known = tuple(b.id for b in s.after.bookings_of(id))
        if listed != known:
            yield Violation(f"run {id} lists the bookings {list(listed)}, made were {list(known)}")
    rows = s.rows or Rows()
    for given in ([r.onchain_run_id for r in rows.runs], [b.onchain_booking_id for b in rows.bookings]):
        ids = [id for id in given if id is not None]
        if len(ids) != len(set(ids)):
            yield Violation(f"two rows of the database claim one id on chain: {sorted(ids)}")


@_invariant(
    "INV-18",
    "quote",
    "the wei quoted are the wei paid; INR(wei at the quoted rate) is within one paisa of the INR price; a later "
    "price swing changes no wei amount",
)
def quote(s: Step) -> Iterator[Violation]:
    rows = s.rows or Rows()
    for run in rows.runs:
        if run.confirmed and run.inr_per_eth and isinstance(run.price_wei, int) and run.price_inr is not None:
            inr = _inr(run.price_wei, run.inr_per_eth)
            if abs(inr - run.price_inr) > PAISA:
                yield Violation(
                    f"run {run.onchain_run_id}: listed at {run.price_inr} INR, {inr} INR in wei at the quoted rate"
                )
    for row in rows.bookings:
        if not (row.confirmed and row.inr_per_eth and row.total_inr is not None and row.onchain_booking_id is not None):
            continue
        b = s.after.bookings.get(row.onchain_booking_id)
        paid = quoted = b.payment + b.stake if b else 0
        if NOT_STORED not in (row.payment_wei, row.stake_wei):
            quoted = sum(wei for wei in (row.payment_wei, row.stake_wei) if isinstance(wei, int))
        if paid != quoted:
            yield Violation(f"booking {row.onchain_booking_id}: not the wei quoted", quoted, paid)
        inr = _inr(quoted, row.inr_per_eth)
        if abs(inr - row.total_inr) > PAISA:
            yield Violation(
                f"booking {row.onchain_booking_id}: quoted {row.total_inr} INR, {quoted} wei are {inr} INR at that rate"
            )
    if isinstance(s.action, SetPrice):
        for change in _changes(s):
            yield Violation(f"a move of the price changed {change}")


def _inr(wei: int, rate: Decimal) -> Decimal:
    """Exact, not rounded."""
    exact = Fraction(wei) * Fraction(rate) / WEI_PER_ETH
    return Decimal(exact.numerator) / Decimal(exact.denominator)


@_invariant("INV-19", "replay", "replaying the contract's events from zero gives the contract's state")
def replay(s: Step) -> Iterator[Violation]:
    books, after = s.books, s.after
    for event in books.strange:
        told_of = ", ".join(f"{name} {value}" for name, value in event.args.items())
        yield Violation(f"the event {event.name} tells of what there is not, or was over: {told_of}")
    for which, due, told_wei in books.wrong:
        yield Violation(which, due, told_wei)
    for id in books.runs.keys() | after.runs.keys():
        run = after.runs.get(id)
        told = (*books.runs[id], books.run_status[id]) if id in books.runs else None
        is_ = (run.host, run.price, run.max_seats, run.host_stake, run.status) if run else None
        if told != is_:
            yield Violation(f"run {id}: the events say {told}, the contract {is_}")
        elif run and run.open and books.seats_booked(id) != run.seats_booked:
            yield Violation(
                f"run {id}: {books.seats_booked(id)} seats by the events, {run.seats_booked} in the contract"
            )
    for id in books.bookings.keys() | after.bookings.keys():
        b = after.bookings.get(id)
        told_b = (*books.bookings[id], books.booking_status[id]) if id in books.bookings else None
        is_b = (b.run_id, b.user, b.seats, b.payment, b.stake, b.status) if b else None
        if told_b != is_b:
            yield Violation(f"booking {id}: the events say {told_b}, the contract {is_b}")
    if after.terms:
        if books.platform_balance != after.platform_balance:
            yield Violation("the platform's balance by the events", books.platform_balance, after.platform_balance)
        for party, credit in after.credits.items():
            if books.credits.get(party, 0) != credit:
                yield Violation(f"{party}'s credit by the events", books.credits.get(party, 0), credit)


@_invariant("INV-20", "gas", "no action exceeds its committed gas budget")
def gas(s: Step) -> Iterator[Violation]:
    for sent in s.sent:
        if s.budget is not None and sent.ok and sent.gas_used > s.budget:
            yield Violation(f"{_said(s.action)} used {sent.gas_used} gas, its budget is {s.budget}")
