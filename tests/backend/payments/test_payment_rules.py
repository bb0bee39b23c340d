"""Amounts, times and messages of the payment service, at a gateway that does what a test says."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from app.core.errors import GatewayUnavailable, InvalidRequest, NotFound, NotPaid, PaymentTooSmall, PaymentUnusable
from app.db.database import Database
from app.db.tables import PAYMENT_STATES, payments, refunds, users
from app.services.payments import service as service_module
from app.services.payments.gateway import Capture, DisputeNews, ManualGateway, Order, RefundNews
from app.services.payments.service import PaymentService
from app.services.payments.types import Amounts, Payment, PaymentPolicy, paise
from app.services.transactions.limits import Sealer
from payments_environment import PaymentsEnvironment
from sqlalchemy import Connection, insert, update

AMOUNTS = Amounts(Decimal(200_000), 10**17, 2 * 10**16, Decimal("4000.00"), Decimal("24000.00"))
POLICY = PaymentPolicy(quote_for=timedelta(minutes=7), use_within=timedelta(hours=3))
PAID_AT = datetime(2026, 1, 1, tzinfo=UTC)


class Gateway(ManualGateway):
    """A gateway that does not answer, and what it was asked."""

    name = "razorpay"

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def refund(self, payment_id: str, amount_inr: Decimal, key: str, *, is_repeated: bool) -> Any:
        self.asked.append((payment_id, amount_inr, key, is_repeated))
        raise GatewayUnavailable("no answer")


@pytest.fixture
def service(database: Database) -> PaymentService:
    return PaymentService(database, Gateway(), Sealer("0xA", [b"key of the platform"]), POLICY)


@pytest.fixture
def user(database: Database) -> UUID:
    with database.transaction() as connection:
        statement = insert(users).values(name="attendee").returning(users.c.id)
        return UUID(str(connection.execute(statement).scalar_one()))


def quote(service: PaymentService, user: UUID, amount: str = "24000.00") -> Payment:
    return service.quote(user, "booking", {"seats": 1}, AMOUNTS._replace(amount_inr=Decimal(amount)))


def test_a_quote_is_stored_as_it_was_made_for_the_times_of_the_policy(service: PaymentService, user: UUID) -> None:
    payment = quote(service, user)
    assert service.get(payment.id) == payment
    assert (payment.user_id, payment.purpose, payment.quoted) == (user, "booking", {"seats": 1})
    assert (payment.inr_per_eth, payment.price_wei, payment.stake_wei) == AMOUNTS[:3]
    assert (payment.stake_inr, payment.amount_inr, payment.rate, payment.frozen_wei) == (
        *AMOUNTS[3:],
        Decimal(200_000),
        (10**17, 2 * 10**16),
    )
    assert abs(payment.expires_at - payment.created_at - POLICY.quote_for) < timedelta(seconds=30)
    assert abs(payment.usable_until - payment.expires_at - POLICY.use_within) < timedelta(seconds=30)
    with pytest.raises(NotFound, match="There is no user"):
        quote(service, uuid4())


@pytest.mark.parametrize(
    ("amount", "error"),
    [
        ("0.99", PaymentTooSmall),
        ("1.00", None),
        ("999999999999999999.99", None),
        ("1000000000000000000.00", InvalidRequest),
    ],
)
def test_amounts_that_can_be_paid(
    service: PaymentService, user: UUID, amount: str, error: type[Exception] | None
) -> None:
    if error is None:
        assert service.get(quote(service, user, amount).id).amount_inr == Decimal(amount)
    else:
        with pytest.raises(error, match=f"^{amount} INR can't be paid"):
            quote(service, user, amount)


def captured(service: PaymentService, payment: Payment, **values: Any) -> None:
    news = Capture(f"order of {payment.id}", "pay_1", payment.amount_inr, "INR", PAID_AT)
    service.receive(replace(news, **values))


def with_order(database: Database, payment: Payment) -> Payment:
    with database.transaction() as connection:
        order = {"gateway_order_id": f"order of {payment.id}"}
        connection.execute(update(payments).where(payments.c.id == payment.id).values(order))
    return payment


@pytest.mark.parametrize(
    ("values", "level", "message"),
    [
        ({}, None, ""),
        ({"amount": Decimal("0.01")}, logging.ERROR, "got 0.01 INR that it did not ask for: they go back"),
        ({"amount": Decimal(0)}, logging.ERROR, "was paid with 0 INR: look at the gateway"),
        ({"amount": Decimal(-1)}, logging.ERROR, "was paid with -1 INR: look at the gateway"),
        ({"currency": "USD"}, logging.ERROR, "was paid with 24000.00 USD: look at the gateway"),
        ({"order_id": "another"}, logging.WARNING, "order another is not one of this service"),
    ],
)
def test_what_is_said_about_a_capture(
    service: PaymentService,
    user: UUID,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    values: dict[str, Any],
    level: int | None,
    message: str,
) -> None:
    payment = with_order(database, quote(service, user))
    for _ in range(2):  # news that come again say nothing
        captured(service, payment, **values)
    said = [(record.levelno, record.getMessage()) for record in caplog.records if record.name.startswith("app.")]
    is_stored = not values or values.get("amount") == Decimal("0.01")
    if level is None:
        assert said == []
        assert service.get(payment.id).state == "captured"
        return
    assert len(said) == (1 if is_stored else 2)
    assert {one for one, _ in said} == {level}
    assert all(text.endswith(message) for _, text in said)
    assert service.get(payment.id) == replace(payment, gateway_order_id=f"order of {payment.id}")


def wait_after(service: PaymentService, database: Database, payment: Payment, tries: int) -> timedelta:
    """The time until the gateway is asked again about a refund, after so many tries and one more."""
    with database.transaction() as connection:
        paid = {"state": "refunding", "gateway_payment_id": str(payment.id)}
        connection.execute(update(payments).where(payments.c.id == payment.id).values(paid))
        owed = {"payment_id": payment.id, "amount_inr": 1, "cause": "unused", "tries": tries}
        connection.execute(insert(refunds).values(owed))
    assert service.run_round(1) == [f"refund of payment {payment.id}: no answer"]
    refund = service.refund_of(payment.id)
    assert refund is not None
    assert refund.next_at is not None
    assert (refund.tries, refund.problem, refund.state) == (tries + 1, "no answer", "due")
    assert isinstance(service.gateway, Gateway)
    # it has to search for the refund from the second time on
    assert service.gateway.asked.pop() == (str(payment.id), Decimal(1), refund.key, tries > 0)
    assert service.run_round(1) == []
    assert service.gateway.asked == []
    return refund.next_at - refund.updated_at


@pytest.mark.parametrize(
    ("policy", "minutes"),
    [
        (POLICY, {0: 1, 1: 2, 2: 4, 5: 32, 6: 60, 16: 60, 17: 60, 2_000_000_000: 60}),
        (PaymentPolicy(ask_every=timedelta(seconds=1), ask_at_most=timedelta(days=1)), {15: 546, 16: 1_092, 30: 1_092}),
    ],
    ids=["up to an hour", "up to a day"],
)
def test_the_time_until_a_refund_is_asked_for_again_doubles(
    service: PaymentService, user: UUID, database: Database, policy: PaymentPolicy, minutes: dict[int, int]
) -> None:
    service.policy = policy
    for tries, expected in minutes.items():
        wait = wait_after(service, database, quote(service, user), tries)
        assert abs(wait - timedelta(minutes=expected)) < timedelta(seconds=30), tries


def test_a_run_without_a_price_takes_no_payment(payments: PaymentsEnvironment) -> None:
    quote, payment = payments.services.runs.quote_stake(*payments.run_arguments(inr="0"))
    assert (quote.stake_wei, payment) == (0, None)


def test_a_run_without_a_time_zone_is_not_quoted(payments: PaymentsEnvironment) -> None:
    host, experience, start, *terms = payments.run_arguments()
    with pytest.raises(InvalidRequest, match="time zone"):
        payments.services.runs.quote_stake(host, experience, start.replace(tzinfo=None), *terms)


def test_a_runs_quote_is_for_a_start_in_whole_seconds(payments: PaymentsEnvironment) -> None:
    host, experience, start, seats, price = payments.run_arguments()
    start = start.replace(microsecond=0)
    almost = start + timedelta(milliseconds=999)
    payment = payments.services.runs.quote_stake(host, experience, almost, seats, price)[1]
    assert payment is not None
    quoted = {"starts_at": start.isoformat(), "max_seats": 4, "price_inr": "20000.00"}
    assert payment.quoted == quoted | {"experience_id": str(experience)}
    payments.pay(payment)
    run = payments.services.runs.create(host, experience, start, seats, price, quote_id=payment.id)
    assert run.starts_at == start


def blocks_somebody(connection: Connection) -> bool:
    """Whether a statement waits for a row that this transaction has changed."""
    blocked = "SELECT count(*) FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    return bool(connection.exec_driver_sql(blocked).scalar_one())


def test_a_payment_that_is_disputed_meanwhile_does_not_go_back(
    service: PaymentService, user: UUID, database: Database
) -> None:
    """The statement looks at the row again once it has its lock, whatever it saw before."""
    payment = quote(service, user)
    with database.transaction() as connection:
        paid = {"state": "captured", "gateway_payment_id": "pay_1", "usable_until": PAID_AT}
        connection.execute(update(payments).where(payments.c.id == payment.id).values(paid))
    problems: list[str] = []
    round_of_another = threading.Thread(target=lambda: problems.extend(service.run_round(1)))
    with database.transaction() as connection:
        connection.execute(update(payments).where(payments.c.id == payment.id).values(dispute="open"))
        round_of_another.start()
        while not blocks_somebody(connection) and round_of_another.is_alive():
            time.sleep(0.01)
    round_of_another.join()
    assert problems == []
    assert (service.get(payment.id).state, service.refund_of(payment.id)) == ("captured", None)


def set_row(database: Database, payment: Payment, **values: Any) -> None:
    with database.transaction() as connection:
        connection.execute(update(payments).where(payments.c.id == payment.id).values(values))


@pytest.mark.parametrize("state", PAYMENT_STATES)
def test_in_which_states_a_quote_can_be_paid(
    service: PaymentService, user: UUID, database: Database, state: str
) -> None:
    payment = quote(service, user)
    at_gateway = None if state in ("created", "failed", "expired") else "pay_1"
    used_for = "key" if state == "used" else None
    set_row(database, payment, state=state, gateway_payment_id=at_gateway, operation_key=used_for)
    if state in ("created", "failed"):
        set_row(database, payment, gateway_order_id="order_1")
        assert service.order(service.get(payment.id)) == Order("order_1")
    else:
        with pytest.raises(PaymentUnusable, match=f"can't be paid any more: it is {state}"):
            service.order(service.get(payment.id))


@pytest.mark.parametrize("state", PAYMENT_STATES)
def test_only_a_captured_payment_pays_for_a_request(
    service: PaymentService, user: UUID, database: Database, state: str
) -> None:
    payment = quote(service, user)
    with_order(database, payment)
    if state not in ("created", "failed", "expired"):
        captured(service, payment)
    set_row(database, payment, state=state, operation_key="key" if state == "used" else None)
    if state == "captured":
        assert service.payment_for(payment.id, user, "booking", {"seats": 1}) == service.get(payment.id)
    else:
        with pytest.raises(NotPaid if state in ("created", "failed") else PaymentUnusable):
            service.payment_for(payment.id, user, "booking", {"seats": 1})


def test_a_quote_can_be_paid_until_the_very_moment_at_which_it_expires(
    service: PaymentService, user: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = quote(service, user)
    now = [payment.expires_at - timedelta(microseconds=1)]
    monkeypatch.setattr(service_module, "datetime", SimpleNamespace(now=lambda zone: now[0]))
    assert service.order(service.get(payment.id)) == Order(str(payment.id))
    now[0] = payment.expires_at
    with pytest.raises(PaymentUnusable, match="can't be paid any more"):
        service.order(service.get(payment.id))


@pytest.mark.parametrize(
    ("meanwhile", "order"), [({"gateway_order_id": "order_of_another_request"}, "order_of_another_request"), ({}, None)]
)
def test_what_changed_while_the_gateway_made_an_order_counts(
    service: PaymentService,
    user: UUID,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: dict[str, Any],
    order: str | None,
) -> None:
    payment = quote(service, user)

    def create_order(payment_id: UUID, amount_inr: Decimal) -> Order:
        assert (payment_id, amount_inr) == (payment.id, payment.amount_inr)
        set_row(database, payment, **(meanwhile or {"state": "expired"}))
        return Order("order_that_nobody_sees")

    monkeypatch.setattr(service.gateway, "create_order", create_order)
    if order is not None:
        assert service.order(service.get(payment.id)) == Order(order)
        return
    with pytest.raises(PaymentUnusable, match="can't be paid any more: it is expired"):
        service.order(service.get(payment.id))


@pytest.mark.parametrize("outcome", ["open", "won", "lost"])
def test_a_dispute_is_an_error_in_the_log_unless_it_is_won(
    service: PaymentService, user: UUID, database: Database, caplog: pytest.LogCaptureFixture, outcome: Any
) -> None:
    set_row(database, quote(service, user), state="captured", gateway_payment_id="pay_1")
    for payment_id in ("pay_1", "pay_of_another_service"):
        service.receive(DisputeNews(payment_id, "dispute_1", outcome))
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert said == ([] if outcome == "won" else [f"payment pay_1, which is captured, is disputed: {outcome}"])


@pytest.mark.parametrize(("gateway", "of_service"), [("razorpay", "manual"), ("manual", "razorpay")])
def test_only_what_is_paid_by_hand_is_recorded_by_hand(
    service: PaymentService, user: UUID, database: Database, gateway: str, of_service: str
) -> None:
    service.gateway.name = of_service
    payment = quote(service, user)
    set_row(database, payment, gateway=gateway)
    with pytest.raises(NotFound, match="is not one that an operator records"):
        service.record_capture(payment.id, "UTR1", payment.amount_inr)
    service.gateway.name = "manual"
    set_row(database, payment, gateway="manual")
    assert service.record_capture(payment.id, "UTR1", payment.amount_inr, PAID_AT).paid_at == PAID_AT


class Searched(Gateway):
    """A gateway that is searched for refunds, and has one with this outcome, or none."""

    def __init__(self, outcome: Any) -> None:
        super().__init__()
        self.outcome = outcome

    def find_refund(self, payment_id: str, key: str) -> RefundNews | None:
        self.asked.append((payment_id, key))
        return self.outcome and RefundNews("refund_1", self.outcome)


@pytest.mark.parametrize(
    ("gateway", "state", "outcome", "after"),
    [
        ("razorpay", "due", None, ("done", "UTR1")),
        ("razorpay", "due", "pending", ("requested", "refund_1")),
        ("razorpay", "due", "done", ("done", "refund_1")),
        ("razorpay", "due", "failed", ("due", None)),
        ("manual", "due", "pending", ("done", "UTR1")),  # of a gateway that is not in use any more
        ("razorpay", "requested", "pending", ("requested", "refund_0")),
    ],
)
def test_a_refund_is_recorded_by_hand_if_the_gateway_has_none(
    service: PaymentService, user: UUID, database: Database, gateway: str, state: str, outcome: Any, after: Any
) -> None:
    service.gateway = Searched(outcome)
    payment = quote(service, user)
    set_row(database, payment, state="refunding", gateway=gateway, gateway_payment_id="pay_1")
    owed = {"payment_id": payment.id, "amount_inr": 1, "cause": "unused", "state": state}
    with database.transaction() as connection:
        connection.execute(insert(refunds).values(owed | {"gateway_refund_id": None if state == "due" else "refund_0"}))
    refund = service.refund_of(payment.id)
    assert refund is not None
    if after == ("done", "UTR1"):
        assert service.record_refund(payment.id, "UTR1").state == "refunded"
    else:
        with pytest.raises(InvalidRequest, match=r"has the refund of payment .*, as refund_1|under another reference"):
            service.record_refund(payment.id, "UTR1")
    assert service.gateway.asked == ([("pay_1", refund.key)] if (gateway, state) == ("razorpay", "due") else [])
    stored = service.refund_of(payment.id)
    assert stored is not None
    assert (stored.state, stored.gateway_refund_id) == after


def test_a_refund_that_is_being_asked_for_is_not_recorded_by_hand(
    service: PaymentService, user: UUID, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.gateway = Searched(None)
    payment = quote(service, user)
    set_row(database, payment, state="refunding", gateway_payment_id="pay_1")
    with database.transaction() as connection:
        connection.execute(insert(refunds).values(payment_id=payment.id, amount_inr=1, cause="unused"))
    refund = service.refund_of(payment.id)
    assert refund is not None
    monkeypatch.setattr(service, "refund_of", lambda payment_id: replace(refund, tries=refund.tries - 1))
    with pytest.raises(InvalidRequest, match="is being asked for the refund"):
        service.record_refund(payment.id, "UTR1")
    assert service.gateway.asked == []


def test_only_a_payment_that_there_is_can_be_hurried(service: PaymentService, user: UUID) -> None:
    with pytest.raises(NotFound, match="There is no payment"):
        service.hurry_refund(uuid4())
    with pytest.raises(NotFound, match=r"No refund of payment .* is open"):
        service.hurry_refund(quote(service, user).id)


def test_an_order_of_which_there_is_none_is_not_asked_about(
    service: PaymentService, user: UUID, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    without, with_one = quote(service, user), quote(service, user)
    set_row(database, without, expires_at=PAID_AT)
    set_row(database, with_one, expires_at=PAID_AT, gateway_order_id="order_1")
    asked: list[str] = []
    monkeypatch.setattr(service.gateway, "captures", lambda order_id: asked.append(order_id) or [])
    assert service.run_round(1) == []
    assert asked == ["order_1"]
    assert [service.get(payment.id).state for payment in (without, with_one)] == ["expired", "expired"]


def test_times_of_the_default_policy(database: Database) -> None:
    minutes = {"quote_for": 15, "use_within": 60, "look_every": 5, "ask_every": 1, "ask_at_most": 60}
    expected = PaymentPolicy(**{name: timedelta(minutes=each) for name, each in minutes.items()})
    assert PaymentService(database, ManualGateway(), Sealer("0xA", [b"key"])).policy == expected


def test_the_manual_gateway_does_nothing() -> None:
    gateway = ManualGateway()
    assert (gateway.captures("order"), gateway.find_refund("pay", "key")) == ([], None)
    assert gateway.refund("pay", Decimal(1), "key", is_repeated=True) is None
    assert gateway.refund_outcome("refund") == "done"
    with pytest.raises(NotFound, match="There are no webhooks"):
        gateway.read_webhook(b"", {})


@pytest.mark.parametrize(
    ("inr", "expected"), [("1", 100), ("1.01", 101), ("1E+2", 10_000), ("1.010", 101), ("1.001", None)]
)
def test_an_amount_is_whole_paise(inr: str, expected: int | None) -> None:
    if expected is not None:
        assert paise(Decimal(inr)) == expected
        return
    with pytest.raises(ValueError, match=f"^{inr} INR are no whole paise"):
        paise(Decimal(inr))
