"""Runs a short lifecycle on a live network, in real time: create, quote, book, complete.

Neither host nor attendee has a wallet, so payments and stakes return to the platform's wallet. The test costs gas, and
locks up some thousand gwei until it ends. Nobody pays in INR for it: its users are the platform's own.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple

from sqlalchemy.dialects.postgresql import insert
from web3 import Web3

from app.bootstrap.services import Services
from app.core.errors import AppError, ChainUnavailable, ContractRejected
from app.db.tables import EventRun, experiences, users
from app.services import rpc
from app.services.operation_types import Operation
from app.services.operations import find
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable
from app.services.rpc_types import BlockHeader

PRICE_INR = Decimal("1.00")
SEATS = 2
_NAMESPACE = uuid.UUID("4f1f0f0e-5a0c-5b1e-8d53-0c1d2e3f4a5b")
HOST, ATTENDEE, EXPERIENCE = (uuid.uuid5(_NAMESPACE, name) for name in ("host", "attendee", "experience"))
STANDSTILL_S = 30
"""Seconds without a new block after which the test assumes that the chain mines only transactions, as an anvil does."""
MAX_DELAY_S = 300
"""Maximum seconds from the event's start to the next block."""


class SmokeTestFailed(AppError):
    """A step of the smoke test had an unexpected result."""

    code = "smoke_failed"


@dataclass(frozen=True)
class SmokeStep:
    """A step that passed.

    Attributes:
        description: The step in words.
        operation: The final operation of the step; None if it sent no transaction.
    """

    description: str
    operation: Operation | None = None

    @property
    def gas_cost(self) -> int:
        """Wei paid for gas."""
        return (self.operation.gas_used or 0) * (self.operation.gas_price_wei or 0) if self.operation else 0


class _Test(NamedTuple):
    """One smoke test, with a random id for its idempotency keys."""

    services: Services
    id: str

    def key(self, step: str) -> str:
        return f"smoke:{self.id}:{step}"

    def sent_step(self, step: str, description: str) -> SmokeStep:
        with self.services.database.transaction() as connection:
            return SmokeStep(description, find(connection, self.key(step)))


def run_smoke_test(services: Services, starts_in: float = 60, *, thorough: bool = False) -> Iterator[SmokeStep]:
    """Creates an event run, quotes and books a seat, waits for the start, and completes the run.

    Args:
        services: The services on the network to test.
        starts_in: Seconds from now to the event's start.
        thorough: Whether to also make a booking that the contract must reject, and create and cancel a second run.

    Yields:
        Each step after it passed.

    Raises:
        SmokeTestFailed: A step had an unexpected result.
        AppError: A service failed.
    """
    runs, bookings, test = services.runs, services.bookings, _Test(services, uuid.uuid4().hex[:8])
    _insert_users(services)
    start = _start_time(services.w3, starts_in)
    run = runs.create(HOST, EXPERIENCE, start, SEATS, PRICE_INR, idempotency_key=test.key("create"))
    yield test.sent_step(
        "create", f"created event run {run.blockchain_event_run_id}, which starts at {start:%H:%M:%S} UTC"
    )

    quote = bookings.quote(run.id, 1)
    yield SmokeStep(
        f"one seat costs {quote.total_wei} wei, {quote.total_inr} INR: payment {quote.payment_wei} and stake"
    )

    booking = bookings.book(run.id, ATTENDEE, 1, idempotency_key=test.key("book"))
    yield test.sent_step("book", f"booked one seat, booking {booking.blockchain_booking_id}")
    _expect((booking.blockchain_payment_wei, booking.blockchain_stake_amount_wei), (quote.payment_wei, quote.stake_wei))

    if thorough:
        yield _overbook(test, run)
        yield from _create_and_cancel(test, start + timedelta(days=1))

    yield SmokeStep("waiting for the start, by the time of the chain's blocks")
    _wait_until(services.w3, int(start.timestamp()))

    completed = runs.complete(run.id, [booking.id], idempotency_key=test.key("complete"))
    assert run.blockchain_event_run_id is not None
    yield test.sent_step("complete", f"completed event run {run.blockchain_event_run_id}")
    _expect(completed.host_stake_returned, run.blockchain_stake_amount_wei)
    _expect((runs.get(run.id).status, bookings.get(booking.id).status), ("completed", "completed"))
    on_chain = services.chain.get_event_run_from_chain(run.blockchain_event_run_id)
    _expect((on_chain.status.name.lower(), on_chain.seats_booked), ("completed", 1))


def _insert_users(services: Services) -> None:
    """Inserts the two users and their experience, unless an earlier smoke test did."""
    user_rows = [{"id": HOST, "name": "smoke test: host"}, {"id": ATTENDEE, "name": "smoke test: attendee"}]
    experience_row = {"id": EXPERIENCE, "host_id": HOST, "title": "Smoke test"}
    with services.database.transaction() as connection:
        connection.execute(insert(users).on_conflict_do_nothing(), user_rows)
        connection.execute(insert(experiences).on_conflict_do_nothing(), experience_row)


def _overbook(test: _Test, run: EventRun) -> SmokeStep:
    """Books more seats than are free, which the contract must reject."""
    try:
        test.services.bookings.book(run.id, ATTENDEE, SEATS, idempotency_key=test.key("refused"))
    except ContractRejected as error:
        return SmokeStep(f"one seat too many was refused before it was sent: {error.message}")
    raise SmokeTestFailed("The contract sold more seats than there are.")


def _create_and_cancel(test: _Test, start: datetime) -> Iterator[SmokeStep]:
    """Creates a second event run, and cancels it."""
    runs = test.services.runs
    run = runs.create(HOST, EXPERIENCE, start, SEATS, PRICE_INR, idempotency_key=test.key("create other"))
    yield test.sent_step("create other", f"created event run {run.blockchain_event_run_id}")
    runs.cancel(run.id, idempotency_key=test.key("cancel"))
    yield test.sent_step("cancel", f"cancelled event run {run.blockchain_event_run_id}")
    _expect(runs.get(run.id).status, "cancelled")


def _expect(actual: object, expected: object) -> None:
    if actual != expected:
        raise SmokeTestFailed(f"The last step resulted in {actual}; expected was {expected}.")


def _start_time(w3: Web3, seconds: float) -> datetime:
    """Returns a time so many seconds from now, by this machine's clock or the chain's, whichever is ahead."""
    now = max(time.time(), _block(w3, "latest").timestamp)
    return datetime.fromtimestamp(int(now + seconds), UTC)


def _wait_until(w3: Web3, timestamp: int) -> None:
    """Waits for a block with this timestamp or a later one; the next transaction is then mined at that time too."""
    block_number, new_block_at = -1, time.monotonic()
    while True:
        head = _block(w3, "latest")
        if head.number != block_number:
            block_number, new_block_at = head.number, time.monotonic()
        stands_still = time.monotonic() - new_block_at > STANDSTILL_S
        if (_block(w3, "pending") if stands_still else head).timestamp >= timestamp:
            return
        if time.time() > timestamp + MAX_DELAY_S:
            raise SmokeTestFailed(f"The chain has no block with the time of the start, {MAX_DELAY_S} s after it.")
        time.sleep(min(1.0, max(timestamp - time.time(), 0.2)))


def _block(w3: Web3, which: Literal["latest", "pending"]) -> BlockHeader:
    try:
        header = rpc.block_header(w3, which)
    except NODE_ERRORS as error:
        raise as_chain_unavailable(f"{which} block", error) from error
    if header is None:
        raise ChainUnavailable(f"The node has no {which} block.")
    return header
