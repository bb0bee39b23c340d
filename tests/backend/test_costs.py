"""How often each use case asks the node and the database: exact figures, so that needless questions can't creep back.

Against a hosted node and a hosted database each costs a round trip. The chain id and whether the contract has our
additions are asked once in the life of a service, and are in the first figures only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from app.core.errors import ContractRejected
from sqlalchemy import event
from stage import Stage
from web3.middleware import Web3Middleware

SENT = {
    "eth_estimateGas": 1,
    "eth_getBlockByNumber": 1,  # the base fee, and up to where nonces are final
    "eth_getTransactionCount": 1,
    "eth_sendRawTransaction": 1,
    "eth_getTransactionReceipt": 1,
}


@contextmanager
def counted(stage: Stage) -> Iterator[tuple[Counter[str], list[str]]]:
    """RPC methods with how often each was called, and the SQL that was sent."""
    calls: Counter[str] = Counter()
    statements: list[str] = []

    class Count(Web3Middleware):
        def request_processor(self, method: Any, params: Any) -> Any:
            calls[method] += 1
            return method, params

    def sent(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(statement)

    stage.engine.w3.middleware_onion.add(Count, "count")
    engines = (stage.database.engine, stage.database.autocommit_engine)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", sent)
    try:
        yield calls, statements
    finally:
        stage.engine.w3.middleware_onion.remove("count")
        for engine in engines:
            event.remove(engine, "before_cursor_execute", sent)


def book(stage: Stage) -> Any:
    return stage.bookings.book(stage.runs.list_all()[0].id, stage.ids["attendee"], 1)


def cancel_booking(stage: Stage) -> Any:
    return stage.bookings.cancel(stage.bookings.list_all()[0].id)


def cancel_run(stage: Stage) -> Any:
    return stage.runs.cancel(stage.runs.list_all()[0].id)


def complete(stage: Stage) -> Any:
    run, came = stage.runs.list_all()[0], stage.bookings.list_all()[0]
    stage.go_to(run.starts_at)
    return stage.runs.complete(run.id, [came.id])


def refused(stage: Stage) -> Any:
    with pytest.raises(ContractRejected):
        stage.bookings.book(stage.runs.list_all()[0].id, stage.ids["attendee"], 100)


def withdraw_fees(stage: Stage) -> Any:
    return stage.chain.withdraw_platform_fees_onchain()


@pytest.mark.parametrize(
    ("use_case", "calls", "statements"),
    [
        (book, SENT | {"eth_call": 1}, 5),  # looked up, written down, signed with a nonce, closed, read
        (cancel_booking, SENT, 4),
        (cancel_run, SENT, 4),
        (complete, SENT, 5),
        (withdraw_fees, SENT, 3),
        (refused, {"eth_call": 1, "eth_estimateGas": 1}, 3),
        (lambda stage: stage.bookings.quote(stage.runs.list_all()[0].id, 2), {"eth_call": 1}, 1),
        (lambda stage: stage.chain.get_event_run_from_chain(1), {"eth_call": 1}, 0),
    ],
    ids=["book", "cancel booking", "cancel run", "complete", "withdraw fees", "refused", "quote", "view"],
)
def test_each_use_case_asks_no_more_than_it_needs(
    stage: Stage, use_case: Callable[[Stage], Any], calls: dict[str, int], statements: int
) -> None:
    stage.bookings.book(stage.open_run().id, stage.ids["attendee"], 1)
    if use_case is withdraw_fees:
        complete(stage)
    with counted(stage) as (asked, sent):
        use_case(stage)
    listed = sum("ORDER BY" in statement for statement in sent)  # how the use cases above find their rows
    assert (dict(asked), len(sent) - listed) == (calls, statements), sent
