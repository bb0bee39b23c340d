"""An operator records a refund by hand only while nobody may be asking the gateway for it: it is made once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from app.core.errors import AppError, InvalidRequest
from app.services.payments import refunds
from app.services.payments.types import Payment, PaymentPolicy
from backend_environment import BackendEnvironment
from payments_environment import SLOW_TO_BOOK, PaymentsEnvironment, open_payments
from stakesim_adapter.razorpay_stand_in import RazorpayStandIn

IS_ASKED = "The gateway is being asked for the refund: look at it again in a minute."


@pytest.fixture
def payments(backend: BackendEnvironment, gateway_url: str, stand_in: RazorpayStandIn) -> PaymentsEnvironment:
    return open_payments(backend, gateway_url, stand_in, PaymentPolicy())


@pytest.fixture
def unused(payments: PaymentsEnvironment) -> Payment:
    """A payment that was not used in time, so that it goes back."""
    payment = payments.quote(payments.open_run().id)
    payments.pay(payment)
    payments.age(payment, SLOW_TO_BOOK)
    return payment


def _paused(gateway: Any, method: str, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> None:
    """Does something before a request reaches the gateway."""
    real = getattr(gateway, method)

    def delayed(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(gateway, method, real)
        worker = threading.Thread(target=meanwhile)
        worker.start()
        worker.join(60)
        return real(*args, **options)

    monkeypatch.setattr(gateway, method, delayed)


def _record(payments: PaymentsEnvironment, payment: Payment) -> str | None:
    try:
        payments.payments.record_refund(payment.id, "UTR1")
    except AppError as error:
        return error.message
    return None


@pytest.mark.parametrize("hurried", [False, True])
def test_not_while_a_request_is_on_its_way(
    payments: PaymentsEnvironment, unused: Payment, hurried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str | None] = []

    def meanwhile() -> None:
        if hurried:
            payments.payments.hurry_refund(unused.id)
        said.append(_record(payments, unused))

    _paused(payments.payments.gateway, "refund", monkeypatch, meanwhile)
    assert payments.round() == []
    [made] = payments.stand_in.refunds.values()
    assert said == [IS_ASKED]
    refund = payments.payments.refund_of(unused.id)
    assert refund is not None
    assert refund.gateway_refund_id == made["id"]


def test_not_if_the_gateway_is_asked_while_it_is_searched(
    payments: PaymentsEnvironment, unused: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with payments.backend.database.autocommit() as connection:
        refunds.owe_unused(connection)
    gateway, is_sent, is_recorded = payments.payments.gateway, threading.Event(), threading.Event()
    search, refund = gateway.find_refund, gateway.refund

    def ask() -> None:
        payments.payments.hurry_refund(unused.id)
        payments.payments.run_round(0)

    worker = threading.Thread(target=ask)

    def search_before_it_is_asked(*args: Any) -> Any:
        found = search(*args)
        worker.start()
        assert is_sent.wait(60)
        return found

    def refund_slowly(*args: Any, **options: Any) -> Any:
        is_sent.set()
        assert is_recorded.wait(60)
        return refund(*args, **options)

    monkeypatch.setattr(gateway, "find_refund", search_before_it_is_asked)
    monkeypatch.setattr(gateway, "refund", refund_slowly)
    said = _record(payments, unused)
    monkeypatch.setattr(gateway, "find_refund", search)
    is_recorded.set()
    worker.join(60)
    assert said == IS_ASKED
    [made] = payments.stand_in.refunds.values()
    stored = payments.payments.refund_of(unused.id)
    assert stored is not None
    assert stored.gateway_refund_id == made["id"]


def test_a_minute_after_a_request_without_an_answer(payments: PaymentsEnvironment, unused: Payment) -> None:
    payments.stand_in.fails = 1
    assert payments.round()
    assert _record(payments, unused) == IS_ASKED  # the request may arrive late
    _set_refund(payments, "updated_at = now() - interval '61 seconds'")
    assert _record(payments, unused) in (None, _has(payments, unused))
    payments.round()
    assert len(payments.stand_in.refunds) + (_by_hand(payments, unused)) == 1


def test_a_refund_that_is_made_twice_is_an_error_of_the_log(
    payments: PaymentsEnvironment, unused: Payment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As by somebody who writes rows."""

    def meanwhile() -> None:
        _set_refund(payments, "state = 'done', gateway_refund_id = 'UTR1', next_at = NULL")

    _paused(payments.payments.gateway, "refund", monkeypatch, meanwhile)
    payments.round()
    assert any("is recorded otherwise: look at both" in record.getMessage() for record in caplog.records)


def test_another_gateways_refund_is_recorded_without_asking(payments: PaymentsEnvironment, unused: Payment) -> None:
    payments.payments.run_round(0)
    _set_refund(payments, "state = 'due', gateway_refund_id = NULL, updated_at = now() - interval '2 minutes'")
    payments.payments.gateway.name = "another"
    assert payments.payments.record_refund(unused.id, "UTR1").state == "refunded"
    with pytest.raises(InvalidRequest, match="under another reference"):
        payments.payments.record_refund(unused.id, "UTR2")


def _set_refund(payments: PaymentsEnvironment, values: str) -> None:
    with payments.backend.database.transaction() as connection:
        connection.exec_driver_sql(f"UPDATE refunds SET {values}")


def _has(payments: PaymentsEnvironment, payment: Payment) -> str:
    return f"The gateway has the refund of payment {payment.id}, as {next(iter(payments.stand_in.refunds), None)}."


def _by_hand(payments: PaymentsEnvironment, payment: Payment) -> bool:
    refund = payments.payments.refund_of(payment.id)
    assert refund is not None
    return refund.gateway_refund_id == "UTR1"
