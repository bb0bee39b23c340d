"""Every use case on a contract that behaves like the one deployed on Sepolia.

Views return zeros for unknown ids, host and attendee sign for themselves, the contract accepts too much value, has no
deadlines, and its owner can change the percentages.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from app.bootstrap import smoke_test
from app.bootstrap.services import build_services
from app.core.errors import ContractRejected, UnsupportedByContract
from app.db.database import Database
from app.db.tables import event_run_bookings, event_runs
from app.services.blockchain_service import BlockchainService
from app.services.codec import Event, event_stake_codec
from app.services.contract_types import BookingStatus, RunStatus
from app.services.pricing import Pricing
from app.services.reconciler import Reconciler
from backend_environment import DAY, BackendEnvironment, DeployedContracts, answering, backend_on, deploy, transact
from eth_abi.abi import encode
from sqlalchemy import update
from stakesim.evm.compiler import CONTRACTS, compile_contracts
from stakesim.evm.contract_file import load_contract
from web3 import Web3

ETH = 10**18
NOBODY = "0x" + "00" * 20
STRANGE = ("0x" + "11" * 20, "0x" + "22" * 32)


@pytest.fixture
def backend(deployed_contracts: DeployedContracts, database: Database) -> BackendEnvironment:
    return backend_on(deployed_contracts, "MinimalEventStake", database)


@pytest.fixture
def reconciler(backend: BackendEnvironment) -> Reconciler:
    return Reconciler(backend.database, backend.chain, backend.runs, quiet_for=3_600)


def signed_run(backend: BackendEnvironment, seats: int = 4) -> Any:
    return backend.open_run(seats, signer=backend.wallets["host"])


def signed_booking(backend: BackendEnvironment, run: Any, role: str = "attendee", seats: int = 2) -> Any:
    return backend.bookings.book(run.id, backend.ids[role], seats, signer=backend.wallets[role])


def contract(backend: BackendEnvironment) -> Any:
    """The codec of functions that only this contract has."""
    abi = load_contract(CONTRACTS / "test" / "MinimalEventStake.sol").abi
    return backend.engine.w3.eth.contract(address=backend.chain.address, abi=abi)


def pay(backend: BackendEnvironment, role: str, value: int, data: str = "0x", to: str | None = None) -> None:
    """Sends wei and data to the stake contract, or to another address."""
    account, w3 = backend.wallets[role], backend.engine.w3
    fields = {
        "to": to or backend.chain.address,
        "value": value,
        "data": data,
        "gas": 500_000,
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 10**9,
        "nonce": w3.eth.get_transaction_count(account.address),
        "chainId": w3.eth.chain_id,
        "type": 2,
    }
    sent = w3.eth.send_raw_transaction(account.sign_transaction(fields).raw_transaction)
    assert w3.eth.wait_for_transaction_receipt(sent, poll_latency=0.002)["status"] == 1


def test_the_worked_example_pays_exact_amounts_even_late(backend: BackendEnvironment) -> None:
    """0.1 ETH a seat, 4 seats; A attends, B does not: A 0.04, host 0.46, platform 0.06. Completed a year later."""
    assert not backend.chain.has_full_interface
    run = signed_run(backend)
    attended, missed = signed_booking(backend, run), signed_booking(backend, run, "no_show")
    assert (run.blockchain_stake_amount_wei, backend.runs.get(run.id).status) == (8 * ETH // 100, "full")
    before = {role: backend.balance(role) for role in ("host", "attendee", "no_show")}

    backend.go_to(run.starts_at + 365 * DAY)
    result = backend.runs.complete(run.id, [attended.id])

    assert (result.host_payout, result.host_stake_returned, result.deferred) == (38 * ETH // 100, 8 * ETH // 100, ())
    assert (result.stakes_returned, result.stakes_forfeited) == ({1: 4 * ETH // 100}, {2: 4 * ETH // 100})
    gains = {role: backend.balance(role) - wei for role, wei in before.items()}
    assert gains == {"host": 46 * ETH // 100, "attendee": 4 * ETH // 100, "no_show": 0}
    assert backend.runs.get(run.id).status == "completed"
    assert [backend.bookings.get(booking.id).status for booking in (attended, missed)] == ["completed", "no_show"]
    assert backend.chain.get_event_run_from_chain(1).host_stake_withdrawn

    platform = backend.balance("platform")
    fees = backend.chain.withdraw_platform_fees_onchain()
    assert fees.amount is None  # it has no event of it
    assert backend.balance("platform") - platform + fees.gas_cost == 6 * ETH // 100


def test_views_return_the_stored_runs_and_bookings(backend: BackendEnvironment) -> None:
    run = signed_run(backend)
    signed_booking(backend, run, seats=1)
    host, attendee = (backend.wallets[role].address for role in ("host", "attendee"))
    onchain_run = backend.chain.get_event_run_from_chain(1)
    assert (onchain_run.onchain_run_id, onchain_run.host, onchain_run.experience_id) == (
        1,
        host,
        str(run.experience_id),
    )
    assert (onchain_run.price_per_seat, onchain_run.max_seats, onchain_run.seats_booked, onchain_run.host_stake) == (
        ETH // 10,
        4,
        1,
        8 * ETH // 100,
    )
    assert (onchain_run.starts_at, onchain_run.status, onchain_run.host_stake_withdrawn) == (
        run.starts_at,
        RunStatus.ACTIVE,
        False,
    )
    booking = backend.chain.get_booking_from_chain(1)
    assert (booking.onchain_booking_id, booking.onchain_run_id, booking.user, booking.seat_count) == (1, 1, attendee, 1)
    assert (booking.total_payment, booking.user_stake, booking.status) == (
        ETH // 10,
        2 * ETH // 100,
        BookingStatus.ACTIVE,
    )
    lists = (
        backend.chain.get_event_bookings(1),
        backend.chain.get_user_bookings(attendee),
        backend.chain.get_host_events(host),
    )
    assert lists == ([1], [1], [1])
    assert backend.chain.owner() == backend.wallets["platform"].address
    quote = backend.bookings.quote(run.id, 2)
    assert (quote.payment_wei, quote.stake_wei, quote.total_wei) == (2 * ETH // 10, 4 * ETH // 100, 24 * ETH // 100)
    assert backend.chain.calculate_booking_cost(1, 0).total_wei == 0  # of a run that there is


def test_only_the_host_may_cancel(backend: BackendEnvironment) -> None:
    run = signed_run(backend)
    booking = signed_booking(backend, run)
    with pytest.raises(ContractRejected) as caught:
        backend.runs.cancel(run.id)
    assert (caught.value.name, caught.value.args) == ("Error", ("Only host",))
    assert backend.runs.get(run.id).status == "active"
    before = backend.balance("attendee")
    assert backend.runs.cancel(run.id, signer=backend.wallets["host"]).refunds_issued == 24 * ETH // 100
    assert backend.balance("attendee") - before == 24 * ETH // 100
    assert (backend.runs.get(run.id).status, backend.bookings.get(booking.id).status) == ("cancelled", "cancelled")


def test_users_without_a_wallet_are_entered_under_the_platforms_address(backend: BackendEnvironment) -> None:
    run, other = (backend.open_run(host="walletless") for _ in range(2))
    booking = backend.bookings.book(run.id, backend.ids["walletless"], 1)
    platform = backend.wallets["platform"].address
    assert backend.chain.get_event_run_from_chain(1).host == backend.chain.get_booking_from_chain(1).user == platform
    backend.runs.cancel(other.id)
    backend.go_to(run.starts_at)
    backend.runs.complete(run.id, [booking.id])
    assert [event_run.status for event_run in backend.runs.list_all()] == ["completed", "cancelled"]


@pytest.mark.parametrize(
    "attempt",
    [
        lambda backend, run, booking: backend.open_run(),
        lambda backend, run, booking: backend.bookings.book(run.id, backend.ids["no_show"], 1),
        lambda backend, run, booking: backend.bookings.cancel(booking.id),
        lambda backend, run, booking: backend.runs.expire(run.id),
        lambda backend, run, booking: backend.chain.withdraw_onchain(backend.wallets["attendee"]),
        lambda backend, run, booking: backend.chain.withdraw_onchain(backend.wallets["attendee"], NOBODY),
        lambda backend, run, booking: backend.chain.credit_of(NOBODY),
        lambda backend, run, booking: backend.chain.platform_balance(),
        lambda backend, run, booking: backend.chain.total_liabilities(),
    ],
)
def test_unsupported_functions_are_refused_before_sending(
    backend: BackendEnvironment, attempt: Callable[[BackendEnvironment, Any, Any], object]
) -> None:
    run = signed_run(backend)
    booking = signed_booking(backend, run)
    sent = [backend.engine.w3.eth.get_transaction_count(wallet.address) for wallet in backend.wallets.values()]
    with pytest.raises(UnsupportedByContract, match=f"^The contract at {backend.chain.address} has no "):
        attempt(backend, run, booking)
    assert sent == [backend.engine.w3.eth.get_transaction_count(wallet.address) for wallet in backend.wallets.values()]
    assert (len(backend.runs.list_all()), len(backend.bookings.list_all())) == (1, 1)
    assert backend.runs.get(run.id).status == "active"


# ------------------------------------------------------------------------------------------- unknown ids and statuses


@pytest.mark.parametrize("unknown_id", [0, 2, 2**255])
def test_zeros_from_a_view_mean_an_unknown_id(backend: BackendEnvironment, unknown_id: int) -> None:
    """The error is the same as with `EventStake`, which reverts."""
    signed_booking(backend, signed_run(backend))
    for error, view in (
        ("UnknownEventRun", backend.chain.get_event_run_from_chain),
        ("UnknownBooking", backend.chain.get_booking_from_chain),
        ("UnknownEventRun", lambda unknown_id: backend.chain.calculate_booking_cost(unknown_id, 1)),
    ):
        with pytest.raises(ContractRejected) as caught:
            view(unknown_id)
        assert (caught.value.name, caught.value.args, caught.value.outcome) == (error, (unknown_id,), "rejected")
    assert backend.chain.get_event_bookings(unknown_id) == []
    assert backend.chain.get_user_bookings(NOBODY) == backend.chain.get_host_events(NOBODY) == []


def test_a_view_that_returns_another_run_means_an_unknown_id(backend: BackendEnvironment) -> None:
    signed_booking(backend, signed_run(backend))
    call = event_stake_codec().call(backend.chain.address, "getEventRun", 1)
    answer = backend.engine.w3.eth.call({"to": call.to, "data": call.data}).to_0x_hex()
    chain = BlockchainService(
        Web3(backend.engine.w3.provider, [answering("eth_call", answer)]), backend.chain.address, backend.sender
    )
    assert chain.get_event_run_from_chain(1).onchain_run_id == 1
    with pytest.raises(ContractRejected):
        chain.get_event_run_from_chain(2)


def test_nothing_is_quoted_or_sent_for_an_unknown_run(backend: BackendEnvironment) -> None:
    run = signed_run(backend)
    with backend.database.transaction() as connection:
        connection.execute(update(event_runs).values(blockchain_event_run_id=9))
    attendee = backend.wallets["attendee"]
    sent = backend.engine.w3.eth.get_transaction_count(attendee.address)
    for attempt in (
        lambda: backend.bookings.quote(run.id, 1),
        lambda: backend.bookings.book(run.id, backend.ids["attendee"], 1, signer=attendee),
        lambda: backend.chain.book_event_onchain(9, 1, signer=attendee),
        lambda: backend.runs.refresh(run.id),
    ):
        with pytest.raises(ContractRejected) as caught:
            attempt()
        assert (caught.value.name, caught.value.args) == ("UnknownEventRun", (9,))
    for attempt in (
        lambda: backend.runs.complete(run.id, []),
        lambda: backend.runs.cancel(run.id),
        lambda: backend.chain.book_event_onchain(9, 1, signer=attendee, total_wei=0),
    ):
        with pytest.raises(ContractRejected):
            attempt()
    assert backend.engine.w3.eth.get_transaction_count(attendee.address) == sent
    assert backend.runs.get(run.id).status == "active"


def test_an_unknown_status_is_an_error_with_a_message(backend: BackendEnvironment) -> None:
    """A contract may have more statuses."""
    run = (1, STRANGE[0], "x", 1, 1, 0, 0, 1, 9, False, 1)
    types = "(uint256,address,string,uint256,uint256,uint256,uint256,uint256,uint8,bool,uint256)"
    booking = (1, 1, STRANGE[0], 1, 1, 0, 9, 1)
    for kind, values, view, row_name in (
        (types, run, "get_event_run_from_chain", "event run 1"),
        ("(uint256,uint256,address,uint256,uint256,uint256,uint8,uint256)", booking, "get_booking_from_chain", "book"),
    ):
        answer = answering("eth_call", "0x" + encode([kind], [values]).hex())
        chain = BlockchainService(Web3(backend.engine.w3.provider, [answer]), backend.chain.address, backend.sender)
        with pytest.raises(UnsupportedByContract, match=f"The contract has {row_name}.* in status 9"):
            getattr(chain, view)(1)


@pytest.mark.parametrize("first", [1, 32, 320, 2**255])
def test_a_run_that_is_no_struct_is_an_error_with_a_message(backend: BackendEnvironment, first: int) -> None:
    """`first` is decoded as the struct's offset."""
    flat = encode(["uint256"] * 11, [first, 2**256 - 1, *range(9)])
    answer = answering("eth_call", "0x" + flat.hex())
    chain = BlockchainService(Web3(backend.engine.w3.provider, [answer]), backend.chain.address, backend.sender)
    with pytest.raises(UnsupportedByContract, match="has no getEventRun, or another one"):
        chain.get_event_run_from_chain(first)


@pytest.mark.parametrize(
    ("length", "text"), [(2**256 - 1, b""), (2**64, b"x"), (4, b"\xff\xfe\x00\x01")], ids=["endless", "long", "no text"]
)
def test_an_experience_id_that_is_not_utf_8_is_an_error_with_a_message(
    backend: BackendEnvironment, length: int, text: bytes
) -> None:
    """Text from strangers or other contracts that can't be decoded is an error with a message."""
    head = [1, int(STRANGE[0], 16), 11 * 32, 1, 1, 0, 0, 1, 1, 0, 1]
    words = b"".join(word.to_bytes(32) for word in (32, *head, length)) + text.ljust(32, b"\0")
    answer = answering("eth_call", "0x" + words.hex())
    chain = BlockchainService(Web3(backend.engine.w3.provider, [answer]), backend.chain.address, backend.sender)
    with suppress(UnsupportedByContract):
        assert chain.get_event_run_from_chain(1).host == STRANGE[0]
        assert length == len(text)


# ------------------------------------------------------------------------------------------------- the reconciler


@pytest.mark.slow
def test_foreign_transactions_are_taken_over_from_the_views(
    backend: BackendEnvironment, reconciler: Reconciler
) -> None:
    open_run, cancelled, completed = (signed_run(backend) for _ in range(3))
    bookings = [signed_booking(backend, run, seats=1) for run in (open_run, cancelled, completed)]
    assert reconciler.run_once().refreshed == []
    transact(backend, "host", "cancelEvent", 2)
    transact(backend, "no_show", "bookEvent", 1, 1, value=12 * ETH // 100)
    report = reconciler.run_once()
    assert (set(report.refreshed), report.problems) == ({open_run.id, cancelled.id}, [])
    backend.go_to(completed.starts_at)
    transact(backend, "host", "completeEvent", 3, [])
    report = reconciler.run_once()
    assert (report.refreshed, report.problems) == ([completed.id], [])
    assert [run.status for run in backend.runs.list_all()] == ["active", "cancelled", "completed"]
    assert backend.runs.get(open_run.id).seats_booked == 2
    assert [backend.bookings.get(booking.id).status for booking in bookings] == ["active", "cancelled", "no_show"]
    assert reconciler.dry_run().differences == []


def test_rows_without_a_run_on_chain_are_reported_and_not_changed(
    backend: BackendEnvironment, reconciler: Reconciler
) -> None:
    run, other = signed_run(backend), signed_run(backend)
    booking = signed_booking(backend, other)
    with backend.database.transaction() as connection:
        connection.execute(update(event_runs).where(event_runs.c.id == run.id).values(blockchain_event_run_id=9))
        connection.execute(update(event_run_bookings).values(blockchain_booking_id=7))
    rows = backend.runs.get(run.id), backend.runs.get(other.id), backend.bookings.get(booking.id)
    for differences in (reconciler.dry_run().differences, reconciler.run_full().differences):
        assert differences == [
            f"event run {run.id} (9 on chain): getEventRun: the contract has nothing under the id 9, and gives zeros.",
            f"booking {booking.id} (7 on chain): getBooking: the contract has nothing under the id 7, and gives zeros.",
        ]
    assert (backend.runs.get(run.id), backend.runs.get(other.id), backend.bookings.get(booking.id)) == rows


def test_events_of_a_booking_that_views_do_not_show_are_reported(
    backend: BackendEnvironment, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = signed_run(backend)
    reconciler.run_once()
    events_between = backend.chain.events_between
    foreign_event = (STRANGE[1], Event("BookingCompleted", {"booking_id": 99, "user": STRANGE[0], "stake_returned": 1}))
    monkeypatch.setattr(backend.chain, "events_between", lambda *blocks: [foreign_event, *events_between(*blocks)])
    transact(backend, "host", "cancelEvent", 1)
    report = reconciler.run_once()
    assert report.problems == ["getBooking: the contract has nothing under the id 99, and gives zeros."]
    assert report.refreshed == [run.id]
    assert backend.runs.get(run.id).status == "cancelled"
    assert reconciler.run_once().problems == []  # the block is done with


# --------------------------------------------------------------------------------------- amounts and percentages


def test_the_deployed_contract_accepts_too_much_value(backend: BackendEnvironment) -> None:
    host, attendee = backend.wallets["host"], backend.wallets["attendee"]
    backend.chain.create_event_run_onchain("x", ETH // 10, 4, backend.now() + DAY, signer=host, stake_wei=ETH)
    booked = backend.chain.book_event_onchain(1, 1, signer=attendee, total_wei=ETH)
    assert (booked.total_payment, booked.user_stake) == (ETH // 10, 2 * ETH // 100)
    assert backend.chain.get_event_run_from_chain(1).host_stake == 8 * ETH // 100
    assert backend.chain.cancel_event_onchain(1, host).refunds_issued == 12 * ETH // 100
    assert backend.engine.w3.eth.get_balance(backend.chain.address) == 2 * ETH - 20 * ETH // 100  # and stays there
    with pytest.raises(ContractRejected, match="No fees to withdraw"):
        backend.chain.withdraw_platform_fees_onchain()
    backend.chain.create_event_run_onchain("x", ETH // 10, 4, backend.now() + DAY, signer=host)
    with pytest.raises(ContractRejected, match="Insufficient payment"):
        backend.chain.book_event_onchain(2, 1, signer=attendee, total_wei=12 * ETH // 100 - 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["RefusingReceiver", "BurningReceiver", "ReenteringReceiver"])
def test_a_receiver_that_refuses_transfers_stops_the_settlement(backend: BackendEnvironment, kind: str) -> None:
    """It reverts, or needs more than 2,300 gas. A no-show blocks nothing, as it is paid nothing."""
    cancel = event_stake_codec().call(backend.chain.address, "cancelEvent", 1).data
    args = (backend.chain.address, cancel) if kind == "ReenteringReceiver" else ()
    receiver = backend.engine.w3.eth.contract(
        address=Web3.to_checksum_address(deploy(backend.engine, kind, *args)), abi=compile_contracts()[kind].abi
    )
    run = signed_run(backend)
    cost = 12 * ETH // 100
    call = event_stake_codec().call(backend.chain.address, "bookEvent", 1, 1)
    booking = receiver.encode_abi("execute", [backend.chain.address, cost, call.data])
    pay(backend, "platform", cost, booking, receiver.address)
    assert backend.chain.get_booking_from_chain(1).user == receiver.address
    with pytest.raises(ContractRejected):
        backend.runs.cancel(run.id, signer=backend.wallets["host"])
    backend.go_to(run.starts_at)
    backend.engine.mine()
    with pytest.raises(ContractRejected):
        backend.chain.complete_event_onchain(1, [1], backend.wallets["host"])
    assert backend.chain.get_event_run_from_chain(1).status == RunStatus.ACTIVE
    assert backend.chain.complete_event_onchain(1, [], backend.wallets["host"]).stakes_forfeited == {1: 2 * ETH // 100}


def test_the_deployed_contract_opens_runs_of_any_size(backend: BackendEnvironment) -> None:
    run = backend.open_run(seats=10**6, inr="1", signer=backend.wallets["host"])
    assert backend.chain.get_event_run_from_chain(1).max_seats == run.max_seats == 10**6


def test_costs_follow_the_contracts_current_percentages(backend: BackendEnvironment) -> None:
    own = contract(backend).functions
    assert (own.stakePercentage().call(), own.platformFeePercentage().call()) == (20, 5)
    run = signed_run(backend)
    for function in ("setStakePercentage", "setPlatformFeePercentage"):
        pay(backend, "platform", 0, contract(backend).encode_abi(function, [10]))
    assert (own.stakePercentage().call(), own.platformFeePercentage().call()) == (10, 10)
    booking = signed_booking(backend, run, seats=1)
    assert booking.blockchain_stake_amount_wei == ETH // 100
    backend.go_to(run.starts_at)
    result = backend.runs.complete(run.id, [booking.id])
    assert (result.host_payout, result.host_stake_returned) == (9 * ETH // 100, 8 * ETH // 100)


def test_plain_ether_is_accepted_and_changes_no_run(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    run = signed_run(backend)
    before = backend.chain.get_event_run_from_chain(1)
    pay(backend, "stranger", ETH)
    assert backend.engine.w3.eth.get_balance(backend.chain.address) == ETH + 8 * ETH // 100
    assert backend.chain.get_event_run_from_chain(1) == before
    assert reconciler.run_once().refreshed == []
    assert backend.runs.refresh(run.id).status == "active"


def test_the_smoke_test_passes_on_the_deployed_contract(
    backend: BackendEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(w3: Web3, moment: int) -> None:
        backend.engine.set_next_timestamp(moment)

    monkeypatch.setattr(smoke_test, "_wait_until", wait)
    monkeypatch.setattr(smoke_test, "_start_time", lambda w3, seconds: backend.now() + DAY)
    services = build_services(backend.engine.w3, backend.database, backend.chain, Pricing(backend.feed, backend.now))
    services = replace(services, runs=backend.runs, bookings=backend.bookings)
    assert [step.description for step in smoke_test.run_smoke_test(services, thorough=True)][
        -1
    ] == "completed event run 1"
