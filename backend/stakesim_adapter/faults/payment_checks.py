"""Checks of payments at the end of an episode (INV-21): the gateway's own books, the rows, and what was sent.

They read the database without the backend's queries, and the stand-in's state without its API.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from app.bootstrap.services import Services
from app.core.errors import AppError
from app.db.tables import event_run_bookings, event_runs, operations, payments, refunds
from app.services.transactions.limits import ORDERS
from sqlalchemy import select
from stakesim.faults.protocol import Violation
from stakesim.faults.testbed import service_account

from stakesim_adapter.faults.testbed import BackendTestbed
from stakesim_adapter.payments import end_time_to_pay
from stakesim_adapter.razorpay_stand_in import Entity

MAX_ROUNDS = 10
"""Maximum number of rounds in which everything that is owed goes back."""


class Books(NamedTuple):
    """The data of the checks.

    Attributes:
        payments: Rows of `payments`.
        refunds: Rows of `refunds`, by payment.
        orders: The platform's operations that send wei, by key.
        subjects: Statuses of event runs and bookings, by id.
        captured: The gateway's captured payments in INR, by its id.
        given_back: The gateway's refunds that have not failed, by its id of the payment.
        unknowing: The gateway's ids of payments that were given back before the service was told of a dispute.
    """

    payments: Sequence[Any]
    refunds: Mapping[Any, Any]
    orders: Mapping[str, Any]
    subjects: Mapping[Any, str]
    captured: Mapping[str, Entity]
    given_back: Mapping[str, list[Entity]]
    unknowing: frozenset[str]


def check_payments(testbed: BackendTestbed, services: Services, *, lost_commits: bool = False) -> list[Violation]:
    """Lets the time to pay and to use payments pass, gives back what is owed, and compares the books.

    Args:
        testbed: Database and gateway. No operation may be open, and the chain must be final.
        services: The services under test.
        lost_commits: Whether the database lost its last commits, and with them orders that people have paid. Only the
            gateway knows of those.
    """
    violations = _give_back(testbed, services)
    books = _read(testbed)
    if lost_commits:
        known = {row.gateway_payment_id for row in books.payments}
        captured = {key: each for key, each in books.captured.items() if key in known}
        books = books._replace(captured=captured)
    return violations + [violation for find_violations in CHECKS for violation in find_violations(books)]


def _give_back(testbed: BackendTestbed, services: Services) -> list[Violation]:
    assert services.payments is not None
    end_time_to_pay(services.database)
    head, problems = testbed.w3.eth.block_number, [""]
    rounds = 0
    while problems and rounds < MAX_ROUNDS:
        try:
            problems = services.payments.run_round(head)
        except AppError as error:
            problems = [error.message]
        rounds += 1
    services.payments.run_round(head)  # what the last one found is carried out by now
    return [Violation("I9", f"a problem with payments though the faults have stopped: {each}") for each in problems]


def _read(testbed: BackendTestbed) -> Books:
    sends = (
        (operations.c.value_wei > 0)
        & operations.c.kind.in_(ORDERS)
        & (operations.c.sender == service_account().address)
    )
    with testbed.observer.connect() as connection:
        subjects = {row.id: row.status for row in connection.execute(select(event_runs.c.id, event_runs.c.status))}
        bookings = select(event_run_bookings.c.id, event_run_bookings.c.status)
        subjects |= {row.id: row.status for row in connection.execute(bookings)}
        rows = connection.execute(select(payments)).all()
        owed = {row.payment_id: row for row in connection.execute(select(refunds))}
        orders = {row.key: row for row in connection.execute(select(operations).where(sends))}
    in_inr = {key: each for key, each in testbed.stand_in.payments.items() if each["captured"]}
    in_inr = {key: each for key, each in in_inr.items() if each["currency"] == "INR"}
    given_back: dict[str, list[Entity]] = {}
    for refund in testbed.stand_in.refunds.values():
        if refund["status"] != "failed":
            given_back.setdefault(refund["payment_id"], []).append(refund)
    unknowing = frozenset(testbed.stand_in.refunded_before_news)
    return Books(rows, owed, orders, subjects, in_inr, given_back, unknowing)


def _what_was_captured_is_known(books: Books) -> Iterator[Violation]:
    rows = {row.gateway_payment_id: int(row.amount_inr * 100) for row in books.payments if row.gateway_payment_id}
    at_gateway = {key: each["amount"] for key, each in books.captured.items()}
    for key in rows.keys() | at_gateway.keys():
        if rows.get(key) != at_gateway.get(key):
            message = f"{key}: the gateway captured {at_gateway.get(key)} paise, the rows say {rows.get(key)}"
            yield Violation("I9", message)


def _each_order_has_its_payment(books: Books) -> Iterator[Violation]:
    used = Counter(row.operation_key for row in books.payments if row.operation_key is not None)
    for key, order in books.orders.items():
        if order.state == "confirmed" and used[key] != 1:
            yield Violation("I9", f"{key} sent {order.value_wei} wei, and {used[key]} payments were used for it")
    for row in books.payments:
        order = books.orders.get(row.operation_key)
        if order is None or order.state != "confirmed":
            continue
        paid_wei = row.stake_wei + (row.price_wei if row.purpose == "booking" else 0)
        if (paid_wei, str(row.user_id)) != (order.value_wei, order.person):
            message = f"{order.key} sent {order.value_wei} wei for {order.person}, and was paid by another payment"
            yield Violation("I9", f"{message}: of {paid_wei} wei, by {row.user_id}")


def _nothing_is_left_over(books: Books) -> Iterator[Violation]:
    for row in books.payments:
        if row.state in ("created", "failed", "refunding") or (row.state == "captured" and row.dispute is None):
            yield Violation("I9", f"payment {row.id} is still {row.state}")


def _what_is_owed_went_back_once(books: Books) -> Iterator[Violation]:
    for row in books.payments:
        if row.gateway_payment_id is None:
            continue
        refunded = [each["amount"] for each in books.given_back.get(row.gateway_payment_id, [])]
        expected = [due] if (due := _due(row, books)) else []
        if refunded != expected:
            what = f"payment {row.id} ({row.purpose}, {row.state}, dispute {row.dispute})"
            yield Violation("I9", f"{what}: {refunded} paise went back, {expected} were owed")


def _due(row: Any, books: Books) -> int:
    """What is owed of a captured payment, in paise."""
    if row.dispute == "lost" and row.gateway_payment_id not in books.unknowing:
        return 0
    whole, stake = int(row.amount_inr * 100), int((row.stake_inr or 0) * 100)
    order = books.orders.get(row.operation_key)
    if order is None or order.state != "confirmed":
        return whole
    if not row.to_custody:
        return 0
    return {"cancelled": whole, "completed": stake}.get(books.subjects[order.subject], 0)


CHECKS: tuple[Callable[[Books], Iterator[Violation]], ...] = (
    _what_was_captured_is_known,
    _each_order_has_its_payment,
    _nothing_is_left_over,
    _what_is_owed_went_back_once,
)
