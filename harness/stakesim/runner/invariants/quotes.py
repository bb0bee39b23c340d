"""INV-18: what was quoted in wei and INR is what was paid."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from stakesim.backend import NOT_STORED, BookingRow, Rows, RunRow
from stakesim.model.state import Booking, Run
from stakesim.runner.invariants.registry import Violation, invariant
from stakesim.runner.step import Step
from stakesim.scenario.actions import Book, CreateRun, SetPrice
from stakesim.units import WEI_PER_ETH

_PAISA = Decimal("0.01")


@invariant(
    "INV-18",
    "quote",
    "the wei quoted are the wei paid; INR(wei at the quoted rate) is within one paisa of the INR price; a later "
    "price swing changes no wei amount",
)
def _quote(s: Step) -> Iterator[Violation]:
    rows = s.rows or Rows()
    shown = rows.shown or Rows()
    for run_row in (*rows.runs, *shown.runs):
        yield from _wrong_listing(run_row)
    for booking_row in (*rows.bookings, *shown.bookings):
        yield from _wrong_booking_quote(s, booking_row)
    yield from _wrong_rate(s, rows)
    yield from _wrong_rate(s, shown)
    if isinstance(s.action, SetPrice):
        for change in s.changes():
            yield Violation(f"a move of the price changed {change}")


def _wrong_rate(s: Step, rows: Rows) -> Iterator[Violation]:
    """Compares rate and listed price in the row of this step's run or booking with those of its quote."""
    action, quoted = s.action, s.model.last_accepted_rate
    if not s.ok or not isinstance(action, CreateRun | Book) or action.direct:
        return
    made = s.run(action.run) if isinstance(action, CreateRun) else s.booking(action.booking)
    for row in _rows_of(made, rows):
        name = f"{'run' if isinstance(row, RunRow) else 'booking'} {made and made.id}"
        if row.inr_per_eth not in (None, quoted):
            yield Violation(f"{name}: quoted at {quoted} INR/ETH, its row says {row.inr_per_eth}")
        if isinstance(action, CreateRun) and isinstance(row, RunRow) and row.price_inr not in (None, action.price_inr):
            yield Violation(f"{name}: listed at {action.price_inr} INR, its row says {row.price_inr}")


def _rows_of(made: Run | Booking | None, rows: Rows) -> list[RunRow | BookingRow]:
    if isinstance(made, Run):
        return [row for row in rows.runs if row.onchain_run_id == made.id]
    return [row for row in rows.bookings if made is not None and row.onchain_booking_id == made.id]


def _wrong_listing(row: RunRow) -> Iterator[Violation]:
    """Compares a run's price in wei with its listed price in INR, where the backend stores both."""
    if row.confirmed and row.inr_per_eth and isinstance(row.price_wei, int) and row.price_inr is not None:
        inr = _to_inr(row.price_wei, row.inr_per_eth)
        if abs(inr - row.price_inr) > _PAISA:
            yield Violation(
                f"run {row.onchain_run_id}: listed at {row.price_inr} INR, {inr} INR in wei at the quoted rate"
            )


def _wrong_booking_quote(s: Step, row: BookingRow) -> Iterator[Violation]:
    """Compares a booking's quote with the wei on chain, and in INR; wei that are not stored are taken from there."""
    if not (row.confirmed and row.inr_per_eth and row.total_inr is not None and row.onchain_booking_id is not None):
        return
    booking = s.after.bookings.get(row.onchain_booking_id)
    paid = quoted = booking.payment + booking.stake if booking else 0
    if NOT_STORED not in (row.payment_wei, row.stake_wei):
        quoted = sum(wei for wei in (row.payment_wei, row.stake_wei) if isinstance(wei, int))
    if paid != quoted:
        yield Violation(f"booking {row.onchain_booking_id}: not the wei quoted", quoted, paid)
    inr = _to_inr(quoted, row.inr_per_eth)
    if abs(inr - row.total_inr) > _PAISA:
        yield Violation(
            f"booking {row.onchain_booking_id}: quoted {row.total_inr} INR, {quoted} wei are {inr} INR at that rate"
        )


def _to_inr(wei: int, rate: Decimal) -> Decimal:
    """INR of wei at a rate in INR per ETH, not rounded to the paisa."""
    inr, eth = rate.as_integer_ratio()
    return Decimal(wei * inr) / Decimal(WEI_PER_ETH * eth)
