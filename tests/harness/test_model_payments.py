"""What the model says of payments in INR."""

from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_helpers import DAY, START, apply_all, book, create
from stakesim.model.payments import to_paise, totals
from stakesim.model.state import InrPayment, State
from stakesim.scenario.actions import CancelBooking, CancelRun, Complete, Expire, Terms
from stakesim.scenario.base_action import PaymentBehaviour

PRICE, STAKE = 2_000_000, 400_000
"""Of a seat, in paise."""
OPENED = [(0, create(by="walletless"))]
HOSTS = InrPayment("walletless", "run", "gig", 4 * STAKE, 0, "used", 4 * STAKE, to_custody=True)


def payments_of(*actions, terms=None) -> tuple[InrPayment, ...]:
    return apply_all([*OPENED, *actions], terms)[0].payments


def last_of(*actions) -> tuple[int, int, str, bool]:
    """Captured and refunded paise, status and dispute of the last payment."""
    last = payments_of(*actions)[-1]
    return last.captured, last.refunded, last.status, last.disputed


def test_host_and_attendee_pay_what_the_platform_sends_for_them():
    hosts, attendees = payments_of((DAY, book("a1", "b", 2)))
    assert hosts == HOSTS
    assert attendees == InrPayment("b", "booking", "a1", 2 * (PRICE + STAKE), 0, "used", 2 * STAKE)


@pytest.mark.parametrize(
    ("payment", "error", "expected"),
    [
        ("in_time", None, [("booking", 1, 0, "used")]),
        ("never", "NotPaid", [("booking", 0, 0, "expired")]),
        ("forged", "NotPaid", [("booking", 0, 0, "expired")]),
        ("other_currency", "NotPaid", [("booking", 0, 0, "expired")]),
        ("webhook_late", "NotPaid", [("booking", 1, 1, "refunded")]),
        ("late", "PaymentUnusable", [("booking", 1, 1, "refunded")]),
        ("twice", None, [("booking", 1, 0, "used"), ("unexpected", 1, 1, "refunded")]),
        ("charged_back", None, [("booking", 1, 0, "used")]),
    ],
)
def test_each_way_to_pay(payment, error, expected):
    state, outcomes = apply_all([*OPENED, (DAY, book("a1", "b", 1, payment=payment))])
    assert outcomes[-1].error == error
    found = [(p.purpose, p.captured, p.refunded, p.status) for p in state.payments[1:]]
    due = PRICE + STAKE
    assert found == [
        (purpose, due * captured, due * refunded, status) for purpose, captured, refunded, status in expected
    ]
    assert [p.disputed for p in state.payments[1:]] == [payment == "charged_back"] * len(expected)


def test_a_paisa_too_little_is_not_enough_and_goes_back():
    asked, unexpected = payments_of((DAY, book("a1", "b", 1, payment="too_little")))[1:]
    assert (asked.captured, asked.status) == (0, "expired")
    assert (unexpected.captured, unexpected.refunded) == (PRICE + STAKE - 1, PRICE + STAKE - 1)


@pytest.mark.parametrize(
    ("ending", "of_host", "of_poor", "of_rich"),
    [
        ((2 * DAY, CancelBooking(booking="p1")), 0, PRICE + STAKE, 0),
        ((2 * DAY, CancelRun(run="gig")), 4 * STAKE, PRICE + STAKE, 0),
        ((START, Complete(run="gig", attended=("p1", "a1"))), 4 * STAKE, STAKE, 0),
        ((START, Complete(run="gig", attended=())), 4 * STAKE, 0, 0),
        ((START + 7 * DAY, Expire(run="gig")), 0, PRICE + STAKE, 0),
    ],
    ids=["booking cancelled", "run cancelled", "attended", "no-show", "expired"],
)
def test_who_has_no_wallet_gets_inr_and_nobody_else(ending, of_host, of_poor, of_rich):
    paid = payments_of((DAY, book("p1", "walletless", 1)), (DAY, book("a1", "b", 1)), ending)
    assert [payment.refunded for payment in paid] == [of_host, of_poor, of_rich]
    again = payments_of((DAY, book("p1", "walletless", 1)), (DAY, book("a1", "b", 1)), ending, ending)
    assert again == paid  # once


def test_the_hosts_stake_returns_if_a_run_expires_without_bookings():
    assert last_of((START + 7 * DAY, Expire(run="gig"))) == (4 * STAKE, 4 * STAKE, "refunded", False)


def test_what_the_bank_took_back_is_not_refunded_too():
    booking = (DAY, book("p1", "walletless", 1, payment="charged_back"))
    expected = (PRICE + STAKE, 0, "used", True)
    assert last_of(booking, (2 * DAY, CancelBooking(booking="p1"))) == expected
    assert last_of((DAY, book("p1", "walletless", 9, payment="charged_back")))[1:] == (0, "used", True)  # no nine seats


def test_who_signs_pays_no_inr():
    state, _ = apply_all([(0, create(by="a")), (DAY, book("b1", "a", 1))])
    assert state.payments == ()


def test_less_than_a_rupee_cant_be_paid_and_nothing_need_not_be():
    _, outcomes = apply_all([(0, create(inr="1.24", seats=4))])  # a stake of 0.992 INR
    assert outcomes[0].error == "PaymentTooSmall"
    assert apply_all([(0, create(inr="1.25", seats=4))])[1][0].error is None
    state, outcomes = apply_all([(0, create(inr="1.24", seats=4))], terms=Terms(stake_bps=0))
    assert (outcomes[0].status, state.payments) == ("ok", ())


@given(st.integers(0, 10**27), st.decimals("0.01", "10000000", places=2))
def test_paise_are_rounded_half_to_even(wei: int, rate: Decimal) -> None:
    exact = wei * int(rate * 100)
    paise = to_paise(wei, rate)
    assert 2 * abs(paise * 10**18 - exact) <= 10**18
    assert 2 * abs(paise * 10**18 - exact) < 10**18 or paise % 2 == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(get_args(PaymentBehaviour)), st.sampled_from(["b", "walletless", "a"])), max_size=8
    )
)
def test_every_captured_payment_is_used_once_or_refunded(bookings) -> None:
    actions = [
        (DAY + number, book(f"b{number}", by, 1, payment=payment if by != "a" else "in_time"))
        for number, (payment, by) in enumerate(bookings)
    ]
    state, _ = apply_all([*OPENED, *actions])
    check(state)
    state, _ = apply_all([*OPENED, *actions, (2 * DAY, CancelRun(run="gig"))])
    check(state)
    captured, refunded = totals(state)
    lost = sum(payment.captured for payment in state.payments if payment.disputed)
    kept = sum(payment.captured for payment in state.payments if payment.payer == "b" and payment.status == "used")
    assert captured - refunded == lost + kept - sum(
        payment.captured for payment in state.payments if payment.payer == "b" and payment.disputed
    )


def check(state: State) -> None:
    paid_for = [payment.label for payment in state.payments if payment.purpose == "booking" and payment.captured]
    for booking in state.bookings.values():
        assert paid_for.count(booking.label) == (booking.actor != "a")
    for payment in state.payments:
        assert 0 <= payment.refunded <= payment.captured
        assert (payment.status == "expired") == (payment.captured == 0)
        assert not (payment.disputed and payment.refunded)
