"""INV-16: contract, database and reference model agree on outcomes, runs, bookings and money."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stakesim.backend import NOT_STORED, BookingRow, RunRow
from stakesim.model.state import BookingStatus, RunStatus, State, liabilities, readable
from stakesim.runner.causes import Cause
from stakesim.runner.invariants.registry import Violation, action_name, invariant
from stakesim.runner.observe import Roles
from stakesim.runner.step import ActualOutcome, Step
from stakesim.scenario.actions import PLATFORM, CallFunction, CreateRun

_INEXACT_RATIO = 10**6
"""A wrong price was converted inexactly if it is off by less than one part in so many; else at another rate."""
_RUN_ROW_STATUS = {
    RunStatus.ACTIVE: "active",
    RunStatus.FULL: "full",
    RunStatus.COMPLETED: "completed",
    RunStatus.CANCELLED: "cancelled",
    RunStatus.EXPIRED: "expired",
}
_BOOKING_ROW_STATUS = {
    BookingStatus.ACTIVE: "active",
    BookingStatus.COMPLETED: "completed",
    BookingStatus.NO_SHOW: "no_show",
    BookingStatus.CANCELLED: "cancelled",
}


@invariant("INV-16", "books agree", "database, contract and reference model say the same after each step")
def _books_agree(s: Step) -> Iterator[Violation]:
    outcomes = [*_outcomes_agree(s)]
    yield from outcomes
    if s.rows is None and any(one.cause is Cause.REFUSED for one in outcomes):
        return  # the model is a step ahead: whatever else differs follows from it
    yield from _price_agrees(s)
    yield from _balances_agree(s)
    yield from _runs_agree(s)
    yield from _bookings_agree(s)
    yield from _roles_agree(s)
    yield from _database_agrees(s)


def _outcomes_agree(s: Step) -> Iterator[Violation]:
    expected, actual, name = s.expected, s.actual, action_name(s)
    for wrong in expected.wrong_reentries:
        yield Violation(wrong, cause=Cause.WRONG_REFUSAL)
    expected_error = expected.error or expected.status
    actual_error = actual.error or actual.status
    if expected.status == "ok" and not s.ok:
        why = actual.message or actual_error
        yield Violation(f"{name} must succeed and was {actual.status}: {why}", cause=Cause.REFUSED)
    elif expected.status == "rejected" and s.ok:
        yield Violation(f"{name} must fail with {expected_error} and succeeded", cause=Cause.NOT_REFUSED)
    elif actual.failed and s.has_specified_errors and not _needs_no_reason(s, expected_error, actual_error):
        if expected.error != actual.error:
            message = f"{name} must fail with {expected_error} and failed with {actual_error}"
            yield Violation(message, cause=Cause.WRONG_REFUSAL)
        elif expected.args and expected.args != actual.args:
            yield Violation(f"{expected_error} must say {list(expected.args)} and says {list(actual.args)}")


def _needs_no_reason(s: Step, expected_error: str, actual_error: str) -> bool:
    if isinstance(s.action, CallFunction) and s.action.gas is not None and _lacks_gas(s.actual):
        return True
    return expected_error == "NoSuchFunction" or (expected_error, actual_error) == ("NotPayable", "Unknown")


def _lacks_gas(actual: ActualOutcome) -> bool:
    """Whether a call may have failed for want of gas: it gives that reason, or none."""
    gives_no_reason = actual.error == "Unknown" and actual.args in ((), ("0x",))
    return gives_no_reason or actual.error == "InsufficientGas"


def _price_agrees(s: Step) -> Iterator[Violation]:
    """Compares the price of the run that this step opened: `_runs_agree` shows it as one of many facts only."""
    run = s.run(s.action.run) if s.ok and isinstance(s.action, CreateRun) else None
    view = s.after.runs.get(run.id) if run is not None else None
    if run is None or view is None or view.host != run.host or view.price == run.price:
        return
    message = f"run {run.id}, price of a seat:"
    if abs(view.price - run.price) * _INEXACT_RATIO < run.price:
        message += " the conversion between INR and wei is inexact"
        yield Violation(message, run.price, view.price, cause=Cause.INEXACT_PRICE)
    else:
        yield Violation(f"{message} it is another one", run.price, view.price)


def _balances_agree(s: Step) -> Iterator[Violation]:
    model, after = s.model, s.after
    for party, wallet in after.wallets.items():
        initial = s.initial.wallets[party]
        due = model.wallet_flow.get(party, 0) - s.gas_paid.get(party, 0)
        if wallet - initial != due:
            yield Violation(f"{party}'s wallet, from the start on", due, wallet - initial, party, about="wallets")
        credit = model.credits.get(party, 0)
        if after.terms and after.credits[party] != credit:
            yield Violation(f"{party}'s credit", credit, after.credits[party], party, about="credits")
    if after.balance != model.contract_balance:
        yield Violation("the contract's balance", model.contract_balance, after.balance, about="balance")
    if after.terms:
        if after.platform_balance != model.platform_balance:
            wei = (model.platform_balance, after.platform_balance)
            yield Violation("the platform's balance", *wei, PLATFORM, about="platformBalance")
        if after.liabilities != (owed := liabilities(model)):
            yield Violation("totalLiabilities", owed, after.liabilities, about="totalLiabilities")


def _runs_agree(s: Step) -> Iterator[Violation]:
    in_model = {
        r.id: (r.host, r.price, r.max_seats, r.seats_booked, r.host_stake, r.start, int(r.status))
        for r in s.model.runs.values()
    }
    in_contract = {
        run_id: (r.host, r.price, r.max_seats, r.seats_booked, r.host_stake, r.start, r.status)
        for run_id, r in s.after.runs.items()
    }
    yield from _differences("run", in_model, in_contract)
    experiences = {run.id: readable(run.experience) for run in s.model.runs.values()}
    for run_id, view in s.after.runs.items():
        if view.experience != (due := experiences.get(run_id, view.experience)):
            message = f"run {run_id} is of experience {view.experience!r}, not of {due!r}"
            yield Violation(message, about="experience")


def _bookings_agree(s: Step) -> Iterator[Violation]:
    in_model = {
        b.id: (s.model.runs[b.run].id, b.attendee, b.seats, b.payment, b.stake, int(b.status), b.booked_at)
        for b in s.model.bookings.values()
    }
    yield from _differences(
        "booking", in_model, {booking_id: view[1:] for booking_id, view in s.after.bookings.items()}
    )


def _roles_agree(s: Step) -> Iterator[Violation]:
    model = s.model
    operators = model.operators & s.after.wallets.keys()
    in_model = Roles(model.owner, model.pending_owner, operators, model.paused)
    if s.after.roles not in (None, in_model):
        yield Violation(f"the model says {in_model}, the contract {s.after.roles}", about="roles")


def _differences(kind: str, in_model: Mapping[int, Any], in_contract: Mapping[int, Any]) -> Iterator[Violation]:
    if in_model == in_contract:
        return
    for key in in_model.keys() | in_contract.keys():
        if in_model.get(key) != in_contract.get(key):
            message = f"{kind} {key}: the model says {in_model.get(key)}, the contract {in_contract.get(key)}"
            yield Violation(message, about=kind)


def _database_agrees(s: Step) -> Iterator[Violation]:
    """Compares the confirmed rows with the runs and bookings that the model made through the backend."""
    for rows, where in ((s.rows, "database"), (s.rows and s.rows.shown, "API")):
        if rows is None:
            continue
        run_rows = {r.onchain_run_id: _facts_of_run_row(r) for r in rows.runs if r.confirmed}
        yield from _row_differences("run", _runs_of_backend(s.model), run_rows, where)
        booking_rows = {b.onchain_booking_id: _facts_of_booking_row(b) for b in rows.bookings if b.confirmed}
        yield from _row_differences("booking", _bookings_of_backend(s.model), booking_rows, where)


def _runs_of_backend(model: State) -> Mapping[Any, tuple[Any, ...]]:
    return {
        run.id: (
            *(_RUN_ROW_STATUS[run.status], run.price, run.host_stake),
            *(run.max_seats, run.seats_booked, run.start),
        )
        for run in model.runs.values()
        if not run.direct
    }


def _facts_of_run_row(row: RunRow) -> tuple[Any, ...]:
    return row.status, row.price_wei, row.stake_wei, row.max_seats, row.seats_booked, row.starts_at


def _bookings_of_backend(model: State) -> Mapping[Any, tuple[Any, ...]]:
    return {
        booking.id: (
            *(_BOOKING_ROW_STATUS[booking.status], booking.seats, booking.payment, booking.stake),
            *(model.runs[booking.run].id, booking.actor),
        )
        for booking in model.bookings.values()
        if not booking.direct
    }


def _facts_of_booking_row(row: BookingRow) -> tuple[Any, ...]:
    return row.status, row.seats, row.payment_wei, row.stake_wei, row.run_id, row.user


def _row_differences(
    kind: str, in_model: Mapping[Any, tuple[Any, ...]], rows: Mapping[Any, tuple[Any, ...]], where: str
) -> Iterator[Violation]:
    """Compares facts by id on chain; values that the backend does not store are not compared."""
    if in_model == rows:
        return
    for key in in_model.keys() | rows.keys():
        facts, row = in_model.get(key), rows.get(key)
        if facts is not None and row is not None:
            row = tuple(fact if value is NOT_STORED else value for fact, value in zip(facts, row, strict=True))
        if facts != row:
            message = f"{kind} {key}: the model says {facts}, the {where} {row}"
            yield Violation(message, cause=Cause.DATABASE_DIFFERS, about=kind)
