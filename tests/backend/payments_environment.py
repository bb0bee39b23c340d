"""A backend whose users pay at a stand-in for the gateway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.bootstrap.services import Services, build_services
from app.db.tables import EventRun, experiences, payments, refunds
from app.services.payments.gateway import PaymentGateway
from app.services.payments.razorpay import RazorpayGateway
from app.services.payments.service import PaymentService
from app.services.payments.types import Payment, PaymentPolicy
from app.services.pricing import Pricing
from backend_environment import DAY, BackendEnvironment
from pydantic import SecretStr
from sqlalchemy import func, insert, select, update
from stakesim_adapter.razorpay_stand_in import RazorpayStandIn, Webhook

AT_ONCE = PaymentPolicy(ask_every=timedelta(0), look_every=timedelta(0), request_ends_after=timedelta(0))
"""A policy with which each round asks again."""
SLOW_TO_PAY, SLOW_TO_BOOK = timedelta(minutes=20), timedelta(hours=3)
"""Ages at which a quote must have been paid, and a payment must have been used."""


@dataclass
class PaymentsEnvironment:
    """The services with payments, and the gateway's stand-in."""

    backend: BackendEnvironment
    services: Services
    stand_in: RazorpayStandIn

    @property
    def payments(self) -> PaymentService:
        assert self.services.payments is not None
        return self.services.payments

    # ------------------------------------------------------------------------------------------------- what people do

    def deliver(self, webhooks: Sequence[Webhook] | None = None) -> None:
        """Delivers webhooks; all that there are if None."""
        for webhook in self.stand_in.webhooks if webhooks is None else webhooks:
            headers = {name.lower(): value for name, value in webhook.headers.items()}
            self.payments.receive_webhook(webhook.body, headers)

    def pay(self, payment: Payment, **options: Any) -> None:
        """Pays a quote, and delivers the webhooks of that."""
        payment = self.get(payment)
        order_id = payment.gateway_order_id or self.payments.order(payment).order_id
        already = len(self.stand_in.webhooks)
        self.stand_in.pay(order_id, **options)
        self.deliver(self.stand_in.webhooks[already:])

    def run_arguments(self, host: str = "host", seats: int = 4, inr: str = "20000") -> tuple[Any, ...]:
        with self.backend.database.transaction() as connection:
            row = {"host_id": self.backend.ids[host], "title": "Pottery"}
            experience = connection.execute(insert(experiences).returning(experiences.c.id), row).scalar_one()
        return self.backend.ids[host], experience, self.backend.now() + 3 * DAY, seats, Decimal(inr)

    def open_run(self, host: str = "host", seats: int = 4) -> EventRun:
        """A run whose host has paid the stake."""
        arguments = self.run_arguments(host, seats)
        payment = self.services.runs.quote_stake(*arguments)[1]
        assert payment is not None
        self.pay(payment)
        return self.services.runs.create(*arguments, quote_id=payment.id)

    def quote(self, run: UUID, seats: int = 1, user: str = "attendee") -> Payment:
        payment = self.services.bookings.quote_to_pay(run, self.backend.ids[user], seats)[1]
        assert payment is not None
        return payment

    def book(self, payment: Payment, key: str | None = None) -> UUID:
        """Books what was quoted. Returns the booking's id."""
        run, seats = UUID(payment.quoted["event_run_id"]), payment.quoted["seats"]
        return self.services.bookings.book(run, payment.user_id, seats, idempotency_key=key, quote_id=payment.id).id

    def paid_booking(self, run: UUID, seats: int = 1, user: str = "attendee") -> tuple[Payment, UUID]:
        payment = self.quote(run, seats, user)
        self.pay(payment)
        return payment, self.book(payment)

    # ---------------------------------------------------------------------------------------------- what becomes of it

    def round(self) -> list[str]:
        """Mines blocks until all before are finalized, and runs a round."""
        for _ in range(4):
            self.backend.engine.mine()
        report = self.services.reconciler.run_once(timedelta(0))
        assert report.failure is None
        return report.problems

    def get(self, payment: Payment) -> Payment:
        return self.payments.get(payment.id)

    def age(self, payment: Payment, by: timedelta) -> None:
        """Lets a payment be so much older."""
        with self.backend.database.transaction() as connection:
            times = {name: payments.c[name] - by for name in ("created_at", "expires_at", "usable_until", "paid_at")}
            connection.execute(update(payments).where(payments.c.id == payment.id).values(times))

    def number_of_payments(self) -> int:
        with self.backend.database.autocommit() as connection:
            return int(connection.execute(select(func.count()).select_from(payments)).scalar_one())

    def rows(self) -> list[Payment]:
        with self.backend.database.autocommit() as connection:
            return [Payment(*row) for row in connection.execute(select(payments).order_by(payments.c.created_at))]

    def check(self) -> None:
        check_books(self)


def check_books(environment: PaymentsEnvironment) -> None:
    """INV-21: the gateway's money is in rows, to the paisa, and each captured payment is used, refunded, or waits."""
    stand_in = environment.stand_in
    with environment.backend.database.transaction() as connection:
        rows = [Payment(*row) for row in connection.execute(select(payments))]
        owed = {row.payment_id: row for row in connection.execute(select(refunds))}
        operations = dict(connection.exec_driver_sql("SELECT key, state::text FROM operations").all())
        sent = set(connection.exec_driver_sql("SELECT key FROM operations WHERE value_wei > 0").scalars())
    captured = {row.gateway_payment_id: row for row in rows if row.gateway_payment_id is not None}
    at_gateway = {each["id"]: each for each in stand_in.payments.values() if each["captured"]}
    assert {key: int(row.amount_inr * 100) for key, row in captured.items()} == {
        key: each["amount"] for key, each in at_gateway.items() if each["currency"] == "INR"
    }
    used = [row.operation_key for row in rows if row.operation_key is not None]
    assert len(used) == len(set(used))
    assert set(used) == sent & set(operations)  # each operation that sends wei has its payment
    for row in rows:
        assert (row.id in owed) == (row.state in ("refunding", "refunded")), row
        if row.state in ("created", "failed", "expired"):
            assert row.gateway_payment_id is None
            assert row.operation_key is None
        if row.id in owed:
            assert 0 < owed[row.id].amount_inr <= row.amount_inr
            assert row.operation_key is None or operations[row.operation_key] in ("confirmed", "failed", "rejected")
    done = {row.gateway_refund_id: row for row in owed.values() if row.state == "done"}
    at_gateway_done = {each["id"]: each for each in stand_in.refunds.values() if each["status"] == "processed"}
    assert set(done) <= set(at_gateway_done)
    assert all(int(row.amount_inr * 100) == at_gateway_done[key]["amount"] for key, row in done.items())
    for key, each in at_gateway.items():
        given_back = [r for r in stand_in.refunds.values() if r["payment_id"] == key and r["status"] != "failed"]
        assert len(given_back) <= 1, "given back twice"
        assert sum(r["amount"] for r in given_back) == each["amount_refunded"] <= each["amount"]
        assert not given_back or captured[key].state in ("refunding", "refunded")


def open_payments(
    backend: BackendEnvironment,
    url: str,
    stand_in: RazorpayStandIn,
    policy: PaymentPolicy = AT_ONCE,
    gateway: PaymentGateway | None = None,
) -> PaymentsEnvironment:
    """The services on a backend, with payments at a gateway; at the stand-in if None."""
    secrets = SecretStr(stand_in.key_secret), SecretStr(stand_in.webhook_secret)
    sealer = backend.chain.sender.sealer
    service = PaymentService(
        backend.database, gateway or RazorpayGateway(stand_in.key_id, *secrets, url), sealer, policy
    )
    pricing = Pricing(backend.feed, backend.now)
    services = build_services(
        backend.engine.w3, backend.database, backend.chain, pricing, finality_blocks=1, payments=service
    )
    return PaymentsEnvironment(backend, services, stand_in)
