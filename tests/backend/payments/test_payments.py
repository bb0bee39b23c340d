"""Nobody's wei without their INR: a payment is used once, goes back once, or waits."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from app.core.errors import (
    ContractRejected,
    ForgedWebhook,
    GatewayRefused,
    GatewayUnavailable,
    InvalidRequest,
    KeyReused,
    NotFound,
    NotPaid,
    Paused,
    PaymentRequired,
    PaymentTooSmall,
    PaymentUnusable,
)
from app.db.tables import event_run_bookings, operations, pauses
from app.services import operations as operations_module
from app.services.blockchain_service import BlockchainService
from app.services.contract_types import BookingCost
from app.services.operation_types import NewRow
from app.services.payments import overview, refunds, store
from app.services.payments.gateway import ManualGateway
from app.services.payments.types import Payment, PaymentPolicy
from backend_environment import BackendEnvironment
from payments_environment import SLOW_TO_BOOK, SLOW_TO_PAY, PaymentsEnvironment, open_payments
from sqlalchemy import func, insert, select, update
from stakesim_adapter.razorpay_stand_in import RazorpayStandIn, Webhook

pytestmark = pytest.mark.slow

HOUR = timedelta(hours=1)


def number_of_operations(payments: PaymentsEnvironment) -> int:
    with payments.backend.database.autocommit() as connection:
        return int(connection.execute(select(func.count()).select_from(operations)).scalar_one())


@pytest.mark.in_turn
def test_a_quote_is_paid_and_used_once(payments: PaymentsEnvironment) -> None:
    run = payments.open_run()
    payment = payments.quote(run.id, 2)
    assert (payment.amount_inr, payment.state) == (Decimal("48000.00"), "created")
    assert (payment.frozen_wei, payment.stake_inr) == ((2 * 10**17, 4 * 10**16), Decimal("8000.00"))
    payments.backend.set_rate(400_000)  # the quote's rate is frozen
    payments.pay(payment)
    assert payments.get(payment).state == "captured"
    booking = payments.services.bookings.get(payments.book(payment, "user:key"))
    assert (booking.blockchain_status, booking.total_inr, booking.inr_per_eth) == ("confirmed", 48_000, 200_000)
    used = payments.get(payment)
    assert (used.state, used.operation_key, used.to_custody) == ("used", "user:key", False)
    assert payments.book(payment, "user:key") == booking.id
    with pytest.raises(PaymentUnusable, match="has paid for another request"):
        payments.book(payment, "user:other")
    assert number_of_operations(payments) == 2
    payments.check()


def test_a_run_is_created_at_the_quotes_rate(payments: PaymentsEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = payments.run_arguments()
    quote, payment = payments.services.runs.quote_stake(*arguments)
    assert payment is not None
    assert (payment.amount_inr, quote.stake_wei) == (Decimal("16000.00"), 8 * 10**16)
    assert (payment.frozen_wei, payment.stake_inr) == ((10**17, 8 * 10**16), Decimal("16000.00"))
    payments.pay(payment)
    payments.backend.set_rate(250_000)
    monkeypatch.delattr(BlockchainService, "calculate_required_stake")  # that of the quote is sent
    run = payments.services.runs.create(*arguments, quote_id=payment.id)
    assert payments.get(payment).to_custody is False
    assert (run.blockchain_price_per_seat_wei, run.inr_per_eth) == (10**17, 200_000)
    assert run.blockchain_stake_amount_wei == quote.stake_wei
    payments.check()


@pytest.mark.parametrize("is_paid", [False, True])
@pytest.mark.parametrize("wei", [0, 1, 10**17])
def test_what_costs_no_wei_takes_no_payment_and_one_wei_does(
    payments: PaymentsEnvironment, monkeypatch: pytest.MonkeyPatch, is_paid: bool, wei: int
) -> None:
    """Without payments nothing takes one."""
    backend, run, arguments = payments.backend, payments.open_run(), payments.run_arguments()
    services: Any = payments.services if is_paid else backend
    monkeypatch.setattr(backend.chain, "calculate_booking_cost", lambda *_: BookingCost(wei, 0, wei))
    monkeypatch.setattr(backend.chain, "calculate_required_stake", lambda *_: wei)
    for quote, quoted in (
        (services.bookings.quote_to_pay, (run.id, backend.ids["attendee"], 1)),
        (services.runs.quote_stake, arguments),
    ):
        if is_paid and wei == 1:
            with pytest.raises(PaymentTooSmall):
                quote(*quoted)
        else:
            cost, payment = quote(*quoted)
            assert wei in (cost.total_wei, cost.stake_wei)
            assert (payment is not None) == (is_paid and wei > 0)


def test_nothing_is_sent_for_what_is_not_paid(payments: PaymentsEnvironment) -> None:
    run, before = payments.open_run(), 1
    payment = payments.quote(run.id)
    bookings, user = payments.services.bookings, payment.user_id
    with pytest.raises(PaymentRequired):
        bookings.book(run.id, user, 1)
    with pytest.raises(PaymentRequired):
        payments.services.runs.create(*payments.run_arguments())
    with pytest.raises(NotPaid, match=r"24000\.00 INR are to be paid"):
        payments.book(payment)
    payments.stand_in.fail(payments.payments.order(payments.payments.get(payment.id)).order_id)
    payments.deliver()
    assert payments.get(payment).state == "failed"
    with pytest.raises(NotPaid):
        payments.book(payment)
    payments.pay(payment)  # the next attempt
    for other in (
        {"event_run_id": run.id, "user_id": user, "seats": 2},
        {"event_run_id": run.id, "user_id": payments.backend.ids["no_show"], "seats": 1},
        {"event_run_id": payments.open_run().id, "user_id": user, "seats": 1},
    ):
        with pytest.raises(PaymentUnusable, match="is for another request"):
            bookings.book(**other, quote_id=payment.id)
    with pytest.raises(NotFound):
        bookings.book(run.id, user, 1, quote_id=run.id)
    assert number_of_operations(payments) == before + 1
    attendee = payments.backend.wallets["attendee"]
    assert bookings.book(run.id, user, 1, signer=attendee).blockchain_status == "confirmed"  # pays on chain


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("reverse", [False, True])
def test_webhooks_come_in_any_order_and_twice(payments: PaymentsEnvironment, times: int, reverse: bool) -> None:
    payment = payments.quote(payments.open_run().id)
    order = payments.payments.order(payments.payments.get(payment.id)).order_id
    payments.stand_in.fail(order)
    payments.stand_in.pay(order)
    news = payments.stand_in.webhooks[-3:]
    assert [each.event for each in news] == ["payment.failed", "payment.captured", "order.paid"]
    payments.deliver(list(reversed(news) if reverse else news) * times)
    assert payments.get(payment).state == "captured"
    assert payments.number_of_payments() == 2
    payments.check()


def changed(webhook: Webhook, payments: PaymentsEnvironment, secret: str | None = None, **values: Any) -> Webhook:
    """Returns a webhook of another payment, signed with the secret."""
    event = json.loads(webhook.body)
    event["payload"]["payment"]["entity"] |= values
    return payments.stand_in.sign(event, secret)


def test_a_forged_webhook_has_no_effect(payments: PaymentsEnvironment) -> None:
    payment = payments.quote(payments.open_run().id)
    payments.stand_in.pay(payments.payments.order(payments.payments.get(payment.id)).order_id)
    genuine = payments.stand_in.webhooks[-1]
    for forged in (
        changed(genuine, payments, "another-secret"),
        changed(genuine, payments, payments.stand_in.key_secret),
        Webhook(genuine.body + b" ", genuine.headers),
        Webhook(genuine.body, {}),
        Webhook(genuine.body, {"X-Razorpay-Signature": "\xff"}),
        Webhook(genuine.body, {"X-Razorpay-Signature": genuine.headers["X-Razorpay-Signature"].upper()}),
    ):
        with pytest.raises(ForgedWebhook):
            payments.deliver([forged])
    assert payments.get(payment).state == "created"
    for body in (b"[]", b"{}", b"\xff", b'{"event": "payment.captured"}', b'{"event": "order.paid", "payload": 1}'):
        with pytest.raises(InvalidRequest):
            payments.deliver([signed(payments.stand_in, body)])
    payments.deliver([payments.stand_in.sign({"event": "subscription.charged", "payload": {}})])
    assert payments.get(payment).state == "created"


def signed(stand_in: RazorpayStandIn, body: bytes) -> Webhook:
    signature = hmac.new(stand_in.webhook_secret.encode(), body, hashlib.sha256).hexdigest()
    return Webhook(body, {"X-Razorpay-Signature": signature})


def test_another_amount_goes_back_and_does_not_pay(payments: PaymentsEnvironment) -> None:
    payment = payments.quote(payments.open_run().id)
    payments.pay(payment, amount=100)
    assert payments.get(payment).state == "created"
    payments.check()
    payments.pay(payment)
    payments.pay(payment)  # twice
    assert payments.get(payment).state == "captured"
    payments.check()
    payments.round()
    refunds = sorted(each["amount"] for each in payments.stand_in.refunds.values())
    assert refunds == [100, 2_400_000]
    payments.book(payment)
    payments.deliver()
    payments.check()


def test_another_currency_and_an_unknown_order_have_no_effect(
    payments: PaymentsEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    payment = payments.quote(payments.open_run().id)
    payments.pay(payment, currency="USD")
    assert "look at the gateway" in caplog.text
    webhook = payments.stand_in.webhooks[0]
    payments.deliver([changed(webhook, payments, order_id="order_of_somebody_else", id="pay_of_somebody_else")])
    payments.deliver([changed(webhook, payments, order_id=None, id="pay_without_order")])
    assert payments.get(payment).state == "created"
    assert payments.number_of_payments() == 2
    payments.round()
    assert payments.stand_in.refunds == {}


def test_what_is_paid_too_late_goes_back(payments: PaymentsEnvironment) -> None:
    payment = payments.quote(payments.open_run().id)
    order = payments.payments.order(payments.payments.get(payment.id)).order_id
    payments.age(payment, SLOW_TO_PAY)
    with pytest.raises(PaymentUnusable, match="can't be paid any more"):
        payments.payments.order(payments.payments.get(payment.id))
    payments.round()
    assert payments.get(payment).state == "expired"
    with pytest.raises(PaymentUnusable, match="not paid in time"):
        payments.book(payment)
    payments.stand_in.pay(order)
    payments.deliver()
    assert payments.get(payment).state == "captured"
    with pytest.raises(PaymentUnusable, match="must have been used"):
        payments.book(payment)
    payments.round()
    assert payments.get(payment).state == "refunded"
    refund = payments.payments.refund_of(payment.id)
    assert refund is not None
    assert (refund.cause, refund.state, refund.amount_inr) == ("late", "done", payment.amount_inr)
    payments.check()


def test_late_news_of_what_was_paid_in_time_count(payments: PaymentsEnvironment) -> None:
    """Also where the webhook is lost: before a payment expires, the gateway is asked."""
    run = payments.open_run()
    for told in (True, False):
        payment = payments.quote(run.id)
        payments.stand_in.clock = lambda: time.time() - SLOW_TO_PAY.total_seconds()
        payments.stand_in.pay(payments.payments.order(payments.payments.get(payment.id)).order_id)
        payments.age(payment, SLOW_TO_PAY)
        if told:
            payments.deliver(payments.stand_in.webhooks[-2:])
        payments.round()
        assert payments.get(payment).state == "captured"
        payments.book(payment)
    payments.check()


def test_what_is_not_used_in_time_goes_back(payments: PaymentsEnvironment) -> None:
    payment = payments.quote(payments.open_run().id)
    payments.pay(payment)
    payments.round()
    assert payments.get(payment).state == "captured"
    payments.age(payment, SLOW_TO_BOOK)
    with pytest.raises(PaymentUnusable, match="must have been used"):
        payments.book(payment)
    payments.round()
    payments.round()
    assert payments.get(payment).state == "refunded"
    with pytest.raises(PaymentUnusable, match="is refunded"):
        payments.book(payment)
    payments.check()


def refund_of(payments: PaymentsEnvironment, payment: Payment) -> tuple[str, str, Decimal] | None:
    refund = payments.payments.refund_of(payment.id)
    return refund and (refund.cause, refund.state, refund.amount_inr)


def test_an_operation_without_effect_gives_the_payment_back(payments: PaymentsEnvironment) -> None:
    run = payments.open_run(seats=1)
    first, second = payments.quote(run.id, user="attendee"), payments.quote(run.id, user="no_show")
    payments.pay(first)
    payments.pay(second)
    payments.book(first)
    with pytest.raises(ContractRejected, match="EventNotOpen"):
        payments.book(second, "user:too-late")
    payments.round()
    assert refund_of(payments, second) == ("no_effect", "done", second.amount_inr)
    assert refund_of(payments, first) is None
    for _ in range(3):
        payments.round()
        payments.deliver()
    payments.check()


def test_money_that_returns_to_custody_goes_back_and_a_wallets_does_not(payments: PaymentsEnvironment) -> None:
    run = payments.open_run()
    own, own_booking = payments.paid_booking(run.id, user="attendee")
    walletless, booking = payments.paid_booking(run.id, user="walletless")
    payments.round()
    assert payments.get(walletless).state == "used"
    payments.services.bookings.cancel(own_booking)
    payments.services.bookings.cancel(booking)
    payments.round()
    assert refund_of(payments, walletless) == ("cancelled", "done", walletless.amount_inr)
    assert (payments.get(own).state, payments.get(own).look_at) == ("used", None)  # the contract paid the wallet
    payments.check()


def test_a_walletless_host_and_attendee_get_their_stakes_back(payments: PaymentsEnvironment) -> None:
    run = payments.open_run("walletless")
    [hosts] = [payment for payment in payments.rows() if payment.purpose == "event_run"]
    came, booking = payments.paid_booking(run.id, user="walletless")
    stayed_away, _ = payments.paid_booking(run.id, user="walletless")
    payments.backend.go_to(run.starts_at)
    payments.services.runs.complete(run.id, [booking])
    payments.round()
    assert refund_of(payments, came) == ("stake_returned", "done", Decimal("4000.00"))
    assert refund_of(payments, hosts) == ("stake_returned", "done", Decimal("16000.00"))
    assert (refund_of(payments, stayed_away), payments.get(stayed_away).look_at) == (None, None)
    payments.check()


@pytest.mark.parametrize("is_booked", [False, True])
def test_an_expired_run_gives_the_hosts_stake_back_only_if_nobody_had_booked(
    payments: PaymentsEnvironment, is_booked: bool
) -> None:
    run = payments.open_run("walletless")
    [hosts] = payments.rows()
    booked = payments.paid_booking(run.id, user="walletless")[0] if is_booked else None
    payments.backend.go_to(run.starts_at + timedelta(days=7))
    payments.services.runs.expire(run.id)
    payments.round()
    assert refund_of(payments, hosts) == (None if is_booked else ("stake_returned", "done", hosts.amount_inr))
    if booked is not None:
        assert refund_of(payments, booked) == ("cancelled", "done", booked.amount_inr)
    payments.check()


@pytest.mark.parametrize("fails", [1, 2, 3, 4])
def test_a_refund_is_asked_for_until_the_gateway_has_it(payments: PaymentsEnvironment, fails: int) -> None:
    """Also where the gateway carries a request out and does not say so."""
    payment = payments.quote(payments.open_run().id)
    payments.pay(payment)
    payments.age(payment, SLOW_TO_BOOK)
    payments.stand_in.fails = fails
    problems = payments.round()
    assert problems
    assert "502" in problems[0]
    for _ in range(fails):
        payments.round()
    assert refund_of(payments, payment) == ("unused", "done", payment.amount_inr)
    assert len(payments.stand_in.refunds) == 1
    payments.check()


def test_two_requests_with_one_key_are_one_refund(payments: PaymentsEnvironment) -> None:
    """As after an answer that was lost, where the gateway does not show the refund yet."""
    payment = payments.quote(payments.open_run().id)
    payments.pay(payment)
    at_gateway = payments.get(payment).gateway_payment_id
    assert at_gateway is not None
    gateway = payments.payments.gateway
    first, again = (gateway.refund(at_gateway, Decimal(5), "one", is_repeated=False) for _ in range(2))
    assert first == again
    assert gateway.refund(at_gateway, Decimal(5), "other", is_repeated=False) != first
    assert len(payments.stand_in.refunds) == 2


def test_a_refund_is_done_when_the_gateway_has_carried_it_out(payments: PaymentsEnvironment) -> None:
    payment = payments.quote(payments.open_run().id)
    payments.pay(payment)
    payments.age(payment, SLOW_TO_BOOK)
    payments.stand_in.pending_refunds = True
    payments.round()
    assert (refund_of(payments, payment) or ("",))[1] == "requested"
    payments.stand_in.process_refund(next(iter(payments.stand_in.refunds)), "failed")
    payments.deliver()
    payments.deliver()
    assert (refund_of(payments, payment) or ("",))[1] == "due"
    payments.round()
    _, second = payments.stand_in.refunds
    payments.stand_in.process_refund(second)
    payments.round()  # asks; the webhook is lost
    assert payments.get(payment).state == "refunded"
    payments.deliver()
    payments.check()


def test_a_disputed_payment_is_neither_used_nor_given_back(payments: PaymentsEnvironment) -> None:
    run = payments.open_run()
    payment = payments.quote(run.id)
    payments.pay(payment)
    at_gateway = payments.get(payment).gateway_payment_id
    assert at_gateway is not None
    dispute = payments.stand_in.dispute(at_gateway)
    payments.deliver()
    with pytest.raises(PaymentUnusable, match="is disputed"):
        payments.book(payment)
    payments.age(payment, SLOW_TO_BOOK)
    payments.round()
    assert payments.get(payment).state == "captured"
    opened = payments.stand_in.webhooks[-1]
    payments.stand_in.dispute(at_gateway, "won", dispute)
    payments.deliver([payments.stand_in.webhooks[-1], opened])  # in the wrong order
    payments.round()
    assert payments.get(payment).state == "refunded"
    payments.check()


def test_a_charged_back_payment_is_not_given_back_as_well(payments: PaymentsEnvironment) -> None:
    run = payments.open_run()
    payment, booking = payments.paid_booking(run.id, user="walletless")
    at_gateway = payments.get(payment).gateway_payment_id
    assert at_gateway is not None
    payments.stand_in.dispute(at_gateway, "lost", payments.stand_in.dispute(at_gateway))
    payments.deliver()
    payments.services.bookings.cancel(booking)
    payments.round()
    charged_back = payments.get(payment)
    assert (charged_back.state, charged_back.dispute, charged_back.look_at) == ("used", "lost", None)
    assert payments.stand_in.refunds == {}


def test_a_charge_back_stops_a_refund_that_is_due(payments: PaymentsEnvironment) -> None:
    payment = payments.quote(payments.open_run().id)
    payments.pay(payment)
    payments.age(payment, SLOW_TO_BOOK)
    payments.stand_in.fails = 1
    payments.round()
    at_gateway = payments.get(payment).gateway_payment_id
    assert at_gateway is not None
    payments.stand_in.dispute(at_gateway, "lost")
    payments.deliver()
    payments.round()
    assert payments.stand_in.refunds == {}


def test_an_operator_records_payments_and_refunds_by_hand(backend: BackendEnvironment) -> None:
    payments = open_payments(backend, "", RazorpayStandIn(), gateway=ManualGateway())
    arguments = payments.run_arguments()
    payment = payments.services.runs.quote_stake(*arguments)[1]
    assert payment is not None
    service = payments.payments
    assert service.order(service.get(payment.id)).order_id == str(payment.id)
    with pytest.raises(NotPaid):
        payments.services.runs.create(*arguments, quote_id=payment.id)
    with pytest.raises(InvalidRequest, match=r"is of 16000\.00 INR, not of 1"):
        service.record_capture(payment.id, "UTR1", Decimal(1))
    for _ in range(2):
        assert service.record_capture(payment.id, "UTR1", payment.amount_inr).state == "captured"
    other = payments.services.runs.quote_stake(*arguments)[1]
    assert other is not None
    with pytest.raises(InvalidRequest, match="another payment's"):
        service.record_capture(other.id, "UTR1", other.amount_inr)
    with pytest.raises(InvalidRequest, match="under another reference"):
        service.record_capture(payment.id, "UTR2", payment.amount_inr)
    with pytest.raises(NotFound, match="No refund"):
        service.record_refund(payment.id, "UTR9")
    payments.age(payment, SLOW_TO_BOOK)
    payments.round()
    assert refund_of(payments, payment) == ("unused", "due", payment.amount_inr)
    for _ in range(2):
        assert service.record_refund(payment.id, "UTR9").state == "refunded"
    with pytest.raises(InvalidRequest, match="under another reference"):
        service.record_refund(payment.id, "UTR10")
    assert payments.number_of_payments() == 2


def test_a_gateway_that_does_not_answer_changes_nothing(payments: PaymentsEnvironment, capsys: Any) -> None:
    payment = payments.quote(payments.open_run().id)
    payments.stand_in.fails = 1_000
    with pytest.raises(GatewayUnavailable):
        payments.payments.order(payments.payments.get(payment.id))
    payments.stand_in.fails = 0
    order = payments.payments.order(payments.payments.get(payment.id))
    assert payments.payments.order(payments.payments.get(payment.id)) == order
    payments.stand_in.pay(order.order_id)
    payments.age(payment, SLOW_TO_PAY)
    payments.stand_in.fails = 1_000
    assert payments.round()
    assert payments.get(payment).state == "created"  # whether it is paid is not known
    payments.stand_in.key_secret = "changed"
    payments.stand_in.fails = 0
    assert "does not take the API key" in payments.round()[0]
    assert capsys.readouterr().out == ""


def test_what_the_gateway_refuses_is_said(payments: PaymentsEnvironment) -> None:
    payment = payments.quote(payments.open_run().id)
    payments.pay(payment)
    at_gateway = payments.get(payment).gateway_payment_id
    assert at_gateway is not None
    payments.stand_in.payments[at_gateway]["amount_refunded"] = 1
    payments.age(payment, SLOW_TO_BOOK)
    assert "greater than the refund payment amount" in payments.round()[0]
    refund = payments.payments.refund_of(payment.id)
    assert refund is not None
    assert refund.state == "due"
    assert refund.problem is not None
    with pytest.raises(GatewayRefused):
        payments.payments.gateway.captures("order_unknown")
    arguments = payments.run_arguments(seats=1, inr="0.5")
    with pytest.raises(InvalidRequest, match=r"takes 1\.00 or more"):
        payments.services.runs.quote_stake(*arguments)


def test_an_operator_makes_a_refund_that_the_gateway_does_not(payments: PaymentsEnvironment) -> None:
    """By hand, once; what the gateway has is its own."""
    first, second = (payments.quote(payments.open_run().id) for _ in range(2))
    for payment in (first, second):
        payments.pay(payment)
        payments.age(payment, SLOW_TO_BOOK)
    payments.stand_in.fails, payments.stand_in.pending_refunds = 10**6, True
    assert len(payments.round()) == 2
    [at_gateway] = payments.stand_in.refunds.values()  # one of the two was carried out, and nobody knows
    if payments.get(first).gateway_payment_id == at_gateway["payment_id"]:
        first, second = second, first
    with pytest.raises(GatewayUnavailable):
        payments.payments.record_refund(first.id, "UTR1")
    payments.stand_in.fails = 0
    assert payments.payments.record_refund(first.id, "UTR1").state == "refunded"
    for _ in range(2):
        with pytest.raises(InvalidRequest, match=r"has the refund|under another reference"):
            payments.payments.record_refund(second.id, "UTR2")
    assert refund_of(payments, second) == ("unused", "requested", second.amount_inr)
    assert payments.round() == []
    assert [*payments.stand_in.refunds.values()] == [at_gateway]
    with pytest.raises(NotFound, match="is open"):
        payments.payments.hurry_refund(first.id)


def test_a_refund_waits_longer_each_time_and_can_be_hurried(
    backend: BackendEnvironment, gateway_url: str, stand_in: RazorpayStandIn
) -> None:
    payments = open_payments(backend, gateway_url, stand_in, PaymentPolicy(look_every=timedelta(0)))
    payment = payments.quote(payments.open_run().id)
    payments.pay(payment)
    payments.age(payment, SLOW_TO_BOOK)
    stand_in.fails = 2
    assert payments.round()
    stand_in.fails = 0
    assert payments.round() == []
    assert refund_of(payments, payment) == ("unused", "due", payment.amount_inr)  # not asked again within a minute
    payments.payments.hurry_refund(payment.id)
    payments.round()
    assert refund_of(payments, payment) == ("unused", "done", payment.amount_inr)
    payments.check()


def test_what_operators_look_at(payments: PaymentsEnvironment) -> None:
    """Counts and lists have what is open, and end with it."""
    run = payments.open_run()
    waits, given_back, disputed, lost = (payments.quote(run.id) for _ in range(4))
    for payment in (waits, given_back, disputed, lost):
        payments.pay(payment)
    payments.age(given_back, SLOW_TO_BOOK)
    for payment, outcome in ((disputed, "created"), (lost, "lost")):
        at_gateway = payments.get(payment).gateway_payment_id
        assert at_gateway is not None
        payments.stand_in.dispute(at_gateway, outcome)
    payments.deliver(payments.stand_in.webhooks[-2:])
    payments.stand_in.pending_refunds = True

    def looked_at() -> tuple[object, ...]:
        with payments.backend.database.autocommit() as connection:
            refunds_by_state = {state: number for state, (number, _) in overview.open_refunds(connection).items()}
            counts = overview.waiting(connection), overview.disputed(connection), refunds_by_state
            listed = overview.list_open_refunds(connection, 9), overview.list_disputes(connection, 9)
        return *counts, [[row.id for row in rows] for rows in listed]

    payments.round()
    of_disputes = {"open": 1, "lost": 1}
    assert looked_at() == (3, of_disputes, {"requested": 1}, [[given_back.id], [disputed.id, lost.id]])
    payments.stand_in.process_refund(next(iter(payments.stand_in.refunds)))
    payments.round()
    assert looked_at() == (3, of_disputes, {}, [[], [disputed.id, lost.id]])
    payments.book(waits)
    assert looked_at()[0] == 2


def test_a_key_belongs_to_its_quote(payments: PaymentsEnvironment) -> None:
    run = payments.open_run()
    first, second = payments.quote(run.id), payments.quote(run.id)
    payments.pay(first)
    payments.pay(second)
    payments.book(first, "user:one")
    with pytest.raises(KeyReused):
        payments.book(second, "user:one")
    assert payments.get(second).state == "captured"


def test_a_payment_whose_row_changed_meanwhile_is_not_used(payments: PaymentsEnvironment) -> None:
    """The statement that uses it compares the row again, whatever the request saw before."""
    run = payments.open_run()
    disputed, used, old = (payments.quote(run.id) for _ in range(3))
    for payment in (disputed, used, old):
        payments.pay(payment)
    at_gateway = payments.get(disputed).gateway_payment_id
    assert at_gateway is not None
    payments.stand_in.dispute(at_gateway)
    payments.deliver()
    payments.age(old, SLOW_TO_BOOK)
    payments.book(used)
    for payment in (disputed, used, old):
        before, bookings = payments.get(payment), len(payments.services.bookings.list_all())
        values = {"event_run_id": run.id, "user_id": before.user_id, "seats": 1, "total_inr": 1}
        call = payments.services.chain.book_event_call(1, 1)
        row = NewRow(event_run_bookings, values, store.use_of(before.id, to_custody=False))
        draft = payments.services.sender.draft(call, None, row)
        with payments.backend.database.autocommit() as connection, pytest.raises(PaymentUnusable):
            operations_module.create(connection, "another", "", draft)
        assert payments.get(payment) == before
        assert len(payments.services.bookings.list_all()) == bookings


def test_a_payment_is_not_used_if_its_operation_is_not_stored(
    payments: PaymentsEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests with one key, and each with a quote of its own, at the same time."""
    run = payments.open_run()
    first, second = payments.quote(run.id), payments.quote(run.id)
    for payment in (first, second):
        payments.pay(payment)
    payments.book(first, "user:one")
    find = operations_module._find_same_request
    looks: list[Any] = []

    def find_too_early(*arguments: Any) -> Any:
        looks.append(arguments)
        return None if len(looks) == 1 else find(*arguments)

    monkeypatch.setattr(operations_module, "_find_same_request", find_too_early)
    with pytest.raises(KeyReused):
        payments.book(second, "user:one")
    assert len(looks) == 2
    assert payments.get(second).state == "captured"
    payments.check()


def test_nothing_goes_back_before_the_block_is_finalized(payments: PaymentsEnvironment) -> None:
    """A reorganisation may bring a cancelled booking back; INR that were returned do not come back."""
    run = payments.open_run()
    payment, booking = payments.paid_booking(run.id, user="walletless")
    payments.services.bookings.cancel(booking)
    cancelled_in = payments.backend.engine.w3.eth.block_number
    assert payments.payments.run_round(cancelled_in - 1) == []
    assert refund_of(payments, payment) is None
    payments.payments.run_round(cancelled_in)
    assert refund_of(payments, payment) == ("cancelled", "done", payment.amount_inr)


def test_a_reverted_operation_gives_back_only_once_it_is_finalized(payments: PaymentsEnvironment) -> None:
    run = payments.open_run()
    payment = payments.quote(run.id, user="walletless")
    payments.pay(payment)
    operation = payments.services.bookings.prepare_book(run.id, payment.user_id, 1, quote_id=payment.id)
    with payments.backend.database.transaction() as connection:  # as after a revert in block 1,000
        failed = {"state": "failed", "nonce": 999, "tx_hash": "0x1", "block_number": 1_000}
        connection.execute(update(operations).where(operations.c.key == operation.key).values(failed))
    payments.payments.run_round(999)
    assert refund_of(payments, payment) is None
    payments.payments.run_round(1_000)
    assert refund_of(payments, payment) == ("no_effect", "done", payment.amount_inr)


def test_a_payment_is_not_used_during_a_pause(payments: PaymentsEnvironment) -> None:
    payment = payments.quote(payments.open_run().id)
    payments.pay(payment)
    before, operations_before = payments.get(payment), number_of_operations(payments)
    with payments.backend.database.transaction() as connection:
        connection.execute(insert(pauses).values(paused_by="operator", reason="to look"))
    with pytest.raises(Paused):
        payments.book(payment)
    assert (payments.get(payment), payments.services.bookings.list_all()) == (before, [])
    assert number_of_operations(payments) == operations_before
    with payments.backend.database.transaction() as connection:
        connection.execute(update(pauses).values(ended_at=func.clock_timestamp(), ended_by="operator"))
    payments.book(payment)
    assert payments.get(payment).state == "used"


def test_two_rounds_at_once_ask_the_gateway_once(payments: PaymentsEnvironment) -> None:
    payment = payments.quote(payments.open_run().id)
    payments.pay(payment)
    payments.age(payment, SLOW_TO_BOOK)
    payments.stand_in.fails = 1
    payments.round()
    with payments.backend.database.autocommit() as connection:
        [(refund, at_gateway)] = refunds.next_refunds(connection, "razorpay")
    assert payments.payments._ask_for(refund, at_gateway) is None
    asked = len(payments.stand_in.webhooks)
    assert payments.payments._ask_for(refund, at_gateway) is None  # by an old copy
    assert len(payments.stand_in.webhooks) == asked
    with payments.backend.database.autocommit() as connection:
        assert not refunds.claim(connection, refund, HOUR)


def test_a_quote_of_too_little_or_too_much_is_refused_and_not_stored(payments: PaymentsEnvironment) -> None:
    run, before = payments.open_run(), payments.number_of_payments()
    with pytest.raises(PaymentTooSmall, match=r"0\.80 INR can't be paid: the gateway takes 1\.00 or more"):
        payments.services.runs.quote_stake(*payments.run_arguments(seats=1, inr="4.00"))
    with pytest.raises(InvalidRequest, match="that is too much"):  # more than the column holds
        payments.quote(run.id, 2**50)
    assert payments.number_of_payments() == before
