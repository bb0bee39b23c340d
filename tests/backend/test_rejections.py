"""Rejections by the contract: errors have the type and the reason, and rows are marked as failed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from app.core.errors import ChainUnavailable, ContractRejected, UnexpectedReceipt, UnsupportedByContract
from app.services.blockchain_service import BlockchainService
from app.services.codec import Codec, Revert, event_stake_codec, revert_data
from app.services.rpc_errors import decode_revert, rejection_message
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from backend_environment import DAY, BackendEnvironment, answering, before_request, too_many_requests, transact
from web3 import HTTPProvider, Web3
from web3.exceptions import ContractLogicError
from web3.middleware import Web3Middleware


def pause(backend: BackendEnvironment) -> None:
    transact(backend, "platform", "pause")


def impatient(backend: BackendEnvironment, w3: Web3, patience: float = 0.01) -> TransactionSender:
    sender = TransactionSender(
        w3, backend.wallets["platform"], backend.database, TransactionPolicy(give_up_after=patience)
    )
    sender.allow(backend.chain.address)
    return sender


def test_a_custom_error_comes_back_with_its_arguments(backend_on_each_engine: BackendEnvironment) -> None:
    backend = backend_on_each_engine
    run = backend.open_run(seats=2)
    nonce = backend.engine.w3.eth.get_transaction_count(backend.wallets["platform"].address)
    with pytest.raises(ContractRejected) as caught:
        backend.bookings.book(run.id, backend.ids["attendee"], 3)
    error = caught.value
    assert (error.name, error.args, error.outcome, error.receipt) == ("NotEnoughSeats", (3, 2), "rejected", None)
    assert str(error) == "bookEventFor was refused by the contract: NotEnoughSeats (requested 3, available 2)."
    assert backend.engine.w3.eth.get_transaction_count(backend.wallets["platform"].address) == nonce
    [row] = backend.bookings.list_all()
    assert (row.blockchain_status, row.blockchain_error) == ("failed", str(error))
    assert (row.blockchain_booking_id, row.blockchain_tx_hash) == (None, None)
    assert backend.runs.get(run.id).seats_booked == 0


@pytest.mark.parametrize(
    ("name", "attempt"),
    [
        ("InvalidSeats", lambda s, run: s.bookings.book(run.id, s.ids["attendee"], 0)),
        ("InvalidSeats", lambda s, run: s.open_run(seats=10_000)),
        ("InvalidPrice", lambda s, run: s.open_run(inr="0")),
        ("TooEarly", lambda s, run: s.runs.complete(run.id, [])),
        ("TooEarly", lambda s, run: s.runs.expire(run.id)),
        ("NotAuthorized", lambda s, run: s.runs.cancel(run.id, signer=s.wallets["stranger"])),
        ("OwnableUnauthorizedAccount", lambda s, run: s.open_run(signer=s.wallets["stranger"])),
        ("WrongValue", lambda s, run: s.chain.book_event_onchain(1, 1, total_wei=1)),
        ("UnknownEventRun", lambda s, run: s.chain.get_event_run_from_chain(99)),
        ("UnknownBooking", lambda s, run: s.chain.get_booking_from_chain(99)),
        ("Panic", lambda s, run: s.bookings.quote(run.id, 2**256 - 1)),
        ("NothingToWithdraw", lambda s, run: s.chain.withdraw_onchain(s.wallets["attendee"])),
        (
            "NothingToWithdraw",
            lambda s, run: s.chain.withdraw_onchain(s.wallets["host"], s.wallets["platform"].address),
        ),
        ("InvalidReceiver", lambda s, run: s.chain.withdraw_onchain(s.wallets["host"], s.chain.address)),
    ],
)
def test_the_contract_checks_seats_times_and_authority(
    backend: BackendEnvironment, name: str, attempt: Callable[..., Any]
) -> None:
    run = backend.open_run()
    with pytest.raises(ContractRejected) as caught:
        attempt(backend, run)
    assert caught.value.name == name
    assert backend.runs.get(run.id) == run


def test_attendance_is_checked_in_the_given_order(backend: BackendEnvironment) -> None:
    run, other = backend.open_run(), backend.open_run()
    mine = backend.bookings.book(run.id, backend.ids["attendee"], 1)
    theirs = backend.bookings.book(other.id, backend.ids["attendee"], 1)
    backend.go_to(run.starts_at + DAY)
    for listed, name in (([mine.id, mine.id], "BookingNotActive"), ([theirs.id], "BookingNotOfRun")):
        with pytest.raises(ContractRejected) as caught:
            backend.runs.complete(run.id, listed)
        assert caught.value.name == name
    assert [row.status for row in backend.bookings.list_all()] == ["active", "active"]


def test_revert_strings_are_unchanged(minimal: BackendEnvironment) -> None:
    backend = minimal
    run = backend.open_run(seats=1, signer=backend.wallets["host"])
    with pytest.raises(ContractRejected) as caught:
        backend.bookings.book(run.id, backend.ids["attendee"], 2, signer=backend.wallets["attendee"])
    assert (caught.value.name, caught.value.args) == ("Error", ("Not enough seats",))
    assert str(caught.value) == "bookEvent was refused by the contract: Not enough seats."


def test_a_revert_on_chain_has_its_reason(backend_on_each_engine: BackendEnvironment) -> None:
    backend = backend_on_each_engine
    run = backend.open_run()
    before = backend.balance("attendee")
    before_request(backend.engine.w3, lambda: pause(backend))
    with pytest.raises(ContractRejected) as caught:
        backend.bookings.book(run.id, backend.ids["attendee"], 1, signer=backend.wallets["attendee"])
    error = caught.value
    assert (error.name, error.args, error.outcome) == ("EnforcedPause", (), "reverted")
    assert error.receipt is not None
    assert not error.receipt.succeeded
    paid = error.receipt.gas_used * error.receipt.gas_price
    assert before - backend.balance("attendee") == paid > 0
    [row] = backend.bookings.list_all()
    assert (row.blockchain_status, row.status) == ("failed", "active")
    assert row.blockchain_tx_hash == error.receipt.tx_hash


def test_out_of_gas_on_chain_is_named(backend_on_each_engine: BackendEnvironment) -> None:
    """The estimate is far too low."""
    run = backend_on_each_engine.open_run()
    booking = backend_on_each_engine.bookings.book(run.id, backend_on_each_engine.ids["attendee"], 1)
    backend = backend_on_each_engine
    nearsighted = Web3(backend.engine.w3.provider, [answering("eth_estimateGas", "0x1")])
    chain = BlockchainService(backend.engine.w3, backend.chain.address, impatient(backend, nearsighted, 1))
    with pytest.raises(ContractRejected) as caught:
        chain.cancel_booking_onchain(booking.blockchain_booking_id or 0)
    assert (caught.value.name, caught.value.outcome) == ("OutOfGas", "reverted")


@pytest.mark.parametrize(
    ("seats", "name", "args", "message"),
    [
        (1, "Error", ("the quota is used up",), "bookEvent was refused by the contract: the quota is used up."),
        (2, "Panic", (1,), "bookEvent was refused by the contract: panic 0x01, an assertion failed."),
        (3, "Unknown", None, "bookEvent was refused by the contract: unknown error 0x"),
        (4, "Unknown", ("0x",), "bookEvent was refused by the contract: no reason given."),
    ],
)
def test_each_kind_of_revert_is_decoded(
    grumbler: BackendEnvironment, seats: int, name: str, args: tuple[Any, ...] | None, message: str
) -> None:
    with pytest.raises(ContractRejected) as caught:
        grumbler.chain.book_event_onchain(1, seats, total_wei=0)
    assert caught.value.name == name
    if args is not None:
        assert caught.value.args == args
    assert str(caught.value).startswith(message)


def test_ids_come_from_events_of_the_contract_only(grumbler: BackendEnvironment) -> None:
    backend = grumbler
    assert (
        backend.chain.book_event_onchain(1, 6, total_wei=0).onchain_booking_id == 42
    )  # and not the 41 of another address
    for seats, count in ((5, "0 events"), (8, "2 events"), (9, "0 events")):
        with pytest.raises(UnexpectedReceipt, match=f"has {count} BookingCreated where one must be"):
            backend.chain.book_event_onchain(1, seats, total_wei=0)
    with pytest.raises(UnsupportedByContract, match="no getEventRun"):
        backend.at("0x00000000000000000000000000000000000000aa").get_event_run_from_chain(1)


def test_an_unreachable_node_is_not_taken_for_a_revert(backend: BackendEnvironment) -> None:
    """A node's error does not tell whether the contract has a function, and is not cached."""
    backend.open_run()
    nowhere = Web3(HTTPProvider("http://127.0.0.1:1/v2/secret-of-the-rpc", exception_retry_configuration=None))
    chain = BlockchainService(nowhere, backend.chain.address, impatient(backend, nowhere))
    for attempt in (lambda: chain.has_full_interface, chain.owner, lambda: chain.book_event_onchain(1, 1, total_wei=1)):
        with pytest.raises(ChainUnavailable, match="the node can't be reached") as caught:
            attempt()
        assert "secret" not in str(caught.value)


def test_waiting_for_a_receipt_ends(backend: BackendEnvironment) -> None:
    class Amnesia(Web3Middleware):
        def response_processor(self, method: Any, response: Any) -> Any:
            if method == "eth_getTransactionReceipt":
                return {"jsonrpc": "2.0", "id": 1, "result": None}
            return response

    backend.engine.w3.middleware_onion.add(Amnesia, "amnesia")
    try:
        chain = BlockchainService(backend.engine.w3, backend.chain.address, impatient(backend, backend.engine.w3))
        with pytest.raises(ChainUnavailable, match="sent, but not mined in time"):
            chain.create_event_run_onchain("x", 10, 1, backend.now() + DAY)
    finally:
        backend.engine.w3.middleware_onion.remove("amnesia")


def test_insufficient_funds_are_reported_by_the_node(backend_on_each_engine: BackendEnvironment) -> None:
    backend = backend_on_each_engine
    run = backend.open_run(inr="100000000")
    backend.engine.set_balance(backend.wallets["attendee"].address, 10**18)
    with pytest.raises(ChainUnavailable, match="bookEvent"):
        backend.bookings.book(run.id, backend.ids["attendee"], 1, signer=backend.wallets["attendee"])
    assert backend.chain.get_event_bookings(1) == []


@pytest.mark.parametrize("wrapped", [lambda d: d, lambda d: f"Reverted {d}", lambda d: {"data": d}])
def test_revert_data_is_found_in_each_nodes_format(wrapped: Callable[[str], Any]) -> None:
    data = "0x" + event_stake_codec().call(Web3.to_checksum_address("0x" + "11" * 20), "pause").data.hex()
    assert revert_data(ContractLogicError("execution reverted", data=wrapped(data))).hex() == data[2:]


def test_a_node_error_that_looks_like_a_revert_is_none() -> None:
    codec: Codec = event_stake_codec()
    assert decode_revert(ContractLogicError("rate limited", data="please wait a while"), codec) is None
    assert decode_revert(ContractLogicError(None), codec) is None
    revert = decode_revert(ContractLogicError("execution reverted: X said in words only X", data="no data"), codec)
    assert revert == ("Error", ("X said in words only X",), "X said in words only X")


def test_a_refusal_is_a_sentence() -> None:
    assert rejection_message("bookEvent", Revert("Error", (), ". seats: X..")) == (
        "bookEvent was refused by the contract: . seats: X."
    )


def test_a_rejection_survives_a_process_boundary() -> None:
    error = ContractRejected("WrongValue", [1, 2], "no", "reverted")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.name, copy.args, copy.message, copy.outcome) == ("WrongValue", (1, 2), "no", "reverted")


def test_a_final_operation_without_receipt_is_chain_unavailable(backend: BackendEnvironment) -> None:
    """The second node lags behind the one that returned the receipt."""
    run = backend.open_run()
    operation = backend.bookings.prepare_book(run.id, backend.ids["attendee"], 1)
    backend.sender.finish(operation)
    lagging = impatient(backend, Web3(backend.engine.w3.provider, [answering("eth_getTransactionReceipt", None)]), 1)
    with pytest.raises(ChainUnavailable, match="bookEventFor is final, but the node") as caught:
        lagging.finish(lagging.step(operation))
    assert caught.value.operation == operation.key
    operation = lagging.step(operation)
    busy = too_many_requests(backend.engine.w3, "eth_getTransactionReceipt")
    with busy, pytest.raises(ChainUnavailable, match=r"bookEventFor: the node says: .*too many requests") as caught:
        backend.sender.finish(operation)
    assert caught.value.operation == operation.key
