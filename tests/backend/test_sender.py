"""The sender: order of closing, pauses, errors, reasons of reverts, fees."""

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
from app.services.transactions.nonce_search import first_block
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from backend_environment import BackendEnvironment, Time, answering, before_request, too_many_requests, transact
from sqlalchemy import select
from test_rejections import impatient, pause
from test_rows import mined
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception
from web3.middleware import Web3Middleware


@contextmanager
def without_receipt(
    backend: BackendEnvironment, operation: Operation, meanwhile: Callable[[], Any] = lambda: None
) -> Iterator[None]:
    """Lets the node hide the receipt of this operation's transaction."""
    tx_hash = operation.attempts[0].tx_hash

    class Lag(Web3Middleware):
        def wrap_make_request(self, make_request: Any) -> Any:
            def ask(method: Any, params: Any) -> Any:
                if method == "eth_getTransactionReceipt" and params[0] == tx_hash:
                    meanwhile()
                    return {"jsonrpc": "2.0", "id": 1, "result": None}
                return make_request(method, params)

            return ask

    backend.engine.w3.middleware_onion.add(Lag, "lag")
    try:
        yield
    finally:
        backend.engine.w3.middleware_onion.remove("lag")


def state(backend: BackendEnvironment, operation: Operation) -> str:
    with backend.database.autocommit() as connection:
        stored = operations.find(connection, operation.key)
    assert stored is not None
    return stored.state


@pytest.fixture
def both(backend: BackendEnvironment) -> tuple[Operation, Operation]:
    """Two bookings that are mined, one after the other, and not closed."""
    run = backend.open_run()
    earlier, later = (
        mined(backend, backend.bookings.prepare_book(run.id, backend.ids["attendee"], 1)) for _ in range(2)
    )
    return earlier, later


def test_operations_close_in_order_of_nonces(backend: BackendEnvironment, both: tuple[Operation, Operation]) -> None:
    earlier, later = both
    assert backend.sender.step(later).state == "confirmed"
    assert state(backend, earlier) == "confirmed"
    assert [booking.blockchain_booking_id for booking in backend.bookings.list_all()] == [1, 2]


def test_an_open_operation_keeps_later_ones_open(
    backend: BackendEnvironment, both: tuple[Operation, Operation]
) -> None:
    earlier, later = both
    with without_receipt(backend, earlier):
        assert not backend.sender.step(later).closed
    assert not state(backend, earlier) == state(backend, later) == "confirmed"
    assert {booking.blockchain_status for booking in backend.bookings.list_all()} == {"pending"}
    assert backend.sender.step(later).closed
    assert state(backend, earlier) == "confirmed"


@pytest.mark.slow
def test_an_operation_in_progress_in_another_thread_is_waited_for(
    backend: BackendEnvironment, both: tuple[Operation, Operation]
) -> None:
    """The waiting thread does not step the operation itself."""
    earlier, later = both
    policy = TransactionPolicy(give_up_after=30, max_pause=0.3)
    sender = TransactionSender(backend.engine.w3, backend.wallets["platform"], backend.database, policy)
    receipt_requested, release = threading.Event(), threading.Event()

    def look() -> None:
        assert threading.current_thread() is not threading.main_thread(), "one thread carries an operation out"
        receipt_requested.set()
        release.wait(10)

    with ThreadPoolExecutor(1) as other, without_receipt(backend, earlier, look):
        finished = other.submit(sender.finish, earlier)
        assert receipt_requested.wait(10)
        assert not sender.step(later).closed
        assert not finished.done()
        backend.engine.w3.middleware_onion.remove("lag")
        backend.engine.w3.middleware_onion.add(Web3Middleware, "lag")  # the node shows it now
        sender.policy = replace(policy, max_pause=20)
        threading.Timer(0.1, release.set).start()
        assert sender.step(later).closed  # it waits until the other is done
        assert finished.result().succeeded
    assert state(backend, earlier) == "confirmed"


class Clock(Time):
    """A simulated clock; the random factor is always 7."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = set[tuple[float, float]]()

    def uniform(self, least: float, most: float) -> float:
        self.drawn.add((least, most))
        return 7


def sender_with(backend: BackendEnvironment, clock: Clock, **policy: Any) -> TransactionSender:
    """Returns a sender with a simulated clock."""
    sender = TransactionSender(
        backend.engine.w3,
        backend.wallets["platform"],
        backend.database,
        TransactionPolicy(**policy),
        clock=lambda: clock.now,
        sleep=clock.sleep,
        uniform=clock.uniform,
    )
    sender.allow(backend.chain.address)
    return sender


def finish(backend: BackendEnvironment, clock: Clock, operation: Operation, **policy: Any) -> ChainUnavailable:
    """Returns the error of a `finish` that gave up."""
    sender = sender_with(backend, clock, **policy)
    with pytest.raises(ChainUnavailable) as caught:
        sender.finish(operation)
    assert caught.value.operation == operation.key
    return caught.value


def test_pauses_grow_while_waiting(backend: BackendEnvironment, both: tuple[Operation, Operation]) -> None:
    clock, (operation, _) = Clock(), both
    with without_receipt(backend, operation):
        chain_error = finish(backend, clock, operation, give_up_after=1, min_pause=0.25, max_pause=0.25)
        assert clock.slept == [0.25] * 5  # just a second is no longer than that
        clock.slept.clear()
        finish(backend, clock, operation, give_up_after=2, min_pause=0.5, max_pause=0.7)
    assert clock.slept == [0.5, 0.5 * 1.2, 0.7, 0.7]
    assert clock.drawn == set()
    assert str(chain_error) == "bookEventFor: sent, but not mined in time; it may be mined yet."


def test_pauses_are_longer_after_a_node_error(backend: BackendEnvironment, both: tuple[Operation, Operation]) -> None:
    clock, (operation, _) = Clock(), both
    with too_many_requests(backend.engine.w3, "eth_getTransactionReceipt"):
        chain_error = finish(backend, clock, operation, give_up_after=4, min_pause=0.25, max_pause=0.25)
    assert (clock.slept, clock.drawn) == ([7 * 0.25] * 3, {(5, 15)})
    assert str(chain_error).startswith("bookEventFor: the node says: ")
    assert "too many requests" in str(chain_error)


def test_there_is_no_pause_after_progress(backend: BackendEnvironment) -> None:
    clock, run = Clock(), backend.open_run()
    operation = backend.bookings.prepare_book(run.id, backend.ids["attendee"], 1)
    assert sender_with(backend, clock).finish(operation).succeeded
    assert clock.slept == []


def test_a_node_error_of_an_earlier_operation_is_reported(
    backend: BackendEnvironment, both: tuple[Operation, Operation]
) -> None:
    clock, (earlier, later) = Clock(), both

    def busy() -> None:
        raise Web3Exception("too many requests")

    with without_receipt(backend, earlier, busy):
        chain_error = finish(backend, clock, later, give_up_after=1)
    assert str(chain_error) == "bookEventFor: the node says: too many requests."
    assert clock.drawn == {(5, 15)}


def test_an_operation_that_a_thread_gave_up_can_be_continued(
    backend: BackendEnvironment, both: tuple[Operation, Operation]
) -> None:
    earlier, later = both
    sender = sender_with(backend, Clock(), give_up_after=1)
    with without_receipt(backend, earlier), pytest.raises(ChainUnavailable):
        sender.finish(earlier)
    assert sender.step(later).state == state(backend, earlier) == "confirmed"


def test_a_revert_without_explanation_has_no_reason(backend: BackendEnvironment) -> None:
    w3 = backend.engine.w3
    with ExitStack() as busy:

        def meanwhile() -> None:
            pause(backend)  # so that it reverts
            busy.enter_context(too_many_requests(w3, "eth_call"))

        before_request(w3, meanwhile)
        with pytest.raises(ContractRejected) as caught:
            backend.open_run(host="host", signer=backend.wallets["host"])
    assert (caught.value.name, list(caught.value.args), caught.value.outcome) == ("Unknown", ["0x"], "reverted")
    assert str(caught.value).endswith("was refused by the contract: the reason can't be found any more.")


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (requests.ConnectionError("https://node/secret"), "the node can't be reached (ConnectionError)"),
        (TransactionNotFound("0xab"), "sent, but not mined in time; it may be mined yet"),
        (Web3Exception("..busy X..."), "the node says: ..busy X"),
    ],
)
def test_chain_unavailable_is_a_sentence_with_the_operations_key(error: Exception, problem: str) -> None:
    chain_error = as_chain_unavailable("bookEvent", error, "k")
    assert (str(chain_error), chain_error.operation) == (f"bookEvent: {problem}.", "k")


def test_the_reason_of_a_revert_is_read_at_its_block(backend: BackendEnvironment) -> None:
    """The contract's state has changed after that block."""
    w3, attendee = backend.engine.w3, backend.wallets["attendee"]
    run = backend.open_run()

    def unpause() -> None:
        transact(backend, "platform", "unpause")

    def meanwhile() -> None:
        pause(backend)
        before_request(w3, unpause, "eth_getTransactionReceipt")

    before_request(w3, meanwhile)
    with pytest.raises(ContractRejected) as caught:
        backend.bookings.book(run.id, backend.ids["attendee"], 1, signer=attendee)
    assert (caught.value.name, caught.value.outcome) == ("EnforcedPause", "reverted")


def test_the_reason_of_a_revert_is_read_with_its_gas_limit(backend: BackendEnvironment) -> None:
    """With more gas the call would succeed."""
    run = backend.open_run()
    booking = backend.bookings.book(run.id, backend.ids["attendee"], 1)
    operation = backend.bookings.prepare_cancel(booking.id)

    def says(gas: int) -> str:
        try:
            rpc.call(backend.engine.w3, operation.to_address, operation.data, sender=operation.sender, gas=gas)
        except ContractLogicError as error:
            return str(decode_revert(error, event_stake_codec()))
        except Web3Exception:
            return "out of gas"
        return "fine"

    low = next(gas for gas in range(100_000, 200_000, 2_000) if "InsufficientGas" in says(gas))
    nearsighted = Web3(backend.engine.w3.provider, [answering("eth_estimateGas", hex((low - GAS_MARGIN) * 5 // 6))])
    operation = impatient(backend, nearsighted).step(operation)
    assert low - 2 <= operation.attempts[0].gas_limit <= low
    operation = backend.sender.step(operation)
    assert operation.error is not None
    assert (operation.state, operation.error["name"]) == ("failed", "InsufficientGas")


def test_a_gas_limit_never_exceeds_that_of_a_transaction(backend_on_each_engine: BackendEnvironment) -> None:
    """Nodes refuse more since Osaka (EIP-7825). Settling the largest run takes 15,646,930 gas."""
    backend = backend_on_each_engine
    booking = backend.bookings.book(backend.open_run().id, backend.ids["attendee"], 1)
    operation = backend.bookings.prepare_cancel(booking.id)
    costly = Web3(backend.engine.w3.provider, [answering("eth_estimateGas", hex(15_646_930))])
    operation = impatient(backend, costly).step(operation)
    assert operation.attempts[0].gas_limit == 16_777_216
    backend.sender.finish(operation)  # a node may show the receipt a moment later
    assert backend.bookings.get(booking.id).status == "cancelled"


def test_stepping_an_old_copy_returns_the_current_operation(backend: BackendEnvironment) -> None:
    run = backend.open_run(seats=1)
    operation = backend.bookings.prepare_book(run.id, backend.ids["attendee"], 2)
    refused = backend.sender.step(operation)
    assert refused.state == "rejected"
    assert backend.sender.step(operation) == refused


def test_send_stores_an_operation_without_subject(backend: BackendEnvironment) -> None:
    for run in [backend.open_run() for _ in range(2)]:
        assert run.blockchain_event_run_id is not None
        backend.sender.send(backend.chain.cancel_event_call(run.blockchain_event_run_id))
    with backend.database.autocommit() as connection:
        statement = select(table.c.request, table.c.subject, table.c.state).where(table.c.kind == "cancelEvent")
        rows = connection.execute(statement).all()
    assert rows == [("", None, "confirmed")] * 2


def test_a_repeated_request_raises_the_stored_error(backend: BackendEnvironment) -> None:
    run = backend.open_run(seats=1)
    with pytest.raises(ContractRejected) as first:
        backend.bookings.book(run.id, backend.ids["attendee"], 2, idempotency_key="k")
    with pytest.raises(ContractRejected) as again:
        backend.bookings.book(run.id, backend.ids["attendee"], 2, idempotency_key="k")
    error, repeated = first.value, again.value
    assert str(error) == str(repeated)
    assert (error.name, list(error.args), error.outcome) == (repeated.name, list(repeated.args), repeated.outcome)


@pytest.mark.parametrize(
    ("last", "base_fee", "raised"),
    [
        ((2_000, 1_000), 100, (2_240, 1_120)),
        ((2_001, 1_001), 100, (2_242, 1_122)),  # 2,241.12 and 1,121.12: up, as nodes do
        ((2_000, 1_000), 560, (2_240, 1_120)),
        ((2_000, 1_000), 561, (2_242, 1_120)),  # twice the base fee and the tip, where that is more
        ((9_900, 1_000), 100, (11_000, 1_120)),  # by less than `bump_percent`, as the cap does not allow more
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
    """Searches for `first`, and returns the blocks whose condition was evaluated."""
    requested_blocks = list[int]()

    def holds(block: int) -> bool:
        requested_blocks.append(block)
        assert len(requested_blocks) < 40, "for ever"
        return block >= first

    assert first_block(holds, low, high) == first
    return requested_blocks


@pytest.mark.slow
@pytest.mark.parametrize("high", [1, 2, 33, 34, 100])
def test_first_block_finds_the_lowest_block(high: int) -> None:
    for first in range(1, high + 1):
        for low in range(high + 70):
            requested_blocks = looked_at(first, low, high)
            assert all(0 < block < high for block in requested_blocks)
            assert len(requested_blocks) <= 4 + 7  # some steps of 32 back, and halves of a hundred blocks


def test_first_block_takes_few_requests() -> None:
    assert len(looked_at(1_234, 1_000, 1_000_000)) < 25
