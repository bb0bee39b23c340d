"""The reference model against the rules: worked examples, settlement vectors, every edge of time, every error."""

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from harness.scenario.actions import (
    Action,
    Actor,
    Book,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    ForceEther,
    Reentry,
    SetPrice,
    Terms,
    Wait,
    Withdraw,
    WithdrawFees,
)
from harness.scenario.model import (
    MAX_SEATS,
    BookingStatus,
    Outcome,
    Payout,
    RunStatus,
    State,
    apply,
    came_ids,
    initial,
    inr_to_wei,
    liabilities,
)

EPOCH = 4_102_444_800
DAY = 86_400
START = 7 * DAY
GRACE = 7 * DAY
RATE = Decimal(200_000)
ETH = 10**18
ACTORS = {
    "host": Actor(),
    "a": Actor(pays="self"),
    "b": Actor(),
    "walletless": Actor(wallet="none"),
    "outsider": Actor(pays="self"),
    "self_host": Actor(pays="self"),
    "troll": Actor(receiver="refuses"),
    "burner": Actor(receiver="burns_gas"),
    "flooder": Actor(receiver="floods"),
    "thief": Actor(receiver="reenters", reenter=Reentry(call="withdraw")),
}

Timed = tuple[int, Action]


def play(actions: Sequence[Timed], terms: Terms | None = None, rate: Decimal = RATE) -> tuple[State, list[Outcome]]:
    state, outcomes = initial(terms or Terms(), ACTORS, EPOCH), []
    for at, action in actions:
        state, outcome = apply(state, action, EPOCH + at, rate)
        outcomes.append(outcome)
    return state, outcomes


def last(*actions: Timed, terms: Terms | None = None) -> Outcome:
    return play(actions, terms)[1][-1]


def create(run: str = "gig", by: str = "host", seats: int = 4, inr: str = "20000", **more: Any) -> CreateRun:
    return CreateRun(run=run, by=by, price_inr=Decimal(inr), seats=seats, starts=START, **more)


def book(booking: str, by: str, seats: int = 2, run: str = "gig", **more: Any) -> Book:
    return Book(booking=booking, run=run, by=by, seats=seats, **more)


SOLD_OUT: list[Timed] = [(0, create()), (60, book("a1", "a")), (120, book("b1", "b"))]


def test_everybody_comes_as_in_the_worked_example() -> None:
    state, outcomes = play([*SOLD_OUT, (START, Complete(run="gig", came=("a1", "b1")))])
    assert [o.paid_in for o in outcomes] == [8 * ETH // 100, 24 * ETH // 100, 24 * ETH // 100, 0]
    assert state.received == {"a": 4 * ETH // 100, "b": 4 * ETH // 100, "host": 46 * ETH // 100}
    assert state.platform_balance == 2 * ETH // 100


def test_a_no_show_forfeits_the_stake_as_in_the_worked_example() -> None:
    state, outcomes = play([*SOLD_OUT, (START, Complete(run="gig", came=("a1",)))])
    assert state.received == {"a": 4 * ETH // 100, "host": 46 * ETH // 100}
    assert state.platform_balance == 6 * ETH // 100
    assert outcomes[-1].payouts == (
        Payout("a", 4 * ETH // 100, "stake returned"),
        Payout("host", 46 * ETH // 100, "host payout"),
    )
    assert state.bookings["b1"].status == BookingStatus.NO_SHOW


def test_a_cancelled_run_gives_everybody_back_what_they_paid_as_in_the_worked_example() -> None:
    state, _ = play([*SOLD_OUT, (START - 1, CancelRun(run="gig"))])
    assert state.received == {"a": 24 * ETH // 100, "b": 24 * ETH // 100, "host": 8 * ETH // 100}
    assert (state.platform_balance, state.contract_balance, liabilities(state)) == (0, 0, 0)
    assert state.runs["gig"].status == RunStatus.CANCELLED


VECTORS = json.loads((Path(__file__).parents[1] / "vectors/settlements.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{i}-{v['end']}" for i, v in enumerate(VECTORS)])
def test_settlement_vector(vector: dict[str, Any]) -> None:
    """At 10^18 INR for one ETH a rupee is a wei, so the vectors' prices go through the public door."""
    bookings = {f"b{i}": booking for i, booking in enumerate(vector["bookings"])}
    terms = Terms(
        stake_bps=vector["terms"]["stakeBps"],
        fee_bps=vector["terms"]["feeBps"],
        forfeit_to_host_bps=vector["terms"]["forfeitToHostBps"],
    )
    state = initial(terms, {"host": Actor(), **{label: Actor() for label in bookings}}, EPOCH)
    received: dict[str, int] = {}

    def act(at: int, action: Action) -> Outcome:
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
            came = tuple(label for label, booking in bookings.items() if booking["fate"] == "came")
            act(START, Complete(run="gig", came=came))
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


# Time: each edge a second before, at, and after it

CUTOFF_AT = START - DAY
EDGES = [
    (START, book("x", "b"), {-1: None, 0: "TooLate", 1: "TooLate"}, START),
    (START, CancelRun(run="gig", by="self_host"), {-1: None, 0: "TooLate", 1: "TooLate"}, START),
    (START, CancelRun(run="gig", by="platform"), {-1: None, 0: None, 1: None}, None),
    (CUTOFF_AT, CancelBooking(booking="a1"), {-1: None, 0: None, 1: "TooLate"}, CUTOFF_AT),
    (CUTOFF_AT, CancelBooking(booking="a1", by="platform"), {-1: None, 0: None, 1: "TooLate"}, CUTOFF_AT),
    (START, Complete(run="gig", came=()), {-1: "TooEarly", 0: None, 1: None}, START),
    (START + GRACE, Complete(run="gig", came=()), {-1: None, 0: "TooLate", 1: "TooLate"}, START + GRACE),
    (START + GRACE, Expire(run="gig", by="outsider"), {-1: "TooEarly", 0: None, 1: None}, START + GRACE),
]


@pytest.mark.parametrize(("edge", "action", "errors", "named"), EDGES)
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_edge_of_time(edge: int, action: Action, errors: dict[int, str | None], named: int | None, off: int) -> None:
    outcome = last((0, create(by="self_host")), (60, book("a1", "a")), (edge + off, action))
    assert outcome.error == errors[off]
    assert outcome.args == ((EPOCH + named,) if errors[off] and named is not None else ())


@pytest.mark.parametrize(("off", "error"), [(-1, None), (0, "InvalidStart"), (1, "InvalidStart")])
def test_a_run_starts_later_than_now(off: int, error: str | None) -> None:
    assert last((START + off, create())).error == error


def test_a_start_fits_in_40_bits() -> None:
    latest = 2**40 - 1 - EPOCH
    wrong = {"by": "host", "price_inr": Decimal(1), "seats": 1, "direct": True, "value_off": 1}
    assert last((0, CreateRun(run="far", starts=latest, **wrong))).error == "WrongValue"
    assert last((0, CreateRun(run="far", starts=latest + 1, **wrong))).args == (2**40,)


# Errors, with arguments, in the order of the contract's checks

GIG: list[Timed] = [(0, create(by="self_host")), (60, book("a1", "a"))]
OTHER: list[Timed] = [(90, create(run="other")), (95, book("o1", "b", run="other"))]
DONE: list[Timed] = [*GIG, (START, Complete(run="gig", came=("a1",)))]


def once(error: str, *args: int | str) -> tuple[str, tuple[int | str, ...]]:
    return error, args


REFUSALS: list[tuple[str, list[Timed], Action, tuple[str, tuple[int | str, ...]]]] = [
    ("no seats in a run", [], create(seats=0), once("InvalidSeats", 0)),
    ("a seat too many in a run", [], create(seats=MAX_SEATS + 1), once("InvalidSeats", MAX_SEATS + 1)),
    (
        "a wei too little for a run",
        [],
        create(direct=True, value_off=-1),
        once("WrongValue", 8 * 10**16 - 1, 8 * 10**16),
    ),
    ("seats before value", [], create(seats=0, direct=True, value_off=1), once("InvalidSeats", 0)),
    (
        "a wei too much for a booking",
        GIG,
        book("x", "b", direct=True, value_off=1),
        once("WrongValue", 24 * 10**16 + 1, 24 * 10**16),
    ),
    ("no seats booked", GIG, book("x", "b", 0), once("InvalidSeats", 0)),
    ("more seats than are free", GIG, book("x", "b", 3), once("NotEnoughSeats", 3, 2)),
    ("a full run", [*GIG, (90, book("b1", "b"))], book("x", "b", 9), once("EventNotOpen", 1, RunStatus.FULL)),
    ("booking a completed run", DONE, book("x", "b"), once("EventNotOpen", 1, RunStatus.COMPLETED)),
    ("another's booking", GIG, CancelBooking(booking="a1", by="outsider"), once("NotAuthorized", "outsider")),
    ("the host for a guest", GIG, CancelBooking(booking="a1", by="self_host"), once("NotAuthorized", "self_host")),
    ("past the service", OTHER, CancelBooking(booking="o1", by="host", direct=True), once("NotAuthorized", "host")),
    (
        "cancelled twice",
        [*GIG, (90, CancelBooking(booking="a1"))],
        CancelBooking(booking="a1"),
        once("BookingNotActive", 1, BookingStatus.CANCELLED),
    ),
    (
        "cancelled after coming",
        DONE,
        CancelBooking(booking="a1"),
        once("BookingNotActive", 1, BookingStatus.COMPLETED),
    ),
    (
        "caller before status",
        DONE,
        CancelBooking(booking="a1", by="outsider", direct=True),
        once("NotAuthorized", "outsider"),
    ),
    ("another's run", GIG, CancelRun(run="gig", by="a"), once("NotAuthorized", "a")),
    ("run cancelled after it", DONE, CancelRun(run="gig"), once("EventNotOpen", 1, RunStatus.COMPLETED)),
    ("completed by an outsider", GIG, Complete(run="gig", by="outsider", came=()), once("NotAuthorized", "outsider")),
    ("completed twice", DONE, Complete(run="gig", came=()), once("EventNotOpen", 1, RunStatus.COMPLETED)),
    ("expired after completion", DONE, Expire(run="gig"), once("EventNotOpen", 1, RunStatus.COMPLETED)),
    ("fees by an outsider", DONE, WithdrawFees(by="outsider"), once("OwnableUnauthorizedAccount", "outsider")),
    ("fees past the service", DONE, WithdrawFees(by="host", direct=True), once("OwnableUnauthorizedAccount", "host")),
    ("no fees", GIG, WithdrawFees(), once("NothingToWithdraw")),
    ("no credit", DONE, Withdraw(by="a"), once("NothingToWithdraw")),
    ("no credit to a refuser", DONE, Withdraw(by="a", to="troll"), once("NothingToWithdraw")),
]


@pytest.mark.parametrize(("before", "action", "refusal"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_refused(before: list[Timed], action: Action, refusal: tuple[str, tuple[int | str, ...]]) -> None:
    at = max((at for at, _ in before), default=0) + 30
    state, _ = play(before)
    after, outcome = apply(state, action, EPOCH + at, RATE)
    assert (outcome.status, outcome.error, outcome.args) == ("rejected", *refusal)
    assert outcome.paid_in == 0
    assert outcome.payouts == ()
    assert unchanged(state, after)


def unchanged(before: State, after: State) -> bool:
    """All but the clock and the rate of the last quote."""
    moving = {"now", "last_rate"}
    return all(getattr(before, f) == getattr(after, f) for f in State.__dataclass_fields__ if f not in moving)


@pytest.mark.parametrize(
    ("came", "error", "args"),
    [
        (("a1", "o1"), "BookingNotOfRun", (2, 1)),
        (("o1", "a1", "a1"), "BookingNotOfRun", (2, 1)),
        (("a1", "a1"), "BookingNotActive", (1, BookingStatus.COMPLETED)),
        (("c1",), "BookingNotActive", (3, BookingStatus.CANCELLED)),
        (("a1", "never"), None, ()),
    ],
)
def test_attendance_list(came: tuple[str, ...], error: str | None, args: tuple[int, ...]) -> None:
    before = [*GIG, *OTHER, (96, book("c1", "b", 1)), (97, CancelBooking(booking="c1"))]
    outcome = last(*before, (START, Complete(run="gig", came=came)))
    assert (outcome.error, outcome.args) == (error, args)


def test_ids_of_the_attendance_list_leave_out_what_was_never_made() -> None:
    state, _ = play([*GIG, *OTHER])
    assert came_ids(state, Complete(run="gig", came=("o1", "never", "a1", "a1"))) == (2, 1, 1)


@pytest.mark.parametrize(
    "action",
    [book("x", "a", run="none"), CancelBooking(booking="none"), CancelRun(run="none"), Expire(run="none")],
)
def test_what_does_not_exist_is_skipped(action: Action) -> None:
    outcome = last((0, action))
    assert (outcome.status, outcome.signer, outcome.error) == ("skipped", None, None)


def test_a_wrong_value_is_wrong_even_where_less_than_nothing_is_left() -> None:
    actions = [(0, create(inr="1", seats=1)), (1, book("x", "b", 1, direct=True, value_off=-(10**30)))]
    outcome = play(actions, Terms(stake_bps=0))[1][-1]
    assert outcome.error == "WrongValue"
    assert outcome.value == 5 * 10**12 + 10**30


def test_time_never_goes_back() -> None:
    with pytest.raises(ValueError, match="time can't go back"):
        play([(60, Wait()), (59, Wait())])


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
    state, (created, booked) = play([(0, create(by=by)), (60, book("b1", by))])
    assert (created.signer, booked.signer) == (signer, signer)
    assert (state.runs["gig"].host, state.bookings["b1"].attendee) == (party, party)
    assert (state.runs["gig"].actor, state.bookings["b1"].actor) == (by, by)
    assert state.paid_in == {signer: 32 * 10**16}


def test_the_platform_acts_for_those_it_pays_for() -> None:
    """On chain `cancel_run` by such a host is a call by the platform, which may until the run is final."""
    outcome = last((0, create()), (START + 1, CancelRun(run="gig")))
    assert (outcome.actor, outcome.signer, outcome.status) == ("host", "platform", "ok")


def test_what_a_walletless_actor_gets_goes_to_the_platform() -> None:
    state, _ = play([(0, create()), (60, book("w1", "walletless")), (120, CancelBooking(booking="w1"))])
    assert state.received == {"platform": 24 * 10**16}
    assert state.wallet_flow == {"platform": -8 * 10**16}


# Receivers


@pytest.mark.parametrize("receiver", ["troll", "burner", "flooder"])
def test_a_push_that_is_not_taken_becomes_a_credit(receiver: str) -> None:
    state, outcomes = play([(0, create()), (60, book("t1", receiver)), (120, CancelBooking(booking="t1"))])
    assert outcomes[-1].payouts == (Payout(receiver, 24 * 10**16, "refund", deferred=True),)
    assert state.credits == {receiver: 24 * 10**16}
    assert state.contract_balance == liabilities(state) == 32 * 10**16

    state, refused = apply(state, Withdraw(by=receiver), EPOCH + 180, RATE)
    assert (refused.error, refused.args) == ("TransferFailed", (receiver, 24 * 10**16))
    state, taken = apply(state, Withdraw(by=receiver, to="a"), EPOCH + 240, RATE)
    assert taken.payouts == (Payout("a", 24 * 10**16, "credit withdrawn"),)
    assert (state.credits, state.received) == ({}, {receiver: 24 * 10**16})
    assert state.wallet_flow == {"a": 24 * 10**16, "platform": -32 * 10**16}


def test_a_reentrant_receiver_is_paid_once() -> None:
    state, outcomes = play([(0, create()), (60, book("t1", "thief")), (120, CancelBooking(booking="t1"))])
    assert outcomes[-1].payouts == (Payout("thief", 24 * 10**16, "refund"),)
    assert state.credits == {}


def test_nothing_is_pushed_where_nothing_is_owed() -> None:
    actions = [(0, create()), (60, book("t1", "troll")), (START, Complete(run="gig", came=("t1",)))]
    outcome = play(actions, Terms(stake_bps=0))[1][-1]
    assert [p.to for p in outcome.payouts] == ["host"]


# Expiry, fees, forced ether


def test_expiry_shares_the_hosts_stake_by_seats_and_the_platform_gets_the_odd_wei() -> None:
    actions = [
        (0, create(seats=5)),
        (60, book("a1", "a", 1)),
        (90, book("b1", "b", 2)),
        (START + GRACE, Expire(run="gig")),
    ]
    state, _ = play(actions)
    assert state.received == {"a": 12 * 10**16 + 10**17 // 3, "b": 24 * 10**16 + 2 * 10**17 // 3}
    assert state.platform_balance == 1


def test_expiry_without_bookings_gives_the_host_the_stake_back() -> None:
    state, _ = play([(0, create()), (START + GRACE, Expire(run="gig", by="outsider"))])
    assert state.received == {"host": 8 * 10**16}
    assert state.platform_balance == 0


def test_fees_are_withdrawn_without_touching_escrow() -> None:
    state, _ = play([*DONE[:1], *OTHER, (100, book("a1", "a")), *DONE[2:]])
    held = liabilities(state) - state.platform_balance
    state, outcome = apply(state, WithdrawFees(), EPOCH + START + 60, RATE)
    assert outcome.payouts == (Payout("platform", 10**16, "platform fees"),)
    assert state.contract_balance == liabilities(state) == held


def test_forced_ether_is_owed_to_nobody() -> None:
    state, (outcome,) = play([(0, ForceEther(by="outsider", wei=5))])
    assert (state.contract_balance, liabilities(state), state.forced, outcome.paid_in) == (5, 0, 5, 0)
    assert state.wallet_flow == {"outsider": -5}


# INR and wei, and which rates are quoted from


@pytest.mark.parametrize(
    ("inr", "rate", "wei"),
    [
        ("2500", "200000", 12_500_000_000_000_000),
        ("0.01", "300000", 33_333_333_333),
        ("1", "3", 333_333_333_333_333_333),
        ("1", "0", 0),
        ("1", "NaN", 0),
    ],
)
def test_inr_to_wei_rounds_down(inr: str, rate: str, wei: int) -> None:
    assert inr_to_wei(Decimal(inr), Decimal(rate)) == wei


def quote(*feed: tuple[int, str, int]) -> list[str | None]:
    """Errors of a booking 60 s after each (time, rate, age) of the feed; a run is created at 200,000 first."""
    actions: list[Timed] = [(0, create(seats=100))]
    for number, (at, rate, age) in enumerate(feed):
        actions += [(at, SetPrice(inr_per_eth=rate, age=age)), (at + 60, book(f"x{number}", "a", 1))]
    return [o.error for o in play(actions)[1][2::2]]


@pytest.mark.parametrize("rate", ["0", "-1", "NaN", "-NaN", "Infinity", "-Infinity", "2000000", "66666", "600000.01"])
def test_no_quote_from_a_bad_rate(rate: str) -> None:
    assert quote((60, rate, 0)) == ["PriceError"]


@pytest.mark.parametrize("rate", ["600000", "66666.67", "200000.01"])
def test_a_rate_up_to_three_times_the_last_is_quoted_from(rate: str) -> None:
    assert quote((60, rate, 0)) == [None]


@pytest.mark.parametrize(("age", "error"), [(3_539, None), (3_540, None), (3_541, "PriceError")])
def test_a_rate_is_good_for_an_hour(age: int, error: str | None) -> None:
    assert quote((7_200, "200000", age)) == [error]


def test_a_jump_is_measured_from_the_last_rate_accepted() -> None:
    assert quote((60, "600000", 0), (180, "9000000", 0), (300, "1800000", 0)) == [None, "PriceError", None]


def test_an_accepted_rate_counts_even_if_the_contract_then_refuses() -> None:
    """A quote was given; what became of it is another matter."""
    actions = [
        (0, create()),
        (9, SetPrice(inr_per_eth="600000")),
        (10, book("x", "a", 0)),
        (11, SetPrice(inr_per_eth="1800000")),
    ]
    assert last(*actions, (12, book("y", "a"))).error is None


def test_the_price_is_checked_before_anything_of_the_contract() -> None:
    assert last((0, create()), (1, SetPrice(inr_per_eth="0")), (2, book("x", "a", 99))).error == "PriceError"


def test_past_the_service_nobody_asks_the_feed() -> None:
    bad = (1, SetPrice(inr_per_eth="0"))
    assert last((0, create()), bad, (2, book("x", "a", direct=True, value_off=1))).error == "WrongValue"
    assert last((0, create()), bad, (2, create(run="y", direct=True, value_off=1))).error == "InvalidPrice"


def test_exits_need_no_price() -> None:
    bad = (90, SetPrice(inr_per_eth="NaN"))
    assert last(*GIG, bad, (120, CancelBooking(booking="a1"))).status == "ok"
    assert last(*GIG, bad, (120, CancelRun(run="gig"))).status == "ok"
    assert last(*GIG, bad, (START, Complete(run="gig", came=()))).status == "ok"


def test_a_later_price_changes_no_wei() -> None:
    state, outcomes = play([(0, create()), (60, SetPrice(inr_per_eth="100000")), (120, book("a1", "a"))])
    assert outcomes[-1].paid_in == 24 * 10**16
    assert state.runs["gig"].price == 10**17
