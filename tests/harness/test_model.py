"""The reference model against the rules: worked examples, settlement vectors, who pays and who is paid."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from model_helpers import EPOCH, ETH, GRACE, RATE, START, Timed, apply_all, book, create, last_outcome
from stakesim.model.reference import (
    BookingStatus,
    ExpectedOutcome,
    Payout,
    RunStatus,
    apply,
    initial_state,
    liabilities,
)
from stakesim.scenario.actions import (
    Action,
    Actor,
    CancelBooking,
    CancelRun,
    Complete,
    Expire,
    ForceEther,
    Terms,
    Withdraw,
    WithdrawFees,
)

SOLD_OUT: list[Timed] = [(0, create()), (60, book("a1", "a")), (120, book("b1", "b"))]


def test_everybody_attends_as_in_the_worked_example() -> None:
    state, outcomes = apply_all([*SOLD_OUT, (START, Complete(run="gig", attended=("a1", "b1")))])
    assert [o.paid_in for o in outcomes] == [8 * ETH // 100, 24 * ETH // 100, 24 * ETH // 100, 0]
    assert state.received == {"a": 4 * ETH // 100, "b": 4 * ETH // 100, "host": 46 * ETH // 100}
    assert state.platform_balance == 2 * ETH // 100


def test_a_no_show_forfeits_the_stake_as_in_the_worked_example() -> None:
    state, outcomes = apply_all([*SOLD_OUT, (START, Complete(run="gig", attended=("a1",)))])
    assert state.received == {"a": 4 * ETH // 100, "host": 46 * ETH // 100}
    assert state.platform_balance == 6 * ETH // 100
    assert outcomes[-1].payouts == (
        Payout("a", 4 * ETH // 100, "stake returned"),
        Payout("host", 46 * ETH // 100, "host payout"),
    )
    assert state.bookings["b1"].status == BookingStatus.NO_SHOW


def test_a_cancelled_run_gives_everybody_back_what_they_paid_as_in_the_worked_example() -> None:
    state, _ = apply_all([*SOLD_OUT, (START - 1, CancelRun(run="gig"))])
    assert state.received == {"a": 24 * ETH // 100, "b": 24 * ETH // 100, "host": 8 * ETH // 100}
    assert (state.platform_balance, state.contract_balance, liabilities(state)) == (0, 0, 0)
    assert state.runs["gig"].status == RunStatus.CANCELLED


VECTORS = json.loads((Path(__file__).parents[1] / "vectors/settlements.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{i}-{v['end']}" for i, v in enumerate(VECTORS)])
def test_settlement_vector(vector: dict[str, Any]) -> None:
    """At 10^18 INR for one ETH a rupee is a wei, so the prices of the vectors can be given in INR."""
    bookings = {f"b{i}": booking for i, booking in enumerate(vector["bookings"])}
    terms = Terms(
        stake_bps=vector["terms"]["stakeBps"],
        fee_bps=vector["terms"]["feeBps"],
        forfeit_to_host_bps=vector["terms"]["forfeitToHostBps"],
    )
    state = initial_state(terms, {"host": Actor(), **{label: Actor() for label in bookings}}, EPOCH)

    def act(at: int, action: Action) -> ExpectedOutcome:
        nonlocal state
        state, outcome = apply(state, action, EPOCH + at, Decimal(ETH))
        assert outcome.status == "ok", outcome
        return outcome

    act(0, create(inr=vector["pricePerSeat"], seats=vector["maxSeats"]))
    for number, (label, booking) in enumerate(bookings.items(), start=1):
        paid = act(60 * number, book(label, label, booking["seats"])).paid_in
        assert paid == int(booking["payment"]) + int(booking["stake"])
        if booking["fate"] == "cancelled":
            act(60 * number + 1, CancelBooking(booking=label))
    match vector["end"]:
        case "completed":
            attended = tuple(label for label, booking in bookings.items() if booking["fate"] == "attended")
            act(START, Complete(run="gig", attended=attended))
        case "cancelled":
            act(START, CancelRun(run="gig"))
        case "expired":
            act(START + GRACE, Expire(run="gig"))

    received = {label: int(booking["received"]) for label, booking in bookings.items()}
    received["host"] = int(vector["expected"]["hostReceives"])
    assert state.received == {party: wei for party, wei in received.items() if wei}
    assert state.platform_balance == int(vector["expected"]["platformEarns"])
    assert state.runs["gig"].host_stake == int(vector["expected"]["hostStake"])
    assert state.contract_balance == liabilities(state) == state.platform_balance


# Who signs, and for whom


@pytest.mark.parametrize(
    ("by", "signer", "party"),
    [
        ("host", "platform", "host"),
        ("a", "a", "a"),
        ("walletless", "platform", "platform"),
        ("troll", "platform", "troll"),
    ],
)
def test_who_pays_in_and_under_whose_address(by: str, signer: str, party: str) -> None:
    state, (created, booked) = apply_all([(0, create(by=by)), (60, book("b1", by))])
    assert (created.signer, booked.signer) == (signer, signer)
    assert (state.runs["gig"].host, state.bookings["b1"].attendee) == (party, party)
    assert (state.runs["gig"].actor, state.bookings["b1"].actor) == (by, by)
    assert state.paid_in == {signer: 32 * 10**16}


def test_the_platform_acts_for_those_it_pays_for() -> None:
    """On chain `cancel_run` by such a host is a call by the platform, which may until the run is final."""
    outcome = last_outcome((0, create()), (START + 1, CancelRun(run="gig")))
    assert (outcome.actor, outcome.signer, outcome.status) == ("host", "platform", "ok")


def test_payouts_of_a_walletless_actor_go_to_the_platform() -> None:
    state, _ = apply_all([(0, create()), (60, book("w1", "walletless")), (120, CancelBooking(booking="w1"))])
    assert state.received == {"platform": 24 * 10**16}
    assert state.wallet_flow == {"platform": -8 * 10**16}


# Receivers


@pytest.mark.parametrize("receiver", ["troll", "burner", "flooder"])
def test_a_refused_push_becomes_a_credit(receiver: str) -> None:
    state, outcomes = apply_all([(0, create()), (60, book("t1", receiver)), (120, CancelBooking(booking="t1"))])
    assert outcomes[-1].payouts == (Payout(receiver, 24 * 10**16, "refund", deferred=True),)
    assert state.credits == {receiver: 24 * 10**16}
    assert state.contract_balance == liabilities(state) == 32 * 10**16

    state, refused = apply(state, Withdraw(by=receiver), EPOCH + 180, RATE)
    assert (refused.error, refused.args) == ("TransferFailed", (receiver, 24 * 10**16))
    state, withdrawn = apply(state, Withdraw(by=receiver, to="a"), EPOCH + 240, RATE)
    assert withdrawn.payouts == (Payout("a", 24 * 10**16, "credit withdrawn"),)
    assert (state.credits, state.received) == ({}, {receiver: 24 * 10**16})
    assert state.wallet_flow == {"a": 24 * 10**16, "platform": -32 * 10**16}


def test_a_reentrant_receiver_is_paid() -> None:
    state, outcomes = apply_all([(0, create()), (60, book("t1", "thief")), (120, CancelBooking(booking="t1"))])
    assert outcomes[-1].payouts == (Payout("thief", 24 * 10**16, "refund"),)
    assert state.credits == {}


def test_nothing_is_pushed_where_nothing_is_owed() -> None:
    actions = [(0, create()), (60, book("t1", "troll")), (START, Complete(run="gig", attended=("t1",)))]
    outcome = apply_all(actions, Terms(stake_bps=0))[1][-1]
    assert [p.to for p in outcome.payouts] == ["host"]


# Expiry, fees, forced ether


def test_expiry_shares_the_hosts_stake_by_seats_and_the_platform_gets_the_remainder() -> None:
    actions = [
        (0, create(seats=5)),
        (60, book("a1", "a", 1)),
        (90, book("b1", "b", 2)),
        (START + GRACE, Expire(run="gig")),
    ]
    state, _ = apply_all(actions)
    assert state.received == {"a": 12 * 10**16 + 10**17 // 3, "b": 24 * 10**16 + 2 * 10**17 // 3}
    assert state.platform_balance == 1


def test_expiry_without_bookings_gives_the_host_the_stake_back() -> None:
    state, _ = apply_all([(0, create()), (START + GRACE, Expire(run="gig", by="outsider"))])
    assert state.received == {"host": 8 * 10**16}
    assert state.platform_balance == 0


def test_fees_are_withdrawn_without_touching_escrow() -> None:
    completed_run = [(0, create()), (60, book("a1", "a")), (START, Complete(run="gig", attended=("a1",)))]
    state, _ = apply_all(
        [*completed_run[:2], (90, create(run="open")), (95, book("o1", "b", run="open")), *completed_run[2:]]
    )
    owed_to_others = liabilities(state) - state.platform_balance
    state, outcome = apply(state, WithdrawFees(), EPOCH + START + 60, RATE)
    assert outcome.payouts == (Payout("platform", 10**16, "platform fees"),)
    assert state.contract_balance == liabilities(state) == owed_to_others


def test_forced_ether_is_owed_to_nobody() -> None:
    state, (outcome,) = apply_all([(0, ForceEther(by="outsider", wei=5))])
    assert (state.contract_balance, liabilities(state), state.forced_wei, outcome.paid_in) == (5, 0, 5, 0)
    assert state.wallet_flow == {"outsider": -5}
