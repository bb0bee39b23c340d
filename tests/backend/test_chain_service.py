"""What the chain service sends and tells by itself, without rows: to the wei, for whoever signs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from app.core.errors import ChainUnavailable, ContractRejected, InvalidRequest, UnexpectedReceipt, UnsupportedByContract
from app.services.blockchain_service import BlockchainService
from app.services.contract_types import DeferredPayout, EventRunCreated, TransactionResult
from stage import DAY, Stage
from web3 import HTTPProvider, Web3
from web3.middleware import Web3Middleware
from web3.types import RPCEndpoint

ETH = 10**18
PRICE, STAKE = ETH // 10, 8 * ETH // 100
"""Wei a seat, and what the host of four seats puts down."""


def open_run(stage: Stage, **options: Any) -> EventRunCreated:
    return stage.chain.create_event_run_onchain("pottery", PRICE, 4, stage.now() + 3 * DAY, **options)


def assert_mined(stage: Stage, done: TransactionResult, signer: str) -> None:
    """It tells of its transaction what the node says, and who signed it."""
    receipt = stage.engine.w3.eth.get_transaction_receipt(done.tx_hash)  # type: ignore[arg-type]
    assert receipt["from"] == stage.wallets[signer].address
    assert (done.block_number, done.gas_used) == (receipt["blockNumber"], receipt["gasUsed"])
    assert done.gas_cost == receipt["gasUsed"] * receipt["effectiveGasPrice"]


def test_the_platform_opens_a_run_for_a_host(stage: Stage) -> None:
    host = stage.wallets["host"].address
    run = open_run(stage, host=host.lower())
    assert (run.onchain_run_id, run.host, run.experience_id) == (1, host, "pottery")
    assert (run.price_per_seat, run.max_seats, run.host_stake, run.deferred) == (PRICE, 4, STAKE, ())
    assert_mined(stage, run, "platform")


@pytest.mark.parametrize("named", [True, False])
def test_a_host_who_signs_pays_the_stake(stage: Stage, named: bool) -> None:
    host = stage.wallets["host"]
    before = stage.balance("host")
    run = open_run(stage, signer=host, **({"host": host.address.lower()} if named else {}))
    assert (run.host, before - stage.balance("host")) == (host.address, STAKE + run.gas_cost)
    assert_mined(stage, run, "host")


def test_the_wei_given_are_the_wei_sent(stage: Stage) -> None:
    assert open_run(stage, stake_wei=STAKE).host_stake == STAKE
    with pytest.raises(ContractRejected) as caught:
        open_run(stage, stake_wei=STAKE + 1)
    assert (caught.value.name, caught.value.args) == ("WrongValue", (STAKE + 1, STAKE))
    with pytest.raises(ContractRejected) as caught:
        stage.chain.book_event_onchain(1, 1, total_wei=PRICE)
    assert (caught.value.name, caught.value.args) == ("WrongValue", (PRICE, 12 * ETH // 100))


def test_a_booking_is_told_as_it_was_made(stage: Stage) -> None:
    open_run(stage)
    attendee = stage.wallets["attendee"]
    booked = stage.chain.book_event_onchain(1, 2, attendee=attendee.address)
    assert (booked.onchain_booking_id, booked.onchain_run_id, booked.user, booked.seat_count) == (
        1,
        1,
        attendee.address,
        2,
    )
    assert (booked.total_payment, booked.user_stake) == (2 * PRICE, 4 * ETH // 100)
    assert_mined(stage, booked, "platform")
    before = stage.balance("attendee")
    own = stage.chain.book_event_onchain(1, 1, signer=attendee)
    assert (own.user, before - stage.balance("attendee")) == (attendee.address, 12 * ETH // 100 + own.gas_cost)
    assert_mined(stage, own, "attendee")
    assert stage.chain.book_event_onchain(1, 1, attendee=attendee.address, signer=attendee).user == attendee.address
    assert stage.chain.get_event_bookings(1) == stage.chain.get_user_bookings(attendee.address.lower()) == [1, 2, 3]
    cost = stage.chain.calculate_booking_cost(1, 2)
    assert (cost.payment, cost.stake, cost.total) == (2 * PRICE, 4 * ETH // 100, 24 * ETH // 100)


def test_who_came_and_who_did_not_are_told_apart(stage: Stage) -> None:
    open_run(stage, host=stage.wallets["host"].address)
    for role in ("attendee", "no_show"):
        stage.chain.book_event_onchain(1, 2, attendee=stage.wallets[role].address)
    stage.go_to(stage.now() + 4 * DAY)
    done = stage.chain.complete_event_onchain(1, [1], stage.wallets["host"])
    assert (done.onchain_run_id, done.stakes_returned, done.stakes_forfeited) == (
        1,
        {1: 4 * ETH // 100},
        {2: 4 * ETH // 100},
    )
    assert (done.host_payout, done.host_stake_returned, done.deferred) == (38 * ETH // 100, STAKE, ())
    assert_mined(stage, done, "host")
    assert stage.chain.get_event_run_from_chain(1).host_stake_withdrawn
    assert stage.chain.platform_balance() == stage.chain.total_liabilities() == 6 * ETH // 100
    with pytest.raises(ContractRejected) as caught:
        stage.chain.withdraw_platform_fees_onchain(stage.wallets["stranger"])
    assert caught.value.name == "OwnableUnauthorizedAccount"
    assert stage.chain.withdraw_platform_fees_onchain().amount == 6 * ETH // 100


def test_what_was_cancelled_is_told_with_its_refunds(stage: Stage) -> None:
    open_run(stage, host=stage.wallets["host"].address)
    for role in ("attendee", "no_show"):
        stage.chain.book_event_onchain(1, 1, attendee=stage.wallets[role].address)
    one = stage.chain.cancel_booking_onchain(1, stage.wallets["attendee"])
    assert (one.onchain_booking_id, one.user, one.refund) == (1, stage.wallets["attendee"].address, 12 * ETH // 100)
    assert_mined(stage, one, "attendee")
    all_of_it = stage.chain.cancel_event_onchain(1, stage.wallets["host"])
    assert (all_of_it.onchain_run_id, all_of_it.refunds_issued) == (1, 12 * ETH // 100)
    assert_mined(stage, all_of_it, "host")


def test_anybody_may_end_what_nobody_completed(stage: Stage) -> None:
    open_run(stage, host=stage.wallets["host"].address)
    stage.chain.book_event_onchain(1, 3, attendee=stage.wallets["attendee"].address)
    stage.go_to(stage.now() + 11 * DAY)
    done = stage.chain.expire_event_onchain(1, stage.wallets["stranger"])
    assert (done.onchain_run_id, done.refunds_issued, done.compensation) == (1, 36 * ETH // 100, STAKE)
    assert_mined(stage, done, "stranger")


@pytest.mark.parametrize("each_ground", ["anvil"], ids=["a node that can put code at an address"], indirect=True)
@pytest.mark.parametrize("to", ["host", "stranger"])
@pytest.mark.slow
def test_what_a_receiver_refused_is_a_credit_that_is_withdrawn(each_stage: Stage, to: str) -> None:
    stage, host = each_stage, each_stage.wallets["host"]
    open_run(stage, host=host.address)
    refusing, nothing = "0x60006000fd", "0x"
    put = RPCEndpoint("anvil_setCode")
    stage.engine.w3.provider.make_request(put, [host.address, refusing])
    assert stage.chain.cancel_event_onchain(1).deferred == (DeferredPayout(host.address, STAKE),)
    stage.engine.w3.provider.make_request(put, [host.address, nothing])
    assert stage.chain.credit_of(host.address.lower()) == STAKE
    before, receiver = stage.balance(to), stage.wallets[to].address
    done = stage.chain.withdraw_onchain(host, None if to == "host" else receiver.lower())
    assert (done.creditor, done.to, done.amount) == (host.address, receiver, STAKE)
    assert stage.balance(to) - before == STAKE - (done.gas_cost if to == "host" else 0)
    assert_mined(stage, done, "host")
    assert stage.chain.credit_of(host.address) == 0


def test_events_are_those_of_the_blocks_asked_for(stage: Stage) -> None:
    before = stage.chain.block_number()
    run = open_run(stage)
    booked = stage.chain.book_event_onchain(1, 1)
    assert stage.chain.events_between(before, before) == []
    told = stage.chain.events_between(run.block_number, booked.block_number)
    assert [(tx_hash, event.name) for tx_hash, event in told] == [
        (run.tx_hash, "EventRunCreated"),
        (booked.tx_hash, "BookingCreated"),
    ]
    assert told[1][1].args["total_payment"] == PRICE
    for made, event in zip((run, booked), told, strict=True):
        assert stage.chain.events_between(made.block_number, made.block_number) == [event]


def test_a_node_is_asked_for_the_logs_of_the_contract_alone(stage: Stage) -> None:
    """Those of all others are many, on a chain that others use too."""
    asked: list[Any] = []

    class Note(Web3Middleware):
        def request_processor(self, method: Any, params: Any) -> Any:
            asked.append(params)
            return method, params

    chain = BlockchainService(Web3(stage.engine.w3.provider, [Note]), stage.chain.address, stage.sender)
    chain.events_between(1, 2)
    [[request]] = asked
    assert stage.chain.address in request["address"]  # alone, or in a list


def test_a_node_out_of_reach_is_said_with_what_was_asked(stage: Stage) -> None:
    nowhere = Web3(HTTPProvider("http://127.0.0.1:1", exception_retry_configuration=None))
    chain = BlockchainService(nowhere, stage.chain.address, stage.sender)
    for asked, attempt in (
        ("block number", chain.block_number),
        ("events", lambda: chain.events_between(0, 1)),
        ("owner", chain.owner),
    ):
        with pytest.raises(ChainUnavailable, match=rf"^{asked}: the node can't be reached"):
            attempt()


def test_a_view_that_fails_is_said_with_what_was_asked(stage: Stage) -> None:
    """By the contract; and by a node that has its own reasons, whatever web3 takes them for."""
    with pytest.raises(
        ContractRejected, match=r"^getBooking was refused by the contract: UnknownBooking \(bookingId 9\)\."
    ):
        stage.chain.get_booking_from_chain(9)

    class Busy(Web3Middleware):
        def response_processor(self, method: Any, response: Any) -> Any:
            return {"jsonrpc": "2.0", "id": 1, "error": {"code": 3, "message": "too many requests"}}

    busy = BlockchainService(Web3(stage.engine.w3.provider, [Busy]), stage.chain.address, stage.sender)
    with pytest.raises(ChainUnavailable, match=r"^owner: the node says: .*too many requests"):
        busy.owner()


def test_what_is_no_address_is_refused_with_its_words(stage: Stage) -> None:
    for attempt in (
        lambda: stage.chain.credit_of("0x12"),
        lambda: stage.chain.get_host_events("0x12"),
        lambda: stage.chain.withdraw_onchain(stage.wallets["host"], "0x12"),
        lambda: open_run(stage, host="0x12"),
    ):
        with pytest.raises(InvalidRequest, match="'0x12' is no Ethereum address"):
            attempt()


@pytest.mark.parametrize(
    ("event", "send"),
    [
        ("BookingCreated", lambda chain: chain.book_event_onchain(1, 5, total_wei=0)),
        ("PlatformFeesWithdrawn", lambda chain: chain.withdraw_platform_fees_onchain()),
        ("CreditWithdrawn", lambda chain: chain.withdraw_onchain(chain.sender._platform)),
    ],
)
def test_a_receipt_that_tells_nothing_is_named(
    grumbler: Stage, event: str, send: Callable[[BlockchainService], Any]
) -> None:
    with pytest.raises(UnexpectedReceipt) as caught:
        send(grumbler.chain)
    block = grumbler.engine.w3.eth.get_block("latest")
    tx_hash = block["transactions"][0].to_0x_hex()  # type: ignore[union-attr]
    assert str(caught.value) == f"Transaction {tx_hash} has 0 events {event} where one must be."


def test_what_the_deployed_interface_lacks_is_named(minimal: Stage) -> None:
    chain, host = minimal.chain, minimal.wallets["host"]
    for function, attempt in (
        ("withdraw", lambda: chain.withdraw_onchain(host)),
        ("withdrawTo", lambda: chain.withdraw_onchain(host, host.address)),
        ("cancelBooking", lambda: chain.cancel_booking_onchain(1)),
        ("expireEvent", lambda: chain.expire_event_onchain(1)),
        ("creditOf", lambda: chain.credit_of(host.address)),
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
