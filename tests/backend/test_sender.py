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
from app.core.errors import ChainUnavailable, ContractRejected
from app.db.tables import operations as table
from app.services import operations, rpc
from app.services.codec import event_stake_codec
from app.services.operation_types import Operation
from app.services.rpc_errors import as_chain_unavailable, decode_revert
from app.services.transactions.fees import GAS_MARGIN, Fees, raised_fees
from app.services.transactions.nonces import first_block
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from sqlalchemy import select
from stage import Stage, Time, answering, before_request, too_many_requests, transact
from test_rejections import impatient, pause
from test_rows import mined
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception
from web3.middleware import Web3Middleware


@contextmanager
def without_receipt(stage: Stage, operation: Operation, meanwhile: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """The node does not show the receipt of this operation's transaction."""
    tx_hash = operation.attempts[0].tx_hash

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
    with stage.database.autocommit() as connection:
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
    policy = TransactionPolicy(give_up_after=30, max_pause=0.3)
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
        sender.policy = replace(policy, max_pause=20)
        threading.Timer(0.1, release.set).start()
        assert sender.step(later).closed  # it waits until the other is done
        assert done.result()["status"] == 1
    assert state(stage, earlier) == "confirmed"


class Clock(Time):
    """A pause after trouble is 7 times as long."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = set[tuple[float, float]]()

    def uniform(self, least: float, most: float) -> float:
        self.drawn.add((least, most))
        return 7


def sender_with(stage: Stage, clock: Clock, **policy: Any) -> TransactionSender:
    """A sender to which time passes only while it sleeps."""
    return TransactionSender(
        stage.engine.w3,
        stage.wallets["platform"],
        stage.database,
        TransactionPolicy(**policy),
        clock=lambda: clock.now,
        sleep=clock.sleep,
        uniform=clock.uniform,
    )


def finish(stage: Stage, clock: Clock, operation: Operation, **policy: Any) -> ChainUnavailable:
    """What is said when it could not be finished in time."""
    sender = sender_with(stage, clock, **policy)
    with pytest.raises(ChainUnavailable) as caught:
        sender.finish(operation)
    assert caught.value.operation == operation.key
    return caught.value


def test_who_waits_looks_again_after_pauses_that_grow(stage: Stage, both: tuple[Operation, Operation]) -> None:
    clock, (operation, _) = Clock(), both
    with without_receipt(stage, operation):
        told = finish(stage, clock, operation, give_up_after=1, min_pause=0.25, max_pause=0.25)
        assert clock.slept == [0.25] * 5  # just a second is no longer than that
        clock.slept.clear()
        finish(stage, clock, operation, give_up_after=2, min_pause=0.5, max_pause=0.7)
    assert clock.slept == [0.5, 0.5 * 1.2, 0.7, 0.7]
    assert clock.drawn == set()
    assert str(told) == "bookEventFor: sent, but not mined in time; it may be mined yet."


def test_what_is_busy_is_left_alone_for_longer(stage: Stage, both: tuple[Operation, Operation]) -> None:
    clock, (operation, _) = Clock(), both
    with too_many_requests(stage.engine.w3, "eth_getTransactionReceipt"):
        told = finish(stage, clock, operation, give_up_after=4, min_pause=0.25, max_pause=0.25)
    assert (clock.slept, clock.drawn) == ([7 * 0.25] * 3, {(5, 15)})
    assert str(told).startswith("bookEventFor: the node says: ")
    assert "too many requests" in str(told)


def test_nothing_is_waited_for_where_a_look_brought_it_further(stage: Stage) -> None:
    clock, run = Clock(), stage.open_run()
    operation = stage.bookings.prepare_book(run.id, stage.ids["attendee"], 1)
    assert sender_with(stage, clock).finish(operation)["status"] == 1
    assert clock.slept == []


def test_trouble_with_what_was_mined_before_is_told(stage: Stage, both: tuple[Operation, Operation]) -> None:
    clock, (earlier, later) = Clock(), both

    def busy() -> None:
        raise Web3Exception("too many requests")

    with without_receipt(stage, earlier, busy):
        told = finish(stage, clock, later, give_up_after=1)
    assert str(told) == "bookEventFor: the node says: too many requests."
    assert clock.drawn == {(5, 15)}


def test_what_a_thread_gave_up_is_taken_up_by_another(stage: Stage, both: tuple[Operation, Operation]) -> None:
    earlier, later = both
    sender = sender_with(stage, Clock(), give_up_after=1)
    with without_receipt(stage, earlier), pytest.raises(ChainUnavailable):
        sender.finish(earlier)
    assert sender.step(later).state == state(stage, earlier) == "confirmed"


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
        (Web3Exception("..busy X..."), "the node says: ..busy X"),
    ],
)
def test_trouble_is_a_sentence_with_the_operation(error: Exception, said: str) -> None:
    told = as_chain_unavailable("bookEvent", error, "k")
    assert (str(told), told.operation) == (f"bookEvent: {said}.", "k")


def test_the_reason_of_a_revert_is_that_of_its_block(stage: Stage) -> None:
    """Whatever the contract would say now."""
    w3, attendee = stage.engine.w3, stage.wallets["attendee"]
    run = stage.open_run()

    def unpause() -> None:
        transact(stage, "platform", "unpause")

    def meanwhile() -> None:
        pause(stage)
        before_request(w3, unpause, "eth_getTransactionReceipt")

    before_request(w3, meanwhile)
    with pytest.raises(ContractRejected) as caught:
        stage.bookings.book(run.id, stage.ids["attendee"], 1, signer=attendee)
    assert (caught.value.name, caught.value.outcome) == ("EnforcedPause", "reverted")


def test_the_reason_of_a_revert_is_looked_for_with_the_gas_that_it_had(stage: Stage) -> None:
    """With more there would be none."""
    run = stage.open_run()
    booking = stage.bookings.book(run.id, stage.ids["attendee"], 1)
    operation = stage.bookings.prepare_cancel(booking.id)

    def says(gas: int) -> str:
        try:
            rpc.call(stage.engine.w3, operation.to_address, operation.data, sender=operation.sender, gas=gas)
        except ContractLogicError as error:
            return str(decode_revert(error, event_stake_codec()))
        except Web3Exception:
            return "out of gas"
        return "fine"

    low = next(gas for gas in range(100_000, 200_000, 2_000) if "InsufficientGas" in says(gas))
    nearsighted = Web3(stage.engine.w3.provider, [answering("eth_estimateGas", hex((low - GAS_MARGIN) * 5 // 6))])
    operation = impatient(stage, nearsighted).step(operation)
    assert low - 2 <= operation.attempts[0].gas_limit <= low
    operation = stage.sender.step(operation)
    assert operation.error is not None
    assert (operation.state, operation.error["name"]) == ("failed", "InsufficientGas")


def test_what_was_refused_meanwhile_is_as_the_other_left_it(stage: Stage) -> None:
    run = stage.open_run(seats=1)
    operation = stage.bookings.prepare_book(run.id, stage.ids["attendee"], 2)
    refused = stage.sender.step(operation)
    assert refused.state == "rejected"
    assert stage.sender.step(operation) == refused


def test_a_call_about_no_row_is_an_operation_of_its_own(stage: Stage) -> None:
    for function in ("pause", "unpause"):
        stage.sender.send(event_stake_codec().call(stage.chain.address, function))
    with stage.database.autocommit() as connection:
        made = connection.execute(select(table.c.request, table.c.subject, table.c.state)).all()
    assert made == [("", None, "confirmed")] * 2


def test_what_was_refused_once_is_refused_again_with_all_of_it(stage: Stage) -> None:
    run = stage.open_run(seats=1)
    with pytest.raises(ContractRejected) as first:
        stage.bookings.book(run.id, stage.ids["attendee"], 2, idempotency_key="k")
    with pytest.raises(ContractRejected) as again:
        stage.bookings.book(run.id, stage.ids["attendee"], 2, idempotency_key="k")
    one, other = first.value, again.value
    assert str(one) == str(other)
    assert (one.name, list(one.args), one.outcome) == (other.name, list(other.args), other.outcome)


@pytest.mark.parametrize(
    ("last", "base_fee", "raised"),
    [
        ((2_000, 1_000), 100, (2_240, 1_120)),
        ((2_001, 1_001), 100, (2_242, 1_122)),  # 2,241.12 and 1,121.12: up, as nodes do
        ((2_000, 1_000), 560, (2_240, 1_120)),
        ((2_000, 1_000), 561, (2_242, 1_120)),  # twice the base fee and the tip, where that is more
        ((9_900, 1_000), 100, (11_000, 1_120)),  # by less than asked, as more is not allowed
        ((10_000, 1_000), 100, (11_000, 1_120)),  # by just a tenth
        ((10_001, 1_000), 100, None),
        ((9_900, 9_821), 100, (11_000, 11_000)),
        ((9_900, 9_822), 100, None),
    ],
)
def test_both_fees_are_raised_up_to_the_cap(
    last: tuple[int, int], base_fee: int, raised: tuple[int, int] | None
) -> None:
    policy = TransactionPolicy(max_fee_per_gas=11_000, priority_fee_per_gas=1)
    fees = raised_fees(Fees(*last), base_fee, policy)
    assert fees == raised


def looked_at(first: int, low: int, high: int) -> list[int]:
    """The blocks that were asked about something that begins to hold at `first`; which is found."""
    asked = list[int]()

    def holds(block: int) -> bool:
        asked.append(block)
        assert len(asked) < 40, "for ever"
        return block >= first

    assert first_block(holds, low, high) == first
    return asked


@pytest.mark.parametrize("high", [1, 2, 33, 34, 100])
def test_the_block_where_something_begins_to_hold_is_found_from_wherever_it_is_looked_for(high: int) -> None:
    for first in range(1, high + 1):
        for low in range(high + 70):
            asked = looked_at(first, low, high)
            assert all(0 < block < high for block in asked)
            assert len(asked) <= 4 + 7  # some steps of 32 back, and halves of a hundred blocks


def test_a_block_far_back_is_found_in_few_looks() -> None:
    assert len(looked_at(1_234, 1_000, 1_000_000)) < 25
