"""Statements of payments find their rows by an index, however many payments there are."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import pytest
from app.bootstrap.services import build_services
from app.core.errors import NotFound
from app.db.tables import payments as table
from app.services.payments import overview
from app.services.payments.gateway import ManualGateway
from app.services.payments.razorpay import RazorpayGateway
from app.services.payments.service import PaymentService
from fault_environment import FaultEnvironment
from payments_environment import AT_ONCE, SLOW_TO_BOOK
from pydantic import SecretStr
from sqlalchemy import update
from stakesim_adapter.razorpay_stand_in import RazorpayStandIn, serve_stand_in
from test_faults_49 import fill, recorded, scanned_tables

pytestmark = pytest.mark.slow


def use_payments(environment: FaultEnvironment, url: str, stand_in: RazorpayStandIn) -> None:
    """Quotes, payments, bookings, refunds and disputes of all kinds, and rounds."""
    run, attendee = environment.open_run(), environment.ids["attendee"]
    secrets = SecretStr(stand_in.key_secret), SecretStr(stand_in.webhook_secret)
    sealer = environment.services.sender.sealer
    service = PaymentService(environment.database, RazorpayGateway(stand_in.key_id, *secrets, url), sealer, AT_ONCE)
    chain, pricing = environment.services.chain, environment.services.pricing
    services = build_services(environment.w3, environment.database, chain, pricing, payments=service)
    environment.opened.append(services)

    def deliver() -> None:
        for webhook in stand_in.webhooks:
            service.receive_webhook(webhook.body, {name.lower(): value for name, value in webhook.headers.items()})

    paid, quoted = list[str](), list[UUID]()
    for _ in range(3):
        payment = services.bookings.quote_to_pay(run, attendee, 1)[1]
        assert payment is not None
        quoted.append(payment.id)
        stand_in.fail(service.order(service.get(payment.id)).order_id)
        deliver()
        paid.append(service.order(service.get(payment.id)).order_id)
        stand_in.pay(paid[-1])
        deliver()
        if len(paid) == 1:
            operation = services.bookings.prepare_book(run, attendee, 1, quote_id=payment.id)
            environment.settle(operation)
    stand_in.pay(paid[-1])
    stand_in.dispute(next(iter(stand_in.payments)))
    deliver()
    unpaid = services.bookings.quote_to_pay(run, attendee, 1)[1]
    assert unpaid is not None
    service.order(service.get(unpaid.id))
    age = {name: table.c[name] - SLOW_TO_BOOK for name in ("expires_at", "usable_until")}
    with environment.database.transaction() as connection:
        connection.execute(update(table).where(table.c.id.in_([*quoted, unpaid.id])).values(age))
    for stand_in.pending_refunds, stand_in.fails in ((True, 1), (True, 0), (False, 0), (False, 0)):
        service.run_round(environment.w3.eth.block_number)
        services.reconciler.run_once(timedelta(0))
        for refund in list(stand_in.refunds):
            stand_in.process_refund(refund, "processed" if stand_in.pending_refunds else "failed")
        deliver()
    with environment.database.autocommit() as connection:
        for look in (overview.open_refunds, overview.disputed, overview.waiting):
            look(connection)
        for show in (overview.list_open_refunds, overview.list_disputes):
            show(connection, 10)
    with suppress(NotFound):
        service.hurry_refund(quoted[1])
    by_hand = PaymentService(environment.database, ManualGateway(), environment.services.sender.sealer, AT_ONCE)
    assert by_hand.get(unpaid.id).state == "expired"


def test_every_statement_of_payments_finds_its_rows_by_index(environment: FaultEnvironment) -> None:
    fill(environment.database, environment.ids, environment.w3.eth.chain_id, environment.address)
    stand_in = RazorpayStandIn()
    with serve_stand_in(stand_in) as url, recorded(environment.database) as statements:
        use_payments(environment, url, stand_in)
    of_payments = {sql: one for sql, one in statements.items() if "payments" in sql or "refunds" in sql}
    assert len(of_payments) > 18
    scanning = {
        sql: found for sql, one in of_payments.items() if (found := scanned_tables(environment.database, sql, one))
    }
    assert scanning == {}, "\n\n".join(f"{found}: {sql}" for sql, found in scanning.items())
