"""INV-22: what the service's account sent, as the chain has it, compared with the limits in force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from app.db.tables import approvals, event_run_bookings, operations
from app.services.transactions.limits import Amounts
from app.services.transactions.policy import TransactionPolicy
from sqlalchemy import select
from stakesim.faults.protocol import Violation
from stakesim.faults.testbed import service_account

from stakesim_adapter.faults.canonical_chain import CanonicalChain
from stakesim_adapter.faults.testbed import BackendTestbed

ORDERS = ("createEventRun", "createEventRunFor", "bookEvent", "bookEventFor")
"""Functions with which the service's account pays for somebody."""


class Order(NamedTuple):
    """A mined order that nobody approved.

    Attributes:
        key: Key of its operation.
        person: Id of the user for whom it is.
        wei: What it cost, with gas.
    """

    key: str
    person: str | None
    wei: int


def check_limits(testbed: BackendTestbed, chain: CanonicalChain, policy: TransactionPolicy) -> Iterator[Violation]:
    """Compares all that the service's account sent in an episode, which takes less than a day."""
    yield from _wrong_calls(testbed, chain, policy)
    if policy.amounts is not None:
        with testbed.observer.connect() as connection:
            approved = set(connection.scalars(select(approvals.c.operation_key)))
            rows = connection.execute(select(operations.c.key, operations.c.person, operations.c.attempts)).all()
            booked = connection.execute(_BOOKED).all()
        yield from _too_much(_orders(testbed, chain, rows, approved), policy.amounts)
        yield from _too_many_seats(booked, approved, policy.amounts)


def _wrong_calls(testbed: BackendTestbed, chain: CanonicalChain, policy: TransactionPolicy) -> Iterator[Violation]:
    account = service_account().address
    for tx_hash, sent in chain.transactions.items():
        is_empty = sent["to"] == account and not sent["value"] and not sent["input"]  # it only uses its nonce
        if sent["from"] != account or is_empty:
            continue
        function = testbed.abi.function_of(sent["input"])
        if sent["to"] != testbed.contract:
            yield Violation("I8", f"{tx_hash} goes to {sent['to']}, which is not the contract")
        elif function not in policy.functions:
            yield Violation("I8", f"{tx_hash} calls {function or 'no function of the contract'}")


def _orders(testbed: BackendTestbed, chain: CanonicalChain, rows: Any, approved: set[str]) -> list[Order]:
    account, orders = service_account().address, list[Order]()
    for row in rows:
        for tx_hash in (attempt["hash"] for attempt in row.attempts):
            sent, receipt = chain.transactions.get(tx_hash), chain.receipts.get(tx_hash)
            if sent is None or receipt is None or sent["from"] != account or row.key in approved:
                continue
            if testbed.abi.function_of(sent["input"]) in ORDERS:
                gas = receipt["gasUsed"] * receipt["effectiveGasPrice"]
                orders.append(Order(row.key, row.person, gas + (sent["value"] if receipt["status"] else 0)))
    return orders


def _too_much(orders: list[Order], amounts: Amounts) -> Iterator[Violation]:
    for order in orders:
        if order.wei > amounts.operation_wei:
            yield Violation("I8", f"{order.key} cost {order.wei} wei; the limit is {amounts.operation_wei}")
    total, by_person = sum(order.wei for order in orders), Counter[str | None]()
    for order in orders:
        by_person[order.person] += order.wei
    if total > amounts.day_wei:
        yield Violation("I8", f"all orders cost {total} wei; the limit of a day is {amounts.day_wei}")
    for person, wei in by_person.items():
        if wei > amounts.person_day_wei:
            yield Violation("I8", f"the orders for {person} cost {wei} wei; the limit is {amounts.person_day_wei}")


_b = event_run_bookings.c
_BOOKED = (
    select(operations.c.key, operations.c.sender, _b.user_id, _b.event_run_id, _b.seats)
    .join(event_run_bookings, _b.id == operations.c.subject)
    .where(operations.c.kind.in_(ORDERS), _b.blockchain_status == "confirmed", _b.status != "cancelled")
    .order_by(_b.created_at, _b.id)
)


def _too_many_seats(booked: Any, approved: set[str], amounts: Amounts) -> Iterator[Violation]:
    """Those that were stored earlier come first. What users sign themselves counts too, and is not limited."""
    account, seats, most = service_account().address, Counter[tuple[Any, Any]](), amounts.person_run_seats
    for row in booked:
        seats[row.user_id, row.event_run_id] += row.seats
        count = seats[row.user_id, row.event_run_id]
        if most is not None and count > most and row.sender == account and row.key not in approved:
            yield Violation("I8", f"{row.key} is the user's seat {count} in a run; the limit is {most}")
