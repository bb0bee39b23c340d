"""Exact numbers of RPC requests and SQL statements of each use case, so that no needless ones are added unnoticed.

Against a hosted node and a hosted database each costs a round trip. A service reads the chain id, and whether the
contract has the full interface, only once, so these requests are in the first figures only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from app.core.errors import ContractRejected
from backend_environment import BackendEnvironment
from stakesim_adapter.faults.statements import follow_statements
from web3.middleware import Web3Middleware

SENT = {
    "eth_estimateGas": 1,
    "eth_getBlockByNumber": 1,  # the base fee, and up to where nonces are final
    "eth_getTransactionCount": 1,
    "eth_sendRawTransaction": 1,
    "eth_getTransactionReceipt": 1,
}


@contextmanager
def counted(backend: BackendEnvironment) -> Iterator[tuple[Counter[str], list[str]]]:
    """Counts the calls of each RPC method, and collects the SQL statements."""
    calls: Counter[str] = Counter()
    statements: list[str] = []

    class Count(Web3Middleware):
        def request_processor(self, method: Any, params: Any) -> Any:
            calls[method] += 1
            return method, params

    backend.engine.w3.middleware_onion.add(Count, "count")
    stop = follow_statements(backend.database, before=lambda sql, parameters: statements.append(sql))
    try:
        yield calls, statements
    finally:
        backend.engine.w3.middleware_onion.remove("count")
        stop()


def book(backend: BackendEnvironment) -> Any:
    return backend.bookings.book(backend.runs.list_all()[0].id, backend.ids["attendee"], 1)


def cancel_booking(backend: BackendEnvironment) -> Any:
    return backend.bookings.cancel(backend.bookings.list_all()[0].id)


def cancel_run(backend: BackendEnvironment) -> Any:
    return backend.runs.cancel(backend.runs.list_all()[0].id)


def complete(backend: BackendEnvironment) -> Any:
    run, attended = backend.runs.list_all()[0], backend.bookings.list_all()[0]
    backend.go_to(run.starts_at)
    return backend.runs.complete(run.id, [attended.id])


def refused(backend: BackendEnvironment) -> Any:
    with pytest.raises(ContractRejected):
        backend.bookings.book(backend.runs.list_all()[0].id, backend.ids["attendee"], 100)


def withdraw_fees(backend: BackendEnvironment) -> Any:
    return backend.chain.withdraw_platform_fees_onchain()


@pytest.mark.parametrize(
    ("use_case", "calls", "statements"),
    [
        (book, SENT | {"eth_call": 1}, 5),  # looked up, written down, signed with a nonce, closed, read
        (cancel_booking, SENT, 4),
        (cancel_run, SENT, 4),
        (complete, SENT, 5),
        (withdraw_fees, SENT, 3),
        (refused, {"eth_call": 1, "eth_estimateGas": 1}, 3),
        (lambda backend: backend.bookings.quote(backend.runs.list_all()[0].id, 2), {"eth_call": 1}, 1),
        (lambda backend: backend.chain.get_event_run_from_chain(1), {"eth_call": 1}, 0),
    ],
    ids=["book", "cancel booking", "cancel run", "complete", "withdraw fees", "refused", "quote", "view"],
)
def test_number_of_requests_and_statements_of_each_use_case(
    backend: BackendEnvironment, use_case: Callable[[BackendEnvironment], Any], calls: dict[str, int], statements: int
) -> None:
    backend.bookings.book(backend.open_run().id, backend.ids["attendee"], 1)
    if use_case is withdraw_fees:
        complete(backend)
    with counted(backend) as (request_counts, sent_statements):
        use_case(backend)
    listed = sum("ORDER BY" in statement for statement in sent_statements)  # how the use cases above find their rows
    assert (dict(request_counts), len(sent_statements) - listed) == (calls, statements), sent_statements
