"""The order in which operations of one account are closed, and what is said of trouble."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import requests
from app.core.errors import ContractRejected
from app.services import operations
from app.services.node_errors import unavailable
from app.services.operations import Operation
from app.services.transaction_sender import Policy, TransactionSender
from stage import Stage, before_request, too_many_requests
from test_rejections import pause
from test_rows import mined
from web3.exceptions import TransactionNotFound, Web3Exception
from web3.middleware import Web3Middleware


@contextmanager
def without_receipt(stage: Stage, operation: Operation, meanwhile: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """The node does not show the receipt of this operation's transaction."""
    tx_hash = operation.attempts[0]["hash"]

    class Lag(Web3Middleware):
        def wrap_make_request(self, make_request: Any) -> Any:
            def ask(method: Any, params: Any) -> Any:
                if method == "eth_getTransactionReceipt" and params[0] == tx_hash:
                    meanwhile()
                    return {"jsonrpc": "2.0", "id": 1, "result": None}
                return make_request(method, params)

            return ask

    stage.engine.w3.middleware_onion.add(Lag, "lag")
    try:
        yield
    finally:
        stage.engine.w3.middleware_onion.remove("lag")


def state(stage: Stage, operation: Operation) -> str:
    with stage.database.single() as connection:
        found = operations.find(connection, operation.key)
    assert found is not None
    return found.state


@pytest.fixture
def both(stage: Stage) -> tuple[Operation, Operation]:
    """Two bookings that are mined, one after the other, and not closed."""
    run = stage.open_run()
    earlier, later = (mined(stage, stage.bookings.prepare_book(run.id, stage.ids["attendee"], 1)) for _ in range(2))
    return earlier, later


def test_what_was_mined_before_is_closed_before(stage: Stage, both: tuple[Operation, Operation]) -> None:
    earlier, later = both
    assert stage.sender.step(later).state == "confirmed"
    assert state(stage, earlier) == "confirmed"
    assert [booking.blockchain_booking_id for booking in stage.bookings.list_all()] == [1, 2]


def test_what_can_not_be_closed_yet_keeps_what_is_after_it_open(
    stage: Stage, both: tuple[Operation, Operation]
) -> None:
    earlier, later = both
    with without_receipt(stage, earlier):
        assert not stage.sender.step(later).closed
    assert not state(stage, earlier) == state(stage, later) == "confirmed"
    assert {booking.blockchain_status for booking in stage.bookings.list_all()} == {"pending"}
    assert stage.sender.step(later).closed
    assert state(stage, earlier) == "confirmed"


@pytest.mark.slow
def test_what_another_thread_is_at_work_on_is_waited_for(stage: Stage, both: tuple[Operation, Operation]) -> None:
    """And not taken out of its hands."""
    earlier, later = both
    policy = Policy(patience=30, longest_pause=0.3)
    sender = TransactionSender(stage.engine.w3, stage.wallets["platform"], stage.database, policy)
    asked, release = threading.Event(), threading.Event()

    def look() -> None:
        assert threading.current_thread() is not threading.main_thread(), "one thread carries an operation out"
        asked.set()
        release.wait(10)

    with ThreadPoolExecutor(1) as other, without_receipt(stage, earlier, look):
        done = other.submit(sender.finish, earlier)
        assert asked.wait(10)
        assert not sender.step(later).closed
        assert not done.done()
        stage.engine.w3.middleware_onion.remove("lag")
        stage.engine.w3.middleware_onion.add(Web3Middleware, "lag")  # the node shows it now
        sender.policy = replace(policy, longest_pause=20)
        threading.Timer(0.1, release.set).start()
        assert sender.step(later).closed  # it waits until the other is done
        assert done.result()["status"] == 1
    assert state(stage, earlier) == "confirmed"


def test_a_revert_that_the_node_does_not_explain_is_one_without_a_reason(stage: Stage) -> None:
    w3 = stage.engine.w3
    with ExitStack() as busy:

        def meanwhile() -> None:
            pause(stage)  # so that it reverts
            busy.enter_context(too_many_requests(w3, "eth_call"))

        before_request(w3, meanwhile)
        with pytest.raises(ContractRejected) as caught:
            stage.open_run(host="host", signer=stage.wallets["host"])
    assert (caught.value.name, list(caught.value.args), caught.value.outcome) == ("Unknown", ["0x"], "reverted")
    assert str(caught.value).endswith("was refused by the contract: the reason can't be found any more.")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (requests.ConnectionError("https://node/secret"), "the node can't be reached (ConnectionError)"),
        (TransactionNotFound("0xab"), "sent, but not mined in time; it may be mined yet"),
        (Web3Exception("..busy..."), "the node says: ..busy"),
    ],
)
def test_trouble_is_a_sentence_with_the_operation(error: Exception, said: str) -> None:
    told = unavailable("bookEvent", error, "k")
    assert (str(told), told.operation) == (f"bookEvent: {said}.", "k")


def test_what_was_refused_once_is_refused_again_with_all_of_it(stage: Stage) -> None:
    run = stage.open_run(seats=1)
    with pytest.raises(ContractRejected) as first:
        stage.bookings.book(run.id, stage.ids["attendee"], 2, key="k")
    with pytest.raises(ContractRejected) as again:
        stage.bookings.book(run.id, stage.ids["attendee"], 2, key="k")
    one, other = first.value, again.value
    assert str(one) == str(other)
    assert (one.name, list(one.args), one.outcome) == (other.name, list(other.args), other.outcome)
