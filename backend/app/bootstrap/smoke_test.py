"""A short lifecycle, played live through the services: in real time, on the network at hand, with a little real ETH.

Host and attendee are entered without wallets, so what they put down comes back to the platform's; all it costs is gas,
and a fee of a few thousand gwei that the platform earns from itself.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from sqlalchemy.dialects.postgresql import insert
from web3 import Web3
from web3.types import BlockData

from app.bootstrap.container import Services
from app.core.errors import AppError, ContractRejected
from app.db.tables import experiences, users
from app.services.operation_types import Operation
from app.services.operations import find
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable

PRICE_INR = Decimal("1.00")
SEATS = 2
_IDS = uuid.UUID("4f1f0f0e-5a0c-5b1e-8d53-0c1d2e3f4a5b")
HOST, ATTENDEE, EXPERIENCE = (uuid.uuid5(_IDS, name) for name in ("host", "attendee", "experience"))
STANDSTILL_S = 30
"""A chain without a new block for this long makes one when something is sent: an anvil without a block time."""
TOO_LATE_S = 300


class SmokeFailed(AppError):
    """What was played did not come to what it must."""

    code = "smoke_failed"


@dataclass(frozen=True)
class Step:
    """operation: the transaction that the step took, final; None where it took none."""

    what: str
    operation: Operation | None = None

    @property
    def gas_cost(self) -> int:
        """Wei paid for gas."""
        return (self.operation.gas_used or 0) * (self.operation.gas_price_wei or 0) if self.operation else 0


def play(services: Services, starts_in: float = 60, thorough: bool = False) -> Iterator[Step]:
    """Creates an event that starts in `starts_in` seconds, asks what it costs, books, waits for the start, completes.

    thorough: meanwhile also a call that the contract has to refuse, and another event that is called off.
    Raises what the services raise, and `SmokeFailed`.
    """
    runs, bookings, name = services.runs, services.bookings, uuid.uuid4().hex[:8]

    def key(what: str) -> str:
        return f"smoke:{name}:{what}"

    def done(what: str, said: str) -> Step:
        with services.database.begin() as connection:
            return Step(said, find(connection, key(what)))

    _enter(services)
    start = _soon(services.w3, starts_in)
    run = runs.create(HOST, EXPERIENCE, start, SEATS, PRICE_INR, idempotency_key=key("create"))
    yield done("create", f"created event run {run.blockchain_event_run_id}, which starts at {start:%H:%M:%S} UTC")

    quote = bookings.quote(run.id, 1)
    yield Step(f"one seat costs {quote.total_wei} wei, {quote.total_inr} INR: payment {quote.payment_wei} and stake")

    booking = bookings.book(run.id, ATTENDEE, 1, idempotency_key=key("book"))
    yield done("book", f"booked one seat, booking {booking.blockchain_booking_id}")
    _must((booking.blockchain_payment_wei, booking.blockchain_stake_amount_wei), (quote.payment_wei, quote.stake_wei))

    if thorough:
        try:
            bookings.book(run.id, ATTENDEE, SEATS, idempotency_key=key("refused"))
        except ContractRejected as refusal:
            yield Step(f"one seat too many was refused before it was sent: {refusal.message}")
        else:
            raise SmokeFailed("The contract sold more seats than there are.")
        other = runs.create(
            HOST, EXPERIENCE, start + timedelta(days=1), SEATS, PRICE_INR, idempotency_key=key("create other")
        )
        yield done("create other", f"created event run {other.blockchain_event_run_id}")
        runs.cancel(other.id, idempotency_key=key("cancel"))
        yield done("cancel", f"cancelled event run {other.blockchain_event_run_id}")
        _must(runs.get(other.id).status, "cancelled")

    yield Step("waiting for the start, by the time of the chain's blocks")
    _wait_until(services.w3, int(start.timestamp()))

    completed = runs.complete(run.id, [booking.id], idempotency_key=key("complete"))
    assert run.blockchain_event_run_id is not None
    yield done("complete", f"completed event run {run.blockchain_event_run_id}")
    _must(completed.host_stake_returned, run.blockchain_stake_amount_wei)
    _must((runs.get(run.id).status, bookings.get(booking.id).status), ("completed", "completed"))
    on_chain = services.chain.get_event_run_from_chain(run.blockchain_event_run_id)
    _must((on_chain.status.name.lower(), on_chain.seats_booked), ("completed", 1))


def _enter(services: Services) -> None:
    """The two users and their experience, the same ones each time."""
    people = [{"id": HOST, "name": "smoke test: host"}, {"id": ATTENDEE, "name": "smoke test: attendee"}]
    with services.database.begin() as connection:
        connection.execute(insert(users).on_conflict_do_nothing(), people)
        experience = {"id": EXPERIENCE, "host_id": HOST, "title": "Smoke test"}
        connection.execute(insert(experiences).on_conflict_do_nothing(), experience)


def _must(found: object, expected: object) -> None:
    if found != expected:
        raise SmokeFailed(f"The last step came to {found}, where {expected} was expected.")


def _soon(w3: Web3, seconds: float) -> datetime:
    """From now on, by this machine's clock or that of the chain, whichever is ahead."""
    now = max(time.time(), _block(w3, "latest")["timestamp"])
    return datetime.fromtimestamp(int(now + seconds), UTC)


def _wait_until(w3: Web3, moment: int) -> None:
    """Until a block is that late, and so the next one too."""
    number, since = -1, time.monotonic()
    while True:
        head = _block(w3, "latest")
        if head["number"] != number:
            number, since = head["number"], time.monotonic()
        still = time.monotonic() - since > STANDSTILL_S
        if (_block(w3, "pending") if still else head)["timestamp"] >= moment:
            return
        if time.time() > moment + TOO_LATE_S:
            raise SmokeFailed(f"The chain did not come to the time of the start within {TOO_LATE_S} s after it.")
        time.sleep(min(1.0, max(moment - time.time(), 0.2)))


def _block(w3: Web3, which: Literal["latest", "pending"]) -> BlockData:
    try:
        return w3.eth.get_block(which)
    except NODE_ERRORS as error:
        raise as_chain_unavailable(f"{which} block", error) from error
