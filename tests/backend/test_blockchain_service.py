"""Transactions and results of `BlockchainService` without rows, to the wei, for each signer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from app.core.errors import ChainUnavailable, ContractRejected, InvalidRequest, UnexpectedReceipt, UnsupportedByContract
from app.services.blockchain_service import BlockchainService
from app.services.contract_types import DeferredPayout, EventRunCreated, TransactionResult
from backend_environment import DAY, BackendEnvironment, transact
from web3 import HTTPProvider, Web3
from web3.middleware import Web3Middleware
from web3.types import RPCEndpoint

ETH = 10**18
PRICE, STAKE = ETH // 10, 8 * ETH // 100
"""Price of a seat, and the host's stake for four seats, in wei."""


def open_run(backend: BackendEnvironment, **options: Any) -> EventRunCreated:
    return backend.chain.create_event_run_onchain("pottery", PRICE, 4, backend.now() + 3 * DAY, **options)


def assert_mined(backend: BackendEnvironment, result: TransactionResult, signer: str) -> None:
    """Checks the result's transaction fields and its signer against the node."""
    receipt = backend.engine.w3.eth.get_transaction_receipt(result.tx_hash)  # type: ignore[arg-type]
    assert receipt["from"] == backend.wallets[signer].address
    assert (result.block_number, result.gas_used) == (receipt["blockNumber"], receipt["gasUsed"])
    assert result.gas_cost == receipt["gasUsed"] * receipt["effectiveGasPrice"]


def test_the_platform_opens_a_run_for_a_host(backend: BackendEnvironment) -> None:
    host = backend.wallets["host"].address
    run = open_run(backend, host=host.lower())
    assert (run.onchain_run_id, run.host, run.experience_id) == (1, host, "pottery")
    assert (run.price_per_seat, run.max_seats, run.host_stake, run.deferred) == (PRICE, 4, STAKE, ())
    assert_mined(backend, run, "platform")


@pytest.mark.parametrize("named", [True, False])
def test_a_host_who_signs_pays_the_stake(backend: BackendEnvironment, named: bool) -> None:
    host = backend.wallets["host"]
    before = backend.balance("host")
    run = open_run(backend, signer=host, **({"host": host.address.lower()} if named else {}))
    assert (run.host, before - backend.balance("host")) == (host.address, STAKE + run.gas_cost)
    assert_mined(backend, run, "host")


def test_a_given_amount_is_sent_exactly(backend: BackendEnvironment) -> None:
    assert open_run(backend, stake_wei=STAKE).host_stake == STAKE
    with pytest.raises(ContractRejected) as caught:
        open_run(backend, stake_wei=STAKE + 1)
    assert (caught.value.name, caught.value.args) == ("WrongValue", (STAKE + 1, STAKE))
    with pytest.raises(ContractRejected) as caught:
        backend.chain.book_event_onchain(1, 1, total_wei=PRICE)
    assert (caught.value.name, caught.value.args) == ("WrongValue", (PRICE, 12 * ETH // 100))


def test_book_event_returns_the_booking_of_the_receipt(backend: BackendEnvironment) -> None:
    open_run(backend)
    attendee = backend.wallets["attendee"]
    booked = backend.chain.book_event_onchain(1, 2, attendee=attendee.address)
    assert (booked.onchain_booking_id, booked.onchain_run_id, booked.user, booked.seat_count) == (
        1,
        1,
        attendee.address,
        2,
    )
    assert (booked.total_payment, booked.user_stake) == (2 * PRICE, 4 * ETH // 100)
    assert_mined(backend, booked, "platform")
    before = backend.balance("attendee")
    own = backend.chain.book_event_onchain(1, 1, signer=attendee)
    assert (own.user, before - backend.balance("attendee")) == (attendee.address, 12 * ETH // 100 + own.gas_cost)
    assert_mined(backend, own, "attendee")
    assert backend.chain.book_event_onchain(1, 1, attendee=attendee.address, signer=attendee).user == attendee.address
    assert backend.chain.get_event_bookings(1) == backend.chain.get_user_bookings(attendee.address.lower()) == [1, 2, 3]
    cost = backend.chain.calculate_booking_cost(1, 2)
    assert (cost.payment_wei, cost.stake_wei, cost.total_wei) == (2 * PRICE, 4 * ETH // 100, 24 * ETH // 100)


def test_complete_event_returns_returned_and_forfeited_stakes(backend: BackendEnvironment) -> None:
    open_run(backend, host=backend.wallets["host"].address)
    for role in ("attendee", "no_show"):
        backend.chain.book_event_onchain(1, 2, attendee=backend.wallets[role].address)
    backend.go_to(backend.now() + 4 * DAY)
    result = backend.chain.complete_event_onchain(1, [1], backend.wallets["host"])
    assert (result.onchain_run_id, result.stakes_returned, result.stakes_forfeited) == (
        1,
        {1: 4 * ETH // 100},
        {2: 4 * ETH // 100},
    )
    assert (result.host_payout, result.host_stake_returned, result.deferred) == (38 * ETH // 100, STAKE, ())
    assert_mined(backend, result, "host")
    assert backend.chain.get_event_run_from_chain(1).host_stake_withdrawn
    assert backend.chain.platform_balance() == backend.chain.total_liabilities() == 6 * ETH // 100
    with pytest.raises(ContractRejected) as caught:
        backend.chain.withdraw_platform_fees_onchain(backend.wallets["stranger"])
    assert caught.value.name == "OwnableUnauthorizedAccount"
    assert backend.chain.withdraw_platform_fees_onchain().amount == 6 * ETH // 100


def test_cancelling_returns_the_refunds(backend: BackendEnvironment) -> None:
    open_run(backend, host=backend.wallets["host"].address)
    for role in ("attendee", "no_show"):
        backend.chain.book_event_onchain(1, 1, attendee=backend.wallets[role].address)
    cancelled = backend.chain.cancel_booking_onchain(1, backend.wallets["attendee"])
    assert (cancelled.onchain_booking_id, cancelled.user, cancelled.refund) == (
        1,
        backend.wallets["attendee"].address,
        12 * ETH // 100,
    )
    assert_mined(backend, cancelled, "attendee")
    all_of_it = backend.chain.cancel_event_onchain(1, backend.wallets["host"])
    assert (all_of_it.onchain_run_id, all_of_it.refunds_issued) == (1, 12 * ETH // 100)
    assert_mined(backend, all_of_it, "host")


def test_anybody_may_expire_a_run(backend: BackendEnvironment) -> None:
    open_run(backend, host=backend.wallets["host"].address)
    backend.chain.book_event_onchain(1, 3, attendee=backend.wallets["attendee"].address)
    backend.go_to(backend.now() + 11 * DAY)
    result = backend.chain.expire_event_onchain(1, backend.wallets["stranger"])
    assert (result.onchain_run_id, result.refunds_issued, result.compensation) == (1, 36 * ETH // 100, STAKE)
    assert_mined(backend, result, "stranger")


@pytest.mark.parametrize(
    "contracts_on_each_engine", ["anvil"], ids=["a node that can put code at an address"], indirect=True
)
@pytest.mark.parametrize("to", ["host", "stranger"])
@pytest.mark.slow
def test_a_refused_payout_becomes_a_credit_to_withdraw(backend_on_each_engine: BackendEnvironment, to: str) -> None:
    backend, host = backend_on_each_engine, backend_on_each_engine.wallets["host"]
    open_run(backend, host=host.address)
    refusing, nothing = "0x60006000fd", "0x"
    put = RPCEndpoint("anvil_setCode")
    backend.engine.w3.provider.make_request(put, [host.address, refusing])
    assert backend.chain.cancel_event_onchain(1).deferred == (DeferredPayout(host.address, STAKE),)
    backend.engine.w3.provider.make_request(put, [host.address, nothing])
    assert backend.chain.credit_of(host.address.lower()) == STAKE
    before, receiver = backend.balance(to), backend.wallets[to].address
    result = backend.chain.withdraw_onchain(host, None if to == "host" else receiver.lower())
    assert (result.creditor, result.to, result.amount) == (host.address, receiver, STAKE)
    assert backend.balance(to) - before == STAKE - (result.gas_cost if to == "host" else 0)
    assert_mined(backend, result, "host")
    assert backend.chain.credit_of(host.address) == 0


def test_events_between_returns_the_events_of_these_blocks(backend: BackendEnvironment) -> None:
    before = backend.chain.block_number()
    run = open_run(backend)
    booked = backend.chain.book_event_onchain(1, 1)
    assert backend.chain.events_between(before, before) == []
    message = backend.chain.events_between(run.block_number, booked.block_number)
    assert [(tx_hash, event.name) for tx_hash, event in message] == [
        (run.tx_hash, "EventRunCreated"),
        (run.tx_hash, "EventRunScheduled"),
        (booked.tx_hash, "BookingCreated"),
    ]
    assert message[2][1].args["total_payment"] == PRICE
    for result, events in ((run, message[:2]), (booked, message[2:])):
        assert backend.chain.events_between(result.block_number, result.block_number) == events


def test_events_between_requests_logs_of_the_contract_only(backend: BackendEnvironment) -> None:
    """On a public chain, other contracts have many logs."""
    requests: list[Any] = []

    class Note(Web3Middleware):
        def request_processor(self, method: Any, params: Any) -> Any:
            requests.extend(params if method == "eth_getLogs" else [])
            return method, params

    chain = BlockchainService(Web3(backend.engine.w3.provider, [Note]), backend.chain.address, backend.sender)
    chain.events_between(1, 2)
    [request] = requests
    assert backend.chain.address in request["address"]  # alone, or in a list


def test_an_unreachable_node_is_reported_with_the_request(backend: BackendEnvironment) -> None:
    nowhere = Web3(HTTPProvider("http://127.0.0.1:1", exception_retry_configuration=None))
    chain = BlockchainService(nowhere, backend.chain.address, backend.sender)
    for request_name, attempt in (
        ("block number", chain.block_number),
        ("block", lambda: chain.block_header("latest")),
        ("events", lambda: chain.events_between(0, 1)),
        ("owner", chain.owner),
    ):
        with pytest.raises(ChainUnavailable, match=rf"^{request_name}: the node can't be reached"):
            attempt()


def test_a_failed_view_is_reported_with_its_function(backend: BackendEnvironment) -> None:
    """The contract reverts, or the node has an error that web3 takes for a revert."""
    with pytest.raises(
        ContractRejected, match=r"^getBooking was refused by the contract: UnknownBooking \(bookingId 9\)\."
    ):
        backend.chain.get_booking_from_chain(9)

    for data in (None, {}):  # some nodes have data where others have none

        class Busy(Web3Middleware):
            error: ClassVar[dict[str, Any]] = {"code": 3, "message": "too many requests", "data": data}

            def response_processor(self, method: Any, response: Any) -> Any:
                return {"jsonrpc": "2.0", "id": 1, "error": self.error}

        busy = BlockchainService(Web3(backend.engine.w3.provider, [Busy]), backend.chain.address, backend.sender)
        with pytest.raises(ChainUnavailable, match=r"^owner: the node says: .*too many requests"):
            busy.owner()


def test_an_invalid_address_is_quoted_in_the_error(backend: BackendEnvironment) -> None:
    for attempt in (
        lambda: backend.chain.credit_of("0x12"),
        lambda: backend.chain.get_host_events("0x12"),
        lambda: backend.chain.withdraw_onchain(backend.wallets["host"], "0x12"),
        lambda: open_run(backend, host="0x12"),
    ):
        with pytest.raises(InvalidRequest, match="'0x12' is no Ethereum address"):
            attempt()


@pytest.mark.parametrize(
    ("event", "send"),
    [
        ("BookingCreated", lambda chain: chain.book_event_onchain(1, 5, total_wei=0)),
        ("PlatformFeesWithdrawn", lambda chain: chain.withdraw_platform_fees_onchain()),
        ("CreditWithdrawn", lambda chain: chain.withdraw_onchain(chain.sender.accounts[0])),
    ],
)
def test_a_receipt_without_the_expected_event_is_an_error(
    grumbler: BackendEnvironment, event: str, send: Callable[[BlockchainService], Any]
) -> None:
    with pytest.raises(UnexpectedReceipt) as caught:
        send(grumbler.chain)
    block = grumbler.engine.w3.eth.get_block("latest")
    tx_hash = block["transactions"][0].to_0x_hex()  # type: ignore[union-attr]
    assert str(caught.value) == f"Transaction {tx_hash} has 0 events {event} where one must be."


def test_a_function_missing_in_the_deployed_interface_is_named(minimal: BackendEnvironment) -> None:
    chain, host = minimal.chain, minimal.wallets["host"]
    for function, attempt in (
        ("withdraw", lambda: chain.withdraw_onchain(host)),
        ("withdrawTo", lambda: chain.withdraw_onchain(host, host.address)),
        ("cancelBooking", lambda: chain.cancel_booking_onchain(1)),
        ("expireEvent", lambda: chain.expire_event_onchain(1)),
        ("creditOf", lambda: chain.credit_of(host.address)),
        ("isOperator", lambda: chain.is_operator(host.address)),
        ("platformBalance", chain.platform_balance),
        ("totalLiabilities", chain.total_liabilities),
    ):
        with pytest.raises(UnsupportedByContract) as caught:
            attempt()
        assert str(caught.value) == f"The contract at {chain.address} has no {function}: there is no other way."
    for function, attempt in (
        ("createEventRunFor", lambda: open_run(minimal, host=host.address)),
        ("bookEventFor", lambda: chain.book_event_onchain(1, 1, attendee=host.address)),
    ):
        with pytest.raises(UnsupportedByContract) as caught:
            attempt()
        why = f"{host.address} has to sign for itself"
        assert str(caught.value) == f"The contract at {chain.address} has no {function}: {why}."


@pytest.mark.parametrize(("number", "is_zero", "is_known"), [(1, False, True), (2, False, False), (1, True, False)])
def test_a_contract_that_answers_with_something_else_knows_nothing(
    backend: BackendEnvironment, monkeypatch: pytest.MonkeyPatch, number: int, is_zero: bool, is_known: bool
) -> None:
    """Another run or booking than was asked for, or one of nobody."""
    chain = backend.chain
    run = backend.open_run()
    backend.bookings.book(run.id, backend.ids["attendee"], 1)
    for function, read, whose in (
        ("getEventRun", chain.get_event_run_from_chain, 1),
        ("getBooking", chain.get_booking_from_chain, 2),
    ):
        [answer] = chain._view(function, 1)
        changed = [number, *answer[1:]]
        changed[whose] = "0x" + "00" * 20 if is_zero else answer[whose]
        with monkeypatch.context() as patch:
            patch.setattr(chain, "_view", lambda *_, changed=tuple(changed), **__: (changed,))
            if is_known:
                assert read(1).status.name == "ACTIVE"
            else:
                with pytest.raises(ContractRejected, match=f"^{function}: the contract has nothing under the id 1"):
                    read(1)


def test_for_whom_a_call_is(backend: BackendEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a lane the platform itself is named as well, as the lane's account may be another one."""
    address = {role: account.address for role, account in backend.wallets.items()}
    cases: list[tuple[str | None, str | None, bool, str | None]] = [
        (None, None, False, None),
        (None, "host", True, None),
        ("platform", None, False, None),
        ("platform", None, True, "platform"),
        ("host", None, False, "host"),
        ("host", None, True, "host"),
        ("host", "host", False, None),
        ("host", "host", True, None),
        ("platform", "host", False, "platform"),
    ]
    for party, signer, are_several, for_party in cases:
        monkeypatch.setattr(type(backend.sender.lanes), "are_several", are_several)
        account = backend.wallets[signer] if signer else None
        called = backend.chain._for_party("bookEvent", party and address[party], account)
        assert called == (("bookEventFor", (address[for_party],)) if for_party else ("bookEvent", ()))


def test_who_acts_for_the_platform(backend: BackendEnvironment) -> None:
    operator = backend.wallets["stranger"].address
    transact(backend, "platform", "setOperator", operator, True)
    assert backend.chain.owner() == backend.wallets["platform"].address
    assert [backend.chain.is_operator(backend.wallets[role].address) for role in ("stranger", "host")] == [True, False]
