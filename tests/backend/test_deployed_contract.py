"""Every use case of the service on a contract that is as the one deployed on Sepolia is: zeros for what there is not,
host and attendee who sign for themselves, a value that is too high taken, no deadline, percentages that change."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from app.bootstrap import smoke_test
from app.bootstrap.container import build_services
from app.core.errors import ContractRejected, UnsupportedByContract
from app.db.database import Database
from app.db.tables import event_run_bookings, event_runs
from app.services.blockchain_service import BlockchainService
from app.services.codec import Event, event_stake_codec
from app.services.contract_types import BookingStatus, RunStatus
from app.services.pricing import Pricing
from app.services.reconciler import Reconciler
from eth_abi.abi import encode
from sqlalchemy import update
from stage import DAY, Ground, Stage, answering, deploy, set_up, transact
from stakesim.evm.compiler import CONTRACTS, compile_contracts
from stakesim.evm.contract_file import load_contract
from web3 import Web3

ETH = 10**18
NOBODY = "0x" + "00" * 20
STRANGE = ("0x" + "11" * 20, "0x" + "22" * 32)


@pytest.fixture
def stage(ground: Ground, database: Database) -> Stage:
    return set_up(ground, "MinimalEventStake", database)


@pytest.fixture
def reconciler(stage: Stage) -> Reconciler:
    return Reconciler(stage.database, stage.chain, stage.runs, quiet_for=3_600)


def signed_run(stage: Stage, seats: int = 4) -> Any:
    return stage.open_run(seats, signer=stage.wallets["host"])


def signed_booking(stage: Stage, run: Any, role: str = "attendee", seats: int = 2) -> Any:
    return stage.bookings.book(run.id, stage.ids[role], seats, signer=stage.wallets[role])


def contract(stage: Stage) -> Any:
    """With what only this contract has."""
    abi = load_contract(CONTRACTS / "test" / "MinimalEventStake.sol").abi
    return stage.engine.w3.eth.contract(address=stage.chain.address, abi=abi)


def pay(stage: Stage, role: str, value: int, data: str = "0x", to: str | None = None) -> None:
    """Sends wei to the stake contract, or another one, and data with it."""
    account, w3 = stage.wallets[role], stage.engine.w3
    fields = {
        "to": to or stage.chain.address,
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


def test_the_worked_example_pays_to_the_wei_however_late(stage: Stage) -> None:
    """0.1 ETH a seat, 4 seats; A comes, B does not: A 0.04, host 0.46, platform 0.06. The owner completes a year on."""
    assert not stage.chain.has_full_interface
    run = signed_run(stage)
    came, missed = signed_booking(stage, run), signed_booking(stage, run, "no_show")
    assert (run.blockchain_stake_amount_wei, stage.runs.get(run.id).status) == (8 * ETH // 100, "full")
    before = {role: stage.balance(role) for role in ("host", "attendee", "no_show")}

    stage.go_to(run.starts_at + 365 * DAY)
    done = stage.runs.complete(run.id, [came.id])

    assert (done.host_payout, done.host_stake_returned, done.deferred) == (38 * ETH // 100, 8 * ETH // 100, ())
    assert (done.stakes_returned, done.stakes_forfeited) == ({1: 4 * ETH // 100}, {2: 4 * ETH // 100})
    gains = {role: stage.balance(role) - wei for role, wei in before.items()}
    assert gains == {"host": 46 * ETH // 100, "attendee": 4 * ETH // 100, "no_show": 0}
    assert stage.runs.get(run.id).status == "completed"
    assert [stage.bookings.get(one.id).status for one in (came, missed)] == ["completed", "no_show"]
    assert stage.chain.get_event_run_from_chain(1).host_stake_withdrawn

    platform = stage.balance("platform")
    fees = stage.chain.withdraw_platform_fees_onchain()
    assert fees.amount is None  # it has no event of it
    assert stage.balance("platform") - platform + fees.gas_cost == 6 * ETH // 100


def test_views_tell_what_it_holds(stage: Stage) -> None:
    run = signed_run(stage)
    signed_booking(stage, run, seats=1)
    host, attendee = (stage.wallets[role].address for role in ("host", "attendee"))
    found = stage.chain.get_event_run_from_chain(1)
    assert (found.onchain_run_id, found.host, found.experience_id) == (1, host, str(run.experience_id))
    assert (found.price_per_seat, found.max_seats, found.seats_booked, found.host_stake) == (
        ETH // 10,
        4,
        1,
        8 * ETH // 100,
    )
    assert (found.starts_at, found.status, found.host_stake_withdrawn) == (run.starts_at, RunStatus.ACTIVE, False)
    booking = stage.chain.get_booking_from_chain(1)
    assert (booking.onchain_booking_id, booking.onchain_run_id, booking.user, booking.seat_count) == (1, 1, attendee, 1)
    assert (booking.total_payment, booking.user_stake, booking.status) == (
        ETH // 10,
        2 * ETH // 100,
        BookingStatus.ACTIVE,
    )
    lists = (
        stage.chain.get_event_bookings(1),
        stage.chain.get_user_bookings(attendee),
        stage.chain.get_host_events(host),
    )
    assert lists == ([1], [1], [1])
    assert stage.chain.owner() == stage.wallets["platform"].address
    quote = stage.bookings.quote(run.id, 2)
    assert (quote.payment_wei, quote.stake_wei, quote.total_wei) == (2 * ETH // 10, 4 * ETH // 100, 24 * ETH // 100)
    assert stage.chain.calculate_booking_cost(1, 0).total == 0  # of a run that there is


def test_the_host_alone_cancels(stage: Stage) -> None:
    run = signed_run(stage)
    booking = signed_booking(stage, run)
    with pytest.raises(ContractRejected) as caught:
        stage.runs.cancel(run.id)
    assert (caught.value.name, caught.value.args) == ("Error", ("Only host",))
    assert stage.runs.get(run.id).status == "active"
    before = stage.balance("attendee")
    assert stage.runs.cancel(run.id, signer=stage.wallets["host"]).refunds_issued == 24 * ETH // 100
    assert stage.balance("attendee") - before == 24 * ETH // 100
    assert (stage.runs.get(run.id).status, stage.bookings.get(booking.id).status) == ("cancelled", "cancelled")


def test_who_has_no_wallet_is_entered_under_the_platforms_address(stage: Stage) -> None:
    run, other = (stage.open_run(host="walletless") for _ in range(2))
    booking = stage.bookings.book(run.id, stage.ids["walletless"], 1)
    platform = stage.wallets["platform"].address
    assert stage.chain.get_event_run_from_chain(1).host == stage.chain.get_booking_from_chain(1).user == platform
    stage.runs.cancel(other.id)
    stage.go_to(run.starts_at)
    stage.runs.complete(run.id, [booking.id])
    assert [one.status for one in stage.runs.list_all()] == ["completed", "cancelled"]


@pytest.mark.parametrize(
    "attempt",
    [
        lambda stage, run, booking: stage.open_run(),
        lambda stage, run, booking: stage.bookings.book(run.id, stage.ids["no_show"], 1),
        lambda stage, run, booking: stage.bookings.cancel(booking.id),
        lambda stage, run, booking: stage.runs.expire(run.id),
        lambda stage, run, booking: stage.chain.withdraw_onchain(stage.wallets["attendee"]),
        lambda stage, run, booking: stage.chain.withdraw_onchain(stage.wallets["attendee"], NOBODY),
        lambda stage, run, booking: stage.chain.credit_of(NOBODY),
        lambda stage, run, booking: stage.chain.platform_balance(),
        lambda stage, run, booking: stage.chain.total_liabilities(),
    ],
)
def test_what_it_can_not_do_is_refused_before_anything_is_sent(
    stage: Stage, attempt: Callable[[Stage, Any, Any], object]
) -> None:
    run = signed_run(stage)
    booking = signed_booking(stage, run)
    sent = [stage.engine.w3.eth.get_transaction_count(wallet.address) for wallet in stage.wallets.values()]
    with pytest.raises(UnsupportedByContract, match=f"^The contract at {stage.chain.address} has no "):
        attempt(stage, run, booking)
    assert sent == [stage.engine.w3.eth.get_transaction_count(wallet.address) for wallet in stage.wallets.values()]
    assert (len(stage.runs.list_all()), len(stage.bookings.list_all())) == (1, 1)
    assert stage.runs.get(run.id).status == "active"


# ------------------------------------------------------------------------------------------- what there is not


@pytest.mark.parametrize("id", [0, 2, 2**255])
def test_zeros_are_nobodys_run_and_nobodys_booking(stage: Stage, id: int) -> None:
    """As `EventStake` says it, which reverts for them."""
    signed_booking(stage, signed_run(stage))
    for error, view in (
        ("UnknownEventRun", stage.chain.get_event_run_from_chain),
        ("UnknownBooking", stage.chain.get_booking_from_chain),
        ("UnknownEventRun", lambda id: stage.chain.calculate_booking_cost(id, 1)),
    ):
        with pytest.raises(ContractRejected) as caught:
            view(id)
        assert (caught.value.name, caught.value.args, caught.value.outcome) == (error, (id,), "rejected")
    assert stage.chain.get_event_bookings(id) == []
    assert stage.chain.get_user_bookings(NOBODY) == stage.chain.get_host_events(NOBODY) == []


def test_an_answer_about_another_run_is_none(stage: Stage) -> None:
    signed_booking(stage, signed_run(stage))
    call = event_stake_codec().call(stage.chain.address, "getEventRun", 1)
    answer = stage.engine.w3.eth.call({"to": call.to, "data": call.data}).to_0x_hex()
    chain = BlockchainService(
        Web3(stage.engine.w3.provider, [answering("eth_call", answer)]), stage.chain.address, stage.sender
    )
    assert chain.get_event_run_from_chain(1).onchain_run_id == 1
    with pytest.raises(ContractRejected):
        chain.get_event_run_from_chain(2)


def test_nothing_is_quoted_or_sent_for_a_run_that_is_not_there(stage: Stage) -> None:
    run = signed_run(stage)
    with stage.database.transaction() as connection:
        connection.execute(update(event_runs).values(blockchain_event_run_id=9))
    attendee = stage.wallets["attendee"]
    sent = stage.engine.w3.eth.get_transaction_count(attendee.address)
    for attempt in (
        lambda: stage.bookings.quote(run.id, 1),
        lambda: stage.bookings.book(run.id, stage.ids["attendee"], 1, signer=attendee),
        lambda: stage.chain.book_event_onchain(9, 1, signer=attendee),
        lambda: stage.runs.refresh(run.id),
    ):
        with pytest.raises(ContractRejected) as caught:
            attempt()
        assert (caught.value.name, caught.value.args) == ("UnknownEventRun", (9,))
    for attempt in (
        lambda: stage.runs.complete(run.id, []),
        lambda: stage.runs.cancel(run.id),
        lambda: stage.chain.book_event_onchain(9, 1, signer=attendee, total_wei=0),
    ):
        with pytest.raises(ContractRejected):
            attempt()
    assert stage.engine.w3.eth.get_transaction_count(attendee.address) == sent
    assert stage.runs.get(run.id).status == "active"


def test_a_status_that_is_not_known_is_no_crash(stage: Stage) -> None:
    """As of a contract that has more of them."""
    run = (1, STRANGE[0], "x", 1, 1, 0, 0, 1, 9, False, 1)
    types = "(uint256,address,string,uint256,uint256,uint256,uint256,uint256,uint8,bool,uint256)"
    booking = (1, 1, STRANGE[0], 1, 1, 0, 9, 1)
    for kind, values, view, what in (
        (types, run, "get_event_run_from_chain", "event run 1"),
        ("(uint256,uint256,address,uint256,uint256,uint256,uint8,uint256)", booking, "get_booking_from_chain", "book"),
    ):
        answer = answering("eth_call", "0x" + encode([kind], [values]).hex())
        chain = BlockchainService(Web3(stage.engine.w3.provider, [answer]), stage.chain.address, stage.sender)
        with pytest.raises(UnsupportedByContract, match=f"The contract has {what}.* in status 9"):
            getattr(chain, view)(1)


@pytest.mark.parametrize("first", [1, 32, 320, 2**255])
def test_flat_values_where_a_struct_must_be_are_no_crash(stage: Stage, first: int) -> None:
    """first: what is read as the struct's offset."""
    flat = encode(["uint256"] * 11, [first, 2**256 - 1, *range(9)])
    answer = answering("eth_call", "0x" + flat.hex())
    chain = BlockchainService(Web3(stage.engine.w3.provider, [answer]), stage.chain.address, stage.sender)
    with pytest.raises(UnsupportedByContract, match="has no getEventRun, or another one"):
        chain.get_event_run_from_chain(first)


@pytest.mark.parametrize(
    ("length", "text"), [(2**256 - 1, b""), (2**64, b"x"), (4, b"\xff\xfe\x00\x01")], ids=["endless", "long", "no text"]
)
def test_a_text_that_is_none_is_no_crash(stage: Stage, length: int, text: bytes) -> None:
    """What a stranger, or another contract, has put there is refused in a sentence, if it can't be read."""
    head = [1, int(STRANGE[0], 16), 11 * 32, 1, 1, 0, 0, 1, 1, 0, 1]
    words = b"".join(word.to_bytes(32) for word in (32, *head, length)) + text.ljust(32, b"\0")
    answer = answering("eth_call", "0x" + words.hex())
    chain = BlockchainService(Web3(stage.engine.w3.provider, [answer]), stage.chain.address, stage.sender)
    with suppress(UnsupportedByContract):
        assert chain.get_event_run_from_chain(1).host == STRANGE[0]
        assert length == len(text)


# ------------------------------------------------------------------------------------------------- the reconciler


def test_what_was_done_past_the_service_is_taken_over(stage: Stage, reconciler: Reconciler) -> None:
    kept, cancelled, completed = (signed_run(stage) for _ in range(3))
    bookings = [signed_booking(stage, run, seats=1) for run in (kept, cancelled, completed)]
    assert reconciler.run_once().refreshed == []
    transact(stage, "host", "cancelEvent", 2)
    transact(stage, "no_show", "bookEvent", 1, 1, value=12 * ETH // 100)
    report = reconciler.run_once()
    assert (set(report.refreshed), report.problems) == ({kept.id, cancelled.id}, [])
    stage.go_to(completed.starts_at)
    transact(stage, "host", "completeEvent", 3, [])
    report = reconciler.run_once()
    assert (report.refreshed, report.problems) == ([completed.id], [])
    assert [run.status for run in stage.runs.list_all()] == ["active", "cancelled", "completed"]
    assert stage.runs.get(kept.id).seats_booked == 2
    assert [stage.bookings.get(one.id).status for one in bookings] == ["active", "cancelled", "no_show"]
    assert reconciler.dry_run().differences == []


def test_rows_of_what_is_not_there_are_told_and_left_alone(stage: Stage, reconciler: Reconciler) -> None:
    run, other = signed_run(stage), signed_run(stage)
    booking = signed_booking(stage, other)
    with stage.database.transaction() as connection:
        connection.execute(update(event_runs).where(event_runs.c.id == run.id).values(blockchain_event_run_id=9))
        connection.execute(update(event_run_bookings).values(blockchain_booking_id=7))
    rows = stage.runs.get(run.id), stage.runs.get(other.id), stage.bookings.get(booking.id)
    for told in (reconciler.dry_run().differences, reconciler.run_full().differences):
        assert told == [
            f"event run {run.id} (9 on chain): getEventRun: the contract has nothing under the id 9, and gives zeros.",
            f"booking {booking.id} (7 on chain): getBooking: the contract has nothing under the id 7, and gives zeros.",
        ]
    assert (stage.runs.get(run.id), stage.runs.get(other.id), stage.bookings.get(booking.id)) == rows


def test_events_of_a_booking_that_it_does_not_show_stop_nothing(
    stage: Stage, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = signed_run(stage)
    reconciler.run_once()
    events_between = stage.chain.events_between
    strange = (STRANGE[1], Event("BookingCompleted", {"booking_id": 99, "user": STRANGE[0], "stake_returned": 1}))
    monkeypatch.setattr(stage.chain, "events_between", lambda *blocks: [strange, *events_between(*blocks)])
    transact(stage, "host", "cancelEvent", 1)
    report = reconciler.run_once()
    assert report.problems == ["getBooking: the contract has nothing under the id 99, and gives zeros."]
    assert report.refreshed == [run.id]
    assert stage.runs.get(run.id).status == "cancelled"
    assert reconciler.run_once().problems == []  # the block is done with


# --------------------------------------------------------------------------------------- what it takes and changes


def test_what_is_too_much_is_taken_and_booked_as_computed(stage: Stage) -> None:
    host, attendee = stage.wallets["host"], stage.wallets["attendee"]
    stage.chain.create_event_run_onchain("x", ETH // 10, 4, stage.now() + DAY, signer=host, stake_wei=ETH)
    booked = stage.chain.book_event_onchain(1, 1, signer=attendee, total_wei=ETH)
    assert (booked.total_payment, booked.user_stake) == (ETH // 10, 2 * ETH // 100)
    assert stage.chain.get_event_run_from_chain(1).host_stake == 8 * ETH // 100
    assert stage.chain.cancel_event_onchain(1, host).refunds_issued == 12 * ETH // 100
    assert stage.engine.w3.eth.get_balance(stage.chain.address) == 2 * ETH - 20 * ETH // 100  # and stays there
    with pytest.raises(ContractRejected, match="No fees to withdraw"):
        stage.chain.withdraw_platform_fees_onchain()
    stage.chain.create_event_run_onchain("x", ETH // 10, 4, stage.now() + DAY, signer=host)
    with pytest.raises(ContractRejected, match="Insufficient payment"):
        stage.chain.book_event_onchain(2, 1, signer=attendee, total_wei=12 * ETH // 100 - 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["RefusingReceiver", "BurningReceiver", "ReenteringReceiver"])
def test_who_takes_no_transfer_stops_the_settlement(stage: Stage, kind: str) -> None:
    """By refusing it, or by needing more than 2,300 gas; not as a no-show, who is paid nothing."""
    cancel = event_stake_codec().call(stage.chain.address, "cancelEvent", 1).data
    args = (stage.chain.address, cancel) if kind == "ReenteringReceiver" else ()
    receiver = stage.engine.w3.eth.contract(
        address=Web3.to_checksum_address(deploy(stage.engine, kind, *args)), abi=compile_contracts()[kind].abi
    )
    run = signed_run(stage)
    cost = 12 * ETH // 100
    call = event_stake_codec().call(stage.chain.address, "bookEvent", 1, 1)
    booking = receiver.encode_abi("execute", [stage.chain.address, cost, call.data])
    pay(stage, "platform", cost, booking, receiver.address)
    assert stage.chain.get_booking_from_chain(1).user == receiver.address
    with pytest.raises(ContractRejected):
        stage.runs.cancel(run.id, signer=stage.wallets["host"])
    stage.go_to(run.starts_at)
    stage.engine.mine()
    with pytest.raises(ContractRejected):
        stage.chain.complete_event_onchain(1, [1], stage.wallets["host"])
    assert stage.chain.get_event_run_from_chain(1).status == RunStatus.ACTIVE
    assert stage.chain.complete_event_onchain(1, [], stage.wallets["host"]).stakes_forfeited == {1: 2 * ETH // 100}


def test_a_run_of_any_size_is_opened_and_read(stage: Stage) -> None:
    run = stage.open_run(seats=10**6, inr="1", signer=stage.wallets["host"])
    assert stage.chain.get_event_run_from_chain(1).max_seats == run.max_seats == 10**6


def test_costs_are_those_of_the_percentages_in_force(stage: Stage) -> None:
    own = contract(stage).functions
    assert (own.stakePercentage().call(), own.platformFeePercentage().call()) == (20, 5)
    run = signed_run(stage)
    for function in ("setStakePercentage", "setPlatformFeePercentage"):
        pay(stage, "platform", 0, contract(stage).encode_abi(function, [10]))
    assert (own.stakePercentage().call(), own.platformFeePercentage().call()) == (10, 10)
    booking = signed_booking(stage, run, seats=1)
    assert booking.blockchain_stake_amount_wei == ETH // 100
    stage.go_to(run.starts_at)
    done = stage.runs.complete(run.id, [booking.id])
    assert (done.host_payout, done.host_stake_returned) == (9 * ETH // 100, 8 * ETH // 100)


def test_plain_ether_is_taken_and_changes_nothing(stage: Stage, reconciler: Reconciler) -> None:
    run = signed_run(stage)
    before = stage.chain.get_event_run_from_chain(1)
    pay(stage, "stranger", ETH)
    assert stage.engine.w3.eth.get_balance(stage.chain.address) == ETH + 8 * ETH // 100
    assert stage.chain.get_event_run_from_chain(1) == before
    assert reconciler.run_once().refreshed == []
    assert stage.runs.refresh(run.id).status == "active"


def test_the_live_check_passes_on_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(w3: Web3, moment: int) -> None:
        stage.engine.set_next_timestamp(moment)

    monkeypatch.setattr(smoke_test, "_wait_until", wait)
    monkeypatch.setattr(smoke_test, "_start_time", lambda w3, seconds: stage.now() + DAY)
    services = build_services(stage.engine.w3, stage.database, stage.chain, Pricing(stage.feed, stage.now))
    services = replace(services, runs=stage.runs, bookings=stage.bookings)
    assert [step.description for step in smoke_test.run_smoke_test(services, thorough=True)][
        -1
    ] == "completed event run 1"
