"""What a process of the service does in an episode: it creates runs and bookings, which clients pay."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import requests
from app.bootstrap.services import Services
from app.core.errors import NotFound, PaymentUnusable
from app.db.tables import Booking, EventRun
from app.services.booking_service import BookingService
from app.services.payments.service import PaymentService
from app.services.payments.types import Payment
from stakesim.evm.chain_spec import GENESIS_TIMESTAMP

from stakesim_adapter.faults.testbed import EXPERIENCE, user_id

_STARTS_AT = datetime.fromtimestamp(GENESIS_TIMESTAMP, UTC) + timedelta(days=30)


class ScriptLog:
    """What `run_script` has done: `done KEY`, and `quote KEY: ID`, which clients pay.

    Attributes:
        gateway_url: URL of the payment gateway, where they pay.
    """

    def __init__(self, gateway_url: str) -> None:
        self.gateway_url = gateway_url
        self._lines: list[str] = []

    def write(self, line: str) -> None:
        """Adds a line."""
        self._lines.append(line)

    def lines(self) -> list[str]:
        """Returns all lines."""
        return self._lines

    def quotes(self, key: str) -> list[UUID]:
        """Returns the quotes of a key, the first one noted first."""
        prefix = f"quote {key}: "
        return [UUID(line.removeprefix(prefix)) for line in self.lines() if line.startswith(prefix)]


def run_script(services: Services, process_name: str, log: ScriptLog) -> None:
    """Creates runs and bookings, some with keys that all processes share, some with keys of this process.

    Pays for each, and logs the key of each use case that has returned.
    """
    runs, bookings = services.runs, services.bookings

    def create(key: str, *terms: Any) -> EventRun:
        quote_id = _pay(services, log, key, lambda: runs.quote_stake(*terms)[1])
        return runs.create(*terms, idempotency_key=key, quote_id=quote_id)

    def book(key: str, *terms: Any) -> Booking:
        quote_id = _pay(services, log, key, lambda: bookings.quote_to_pay(*terms)[1])
        return bookings.book(*terms, idempotency_key=key, quote_id=quote_id)

    run = create("create", user_id(0), EXPERIENCE, _STARTS_AT, 12, Decimal(20_000))
    log.write("done create")
    booking = book("book", run.id, user_id(1), 2)
    log.write("done book")
    for user in (2, 3):
        key, terms = f"book later {user}", (run.id, user_id(user), 1)
        quote_id = _pay(services, log, key, partial(_quote, bookings, terms))
        bookings.prepare_book(*terms, idempotency_key=key, quote_id=quote_id)
    services.reconciler.run_once()
    bookings.cancel(booking.id, idempotency_key="cancel")
    log.write("done cancel")
    own_run = create(f"create by {process_name}", user_id(1), EXPERIENCE, _STARTS_AT, 3, Decimal(9_000))
    log.write(f"done create by {process_name}")
    book(f"book by {process_name}", own_run.id, user_id(5), 1)
    log.write(f"done book by {process_name}")
    runs.cancel(own_run.id, idempotency_key=f"cancel by {process_name}")
    log.write(f"done cancel by {process_name}")


def _quote(bookings: BookingService, terms: tuple[Any, ...]) -> Payment | None:
    return bookings.quote_to_pay(*terms)[1]


def _pay(services: Services, log: ScriptLog, key: str, get_quote: Callable[[], Payment | None]) -> UUID:
    """Pays the quote of a key, unless it is paid. All processes pay the same one, also after one of them was killed."""
    assert services.payments is not None
    quote_id = next((quote for quote in log.quotes(key) if _exists(services.payments, quote)), None)
    if quote_id is None:
        quoted = get_quote()
        assert quoted is not None
        log.write(f"quote {key}: {quoted.id}")
        quote_id = next(quote for quote in log.quotes(key) if _exists(services.payments, quote))
    with suppress(PaymentUnusable):  # it is paid already
        order_id = services.payments.order(services.payments.get(quote_id)).order_id
        gateway = services.payments.gateway
        requests.post(f"{log.gateway_url}/pay/{order_id}", timeout=10)
        for capture in gateway.captures(order_id):
            services.payments.receive(capture)
    return quote_id


def _exists(payments: PaymentService, quote_id: UUID) -> bool:
    """Whether the database has a quote, which it may have lost."""
    try:
        payments.get(quote_id)
    except NotFound:
        return False
    return True
