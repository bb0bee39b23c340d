"""INV-21: the platform sends wei only for INR that it has, and INR that it does not need go back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

from stakesim.backend import PaymentRow
from stakesim.model.state import Booking, InrPayment, Run, State
from stakesim.runner.causes import Cause
from stakesim.runner.invariants.registry import Violation, invariant
from stakesim.runner.step import Step
from stakesim.scenario.actions import PLATFORM


class _Payment(NamedTuple):
    """A payment as model and backend both know it. Amounts are paise."""

    user: str
    purpose: str
    onchain_id: int | None
    state: str
    captured: int
    refunded: int
    disputed: bool

    def __str__(self) -> str:
        what = f"{self.purpose} {self.onchain_id}" if self.onchain_id is not None else f"{self.purpose}, not on chain"
        amounts = f"{_inr(self.captured)} INR captured, {_inr(self.refunded)} refunded"
        return f"{self.user}'s for {what}: {self.state}, {amounts}{', charged back' if self.disputed else ''}"


@invariant(
    "INV-21",
    "paid for",
    "the platform never sends wei for somebody whose INR are not captured; every captured payment is used once, "
    "refunded, or waiting, and the sums agree to the paisa",
)
def _paid_for(s: Step) -> Iterator[Violation]:
    if s.rows is None or s.rows.payments is None:
        return
    rows = [_of_row(row) for row in s.rows.payments]
    yield from _sent_without_payment(s, rows)
    yield from _impossible(rows)
    expected, actual = Counter(_of_model(s.model, payment) for payment in s.model.payments), Counter(rows)
    for payment in expected - actual:
        yield Violation(f"no such payment: {payment}", cause=Cause.DATABASE_DIFFERS)
    for payment in actual - expected:
        yield Violation(f"there must be no such payment: {payment}", cause=Cause.DATABASE_DIFFERS)


def _sent_without_payment(s: Step, rows: list[_Payment]) -> Iterator[Violation]:
    """Compares what is on chain with the payments that it takes: one for each that the platform sent the wei of."""
    captured = Counter((row.purpose, row.onchain_id) for row in rows if row.captured)
    for thing in (*_sent(s, "run", s.after.runs), *_sent(s, "booking", s.after.bookings)):
        if captured[thing] != 1:
            name = " ".join(map(str, thing))
            yield Violation(f"the platform sent the wei of {name}, for which {captured[thing]} payments were captured")


def _sent(s: Step, purpose: str, onchain_ids: Iterable[int]) -> Iterator[tuple[str, int]]:
    """Purpose and id of everything on chain that the platform sent wei for."""
    made: dict[int, Run | Booking]
    if purpose == "run":
        made = {run.id: run for run in s.model.runs.values()}
    else:
        made = {booking.id: booking for booking in s.model.bookings.values()}
    for onchain_id in onchain_ids:
        thing = made.get(onchain_id)
        if thing is None:  # this step made it against the rules
            is_sent = s.expected.signer == PLATFORM and not getattr(s.action, "direct", False)
        else:
            wei = thing.host_stake if isinstance(thing, Run) else thing.paid
            is_sent = wei > 0 and not thing.direct and not _signs(s.model, thing.actor)
        if is_sent:
            yield purpose, onchain_id


def _signs(model: State, actor: str) -> bool:
    return actor != PLATFORM and model.actors[actor].pays == "self"


def _impossible(rows: list[_Payment]) -> Iterator[Violation]:
    for row in rows:
        if row.refunded > row.captured:
            yield Violation(f"more went back than was captured: {row}")
        if row.disputed and row.refunded:
            yield Violation(f"INR that the bank had taken back were refunded too: {row}")


def _of_model(model: State, payment: InrPayment) -> _Payment:
    made: Run | Booking | None = None
    if payment.purpose != "unexpected":
        made = model.runs.get(payment.label) if payment.purpose == "run" else model.bookings.get(payment.label)
    return _Payment(
        payment.payer,
        payment.purpose,
        made.id if made is not None else None,
        payment.status,
        payment.captured,
        payment.refunded,
        payment.disputed,
    )


def _of_row(row: PaymentRow) -> _Payment:
    captured, refunded = (int(amount.scaleb(2)) for amount in (row.captured_inr, row.refunded_inr))
    return _Payment(row.user, row.purpose, row.onchain_id, row.state, captured, refunded, row.disputed)


def _inr(paise: int) -> str:
    return f"{Decimal(paise).scaleb(-2):.2f}"
