"""Refusals of the reference model: edges of time, errors in the order of the checks with their arguments, bad rates."""

from decimal import Decimal

import pytest
from model_helpers import DAY, EPOCH, GRACE, RATE, START, Timed, apply_all, book, create, last_outcome
from stakesim.model.calls import attended_booking_ids
from stakesim.model.rates import inr_to_wei
from stakesim.model.reference import apply
from stakesim.model.rules import MAX_SEATS
from stakesim.model.state import BookingStatus, RunStatus, State
from stakesim.scenario.actions import (
    Action,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    SetPrice,
    Terms,
    Wait,
    Withdraw,
    WithdrawFees,
)

# Time: each edge a second before, at, and after it

CUTOFF_AT = START - DAY
EDGES = [
    (START, book("x", "b"), {-1: None, 0: "TooLate", 1: "TooLate"}, START),
    (START, CancelRun(run="gig", by="self_host"), {-1: None, 0: "TooLate", 1: "TooLate"}, START),
    (START, CancelRun(run="gig", by="platform"), {-1: None, 0: None, 1: None}, None),
    (CUTOFF_AT, CancelBooking(booking="a1"), {-1: None, 0: None, 1: "TooLate"}, CUTOFF_AT),
    (CUTOFF_AT, CancelBooking(booking="a1", by="platform"), {-1: None, 0: None, 1: "TooLate"}, CUTOFF_AT),
    (START, Complete(run="gig", attended=()), {-1: "TooEarly", 0: None, 1: None}, START),
    (START + GRACE, Complete(run="gig", attended=()), {-1: None, 0: "TooLate", 1: "TooLate"}, START + GRACE),
    (START + GRACE, Expire(run="gig", by="outsider"), {-1: "TooEarly", 0: None, 1: None}, START + GRACE),
]


@pytest.mark.parametrize(("edge", "action", "errors", "error_time"), EDGES)
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_edge_of_time(
    edge: int, action: Action, errors: dict[int, str | None], error_time: int | None, off: int
) -> None:
    outcome = last_outcome((0, create(by="self_host")), (60, book("a1", "a")), (edge + off, action))
    assert outcome.error == errors[off]
    assert outcome.args == ((EPOCH + error_time,) if errors[off] and error_time is not None else ())


@pytest.mark.parametrize(("off", "error"), [(-1, None), (0, "InvalidStart"), (1, "InvalidStart")])
def test_a_run_starts_later_than_now(off: int, error: str | None) -> None:
    assert last_outcome((START + off, create())).error == error


def test_a_start_fits_in_40_bits() -> None:
    latest = 2**40 - 1 - EPOCH
    wrong = {"by": "host", "price_inr": Decimal(1), "seats": 1, "direct": True, "value_off": 1}
    assert last_outcome((0, CreateRun(run="far", starts=latest, **wrong))).error == "WrongValue"
    assert last_outcome((0, CreateRun(run="far", starts=latest + 1, **wrong))).args == (2**40,)


@pytest.mark.parametrize(("price", "error"), [(1, None), (2**128 - 1, None), (2**128, "InvalidPrice")])
def test_a_price_fits_in_128_bits(price: int, error: str | None) -> None:
    """At 10^18 INR for one ETH a rupee is a wei."""
    terms = Terms(stake_bps=0)  # else the stake is too large to be held
    outcome = apply_all([(0, create(inr=str(price)))], terms, rate=Decimal(10**18))[1][-1]
    assert (outcome.error, outcome.price) == (error, price)
    assert outcome.args == ((price,) if error else ())


@pytest.mark.parametrize(("seats", "error"), [(1, None), (MAX_SEATS, None), (MAX_SEATS + 1, "InvalidSeats")])
def test_a_run_has_one_to_max_seats(seats: int, error: str | None) -> None:
    assert last_outcome((0, create(seats=seats))).error == error


# Errors, with arguments, in the order of the contract's checks

GIG: list[Timed] = [(0, create(by="self_host")), (60, book("a1", "a"))]
OTHER: list[Timed] = [(90, create(run="other")), (95, book("o1", "b", run="other"))]
DONE: list[Timed] = [*GIG, (START, Complete(run="gig", attended=("a1",)))]


def with_args(error: str, *args: int | str) -> tuple[str, tuple[int | str, ...]]:
    return error, args


REFUSALS: list[tuple[str, list[Timed], Action, tuple[str, tuple[int | str, ...]]]] = [
    ("no seats in a run", [], create(seats=0), with_args("InvalidSeats", 0)),
    ("a seat too many in a run", [], create(seats=MAX_SEATS + 1), with_args("InvalidSeats", MAX_SEATS + 1)),
    (
        "a wei too little for a run",
        [],
        create(direct=True, value_off=-1),
        with_args("WrongValue", 8 * 10**16 - 1, 8 * 10**16),
    ),
    ("seats before value", [], create(seats=0, direct=True, value_off=1), with_args("InvalidSeats", 0)),
    (
        "a wei too much for a booking",
        GIG,
        book("x", "b", direct=True, value_off=1),
        with_args("WrongValue", 24 * 10**16 + 1, 24 * 10**16),
    ),
    ("no seats booked", GIG, book("x", "b", 0), with_args("InvalidSeats", 0)),
    ("more seats than are free", GIG, book("x", "b", 3), with_args("NotEnoughSeats", 3, 2)),
    ("a full run", [*GIG, (90, book("b1", "b"))], book("x", "b", 9), with_args("EventNotOpen", 1, RunStatus.FULL)),
    ("booking a completed run", DONE, book("x", "b"), with_args("EventNotOpen", 1, RunStatus.COMPLETED)),
    ("another's booking", GIG, CancelBooking(booking="a1", by="outsider"), with_args("NotAuthorized", "outsider")),
    ("the host for a guest", GIG, CancelBooking(booking="a1", by="self_host"), with_args("NotAuthorized", "self_host")),
    (
        "directly",
        OTHER,
        CancelBooking(booking="o1", by="host", direct=True),
        with_args("NotAuthorized", "host"),
    ),
    (
        "cancelled twice",
        [*GIG, (90, CancelBooking(booking="a1"))],
        CancelBooking(booking="a1"),
        with_args("BookingNotActive", 1, BookingStatus.CANCELLED),
    ),
    (
        "cancelled after attending",
        DONE,
        CancelBooking(booking="a1"),
        with_args("BookingNotActive", 1, BookingStatus.COMPLETED),
    ),
    (
        "caller before status",
        DONE,
        CancelBooking(booking="a1", by="outsider", direct=True),
        with_args("NotAuthorized", "outsider"),
    ),
    ("another's run", GIG, CancelRun(run="gig", by="a"), with_args("NotAuthorized", "a")),
    ("run cancelled after it", DONE, CancelRun(run="gig"), with_args("EventNotOpen", 1, RunStatus.COMPLETED)),
    (
        "completed by an outsider",
        GIG,
        Complete(run="gig", by="outsider", attended=()),
        with_args("NotAuthorized", "outsider"),
    ),
    ("completed twice", DONE, Complete(run="gig", attended=()), with_args("EventNotOpen", 1, RunStatus.COMPLETED)),
    ("expired after completion", DONE, Expire(run="gig"), with_args("EventNotOpen", 1, RunStatus.COMPLETED)),
    ("fees by an outsider", DONE, WithdrawFees(by="outsider"), with_args("OwnableUnauthorizedAccount", "outsider")),
    (
        "fees directly",
        DONE,
        WithdrawFees(by="host", direct=True),
        with_args("OwnableUnauthorizedAccount", "host"),
    ),
    ("no fees", GIG, WithdrawFees(), with_args("NothingToWithdraw")),
    ("no credit", DONE, Withdraw(by="a"), with_args("NothingToWithdraw")),
    ("no credit to a refuser", DONE, Withdraw(by="a", to="troll"), with_args("NothingToWithdraw")),
]


@pytest.mark.parametrize(("before", "action", "refusal"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_refused(before: list[Timed], action: Action, refusal: tuple[str, tuple[int | str, ...]]) -> None:
    at = max((at for at, _ in before), default=0) + 30
    state, _ = apply_all(before)
    after, outcome = apply(state, action, EPOCH + at, RATE)
    assert (outcome.status, outcome.error, outcome.args) == ("rejected", *refusal)
    assert outcome.paid_in == 0
    assert outcome.payouts == ()
    assert unchanged(state, after)


def unchanged(before: State, after: State) -> bool:
    """All but the clock, the rate of the last quote, and INR that were paid and go back in full."""
    moving = {"now", "last_accepted_rate", "payments"}
    paid = after.payments[len(before.payments) :]
    assert after.payments[: len(before.payments)] == before.payments
    assert all((each.status, each.refunded) == ("refunded", each.captured) for each in paid)
    return all(getattr(before, f) == getattr(after, f) for f in State.__dataclass_fields__ if f not in moving)


@pytest.mark.parametrize(
    ("attended", "error", "args"),
    [
        (("a1", "o1"), "BookingNotOfRun", (2, 1)),
        (("o1", "a1", "a1"), "BookingNotOfRun", (2, 1)),
        (("a1", "a1"), "BookingNotActive", (1, BookingStatus.COMPLETED)),
        (("c1",), "BookingNotActive", (3, BookingStatus.CANCELLED)),
        (("a1", "never"), None, ()),
    ],
)
def test_attendance_list(attended: tuple[str, ...], error: str | None, args: tuple[int, ...]) -> None:
    before = [*GIG, *OTHER, (96, book("c1", "b", 1)), (97, CancelBooking(booking="c1"))]
    outcome = last_outcome(*before, (START, Complete(run="gig", attended=attended)))
    assert (outcome.error, outcome.args) == (error, args)


def test_ids_of_the_attendance_list_leave_out_bookings_that_were_never_made() -> None:
    state, _ = apply_all([*GIG, *OTHER])
    assert attended_booking_ids(state, Complete(run="gig", attended=("o1", "never", "a1", "a1"))) == (2, 1, 1)


@pytest.mark.parametrize(
    "action",
    [book("x", "a", run="none"), CancelBooking(booking="none"), CancelRun(run="none"), Expire(run="none")],
)
def test_an_action_on_something_that_does_not_exist_is_skipped(action: Action) -> None:
    outcome = last_outcome((0, action))
    assert (outcome.status, outcome.signer, outcome.error) == ("skipped", None, None)


def test_a_wrong_value_is_never_negative() -> None:
    actions = [(0, create(inr="1", seats=1)), (1, book("x", "b", 1, direct=True, value_off=-(10**30)))]
    outcome = apply_all(actions, Terms(stake_bps=0))[1][-1]
    assert outcome.error == "WrongValue"
    assert outcome.value == 5 * 10**12 + 10**30


def test_time_never_goes_back() -> None:
    with pytest.raises(ValueError, match="time can't go back"):
        apply_all([(60, Wait()), (59, Wait())])


# INR and wei, and which rates are accepted for a quote


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
    return [o.error for o in apply_all(actions)[1][2::2]]


@pytest.mark.parametrize("rate", ["0", "-1", "NaN", "Infinity", "-Infinity", "2000000", "66666", "600000.01"])
def test_no_quote_from_a_bad_rate(rate: str) -> None:
    assert quote((60, rate, 0)) == ["PriceError"]


@pytest.mark.parametrize("rate", ["600000", "66666.67", "200000.01"])
def test_a_rate_up_to_three_times_the_last_is_accepted(rate: str) -> None:
    assert quote((60, rate, 0)) == [None]


@pytest.mark.parametrize(("age", "error"), [(3_539, None), (3_540, None), (3_541, "PriceError")])
def test_a_rate_is_good_for_an_hour(age: int, error: str | None) -> None:
    assert quote((7_200, "200000", age)) == [error]


def test_a_jump_is_measured_from_the_last_rate_accepted() -> None:
    assert quote((60, "600000", 0), (180, "9000000", 0), (300, "1800000", 0)) == [None, "PriceError", None]


def test_an_accepted_rate_counts_even_if_the_contract_then_refuses() -> None:
    """The quote was made, whatever happens to the action."""
    actions = [
        (0, create()),
        (9, SetPrice(inr_per_eth="600000")),
        (10, book("x", "a", 0)),
        (11, SetPrice(inr_per_eth="1800000")),
    ]
    assert last_outcome(*actions, (12, book("y", "a"))).error is None


def test_the_price_is_checked_before_anything_of_the_contract() -> None:
    assert last_outcome((0, create()), (1, SetPrice(inr_per_eth="0")), (2, book("x", "a", 99))).error == "PriceError"


def test_a_direct_action_needs_no_price() -> None:
    bad = (1, SetPrice(inr_per_eth="0"))
    assert last_outcome((0, create()), bad, (2, book("x", "a", direct=True, value_off=1))).error == "WrongValue"
    assert last_outcome((0, create()), bad, (2, create(run="y", direct=True, value_off=1))).error == "InvalidPrice"


def test_exits_need_no_price() -> None:
    bad = (90, SetPrice(inr_per_eth="NaN"))
    assert last_outcome(*GIG, bad, (120, CancelBooking(booking="a1"))).status == "ok"
    assert last_outcome(*GIG, bad, (120, CancelRun(run="gig"))).status == "ok"
    assert last_outcome(*GIG, bad, (START, Complete(run="gig", attended=()))).status == "ok"


def test_a_later_price_changes_no_wei() -> None:
    state, outcomes = apply_all([(0, create()), (60, SetPrice(inr_per_eth="100000")), (120, book("a1", "a"))])
    assert outcomes[-1].paid_in == 24 * 10**16
    assert state.runs["gig"].price == 10**17
