"""Use cases of event runs: create, complete, cancel, expire, refresh.

Each use case stores an operation, together with a new row if it creates one, and carries it out. When the operation is
final, `projections` updates the rows. The contract checks seats, times, authority and status.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from eth_account.signers.local import LocalAccount
from sqlalchemy import bindparam, case, func, select, update

from app.core.errors import NotFound
from app.db.database import Database
from app.db.statements import Compiled
from app.db.tables import EventRun, event_run_bookings, event_runs, experiences, users
from app.services.blockchain_service import BlockchainService
from app.services.contract_types import EventCancelled, EventCompleted, EventExpired, OnchainEventRun, unix_seconds
from app.services.lookups import check_seats, find_onchain_run_id, require_onchain_id
from app.services.operation_types import Draft, NewRow, Operation
from app.services.operations import find_or_create, request_hash
from app.services.payments.service import PaymentService
from app.services.payments.types import Amounts, Payment
from app.services.pricing import Pricing, Quote, check_price_inr, convert_inr_to_wei

_runs, _bookings = event_runs.c, event_run_bookings.c
_SELECT_HOST_AND_EXPERIENCE = Compiled(
    select(users.c.wallet_address, experiences.c.id)
    .select_from(users.outerjoin(experiences, experiences.c.id == bindparam("experience_id")))
    .where(users.c.id == bindparam("user_id"))
)
_SELECT_HOST_OF_EXPERIENCE = Compiled(select(experiences.c.host_id).where(experiences.c.id == bindparam("row_id")))
_SELECT_RUN = Compiled(select(event_runs).where(event_runs.c.id == bindparam("row_id")))
_SELECT_ATTENDED = Compiled(
    select(_bookings.id, _bookings.blockchain_booking_id, _bookings.blockchain_status).where(
        _bookings.id == func.any(bindparam("row_ids"))
    )
)
_SELECT_ALL = select(event_runs).order_by(event_runs.c.created_at)


class EventRunService:
    """Use cases of event runs.

    Methods raise `NotFound` for an id that does not exist, and methods that send raise as `TransactionSender.finish`
    does. Two arguments occur in several methods:

    signer: Account that sends the transaction; the platform if None.
    idempotency_key: The same request with the same key has the same operation; another request with it raises
        `KeyReused`.
    """

    def __init__(
        self, database: Database, chain: BlockchainService, pricing: Pricing, payments: PaymentService | None = None
    ) -> None:
        self._database = database
        self._chain = chain
        self._pricing = pricing
        self._payments = payments

    def quote_stake(
        self, host_id: UUID, experience_id: UUID, starts_at: datetime, max_seats: int, price_inr: Decimal
    ) -> tuple[Quote, Payment | None]:
        """Returns a host's stake, and the payment that creating the run takes; None if nothing is paid.

        The quote's payment is the price of a seat in wei: only the stake is to be paid.

        Raises:
            PriceError: There is no rate to convert the price with.
            InvalidRequest: Price, time or seats are invalid, or the stake is less than the gateway takes.
        """
        rate = self._pricing.rate()
        price_wei = convert_inr_to_wei(check_price_inr(price_inr), rate.inr_per_eth)
        unix_seconds(starts_at)  # refuses a time without time zone
        stake_wei = self._chain.calculate_required_stake(price_wei, check_seats(max_seats))
        quote = Quote.of(price_wei, stake_wei, rate)
        if self._payments is None or stake_wei == 0:
            return quote, None
        amounts = Amounts(rate.inr_per_eth, price_wei, stake_wei, quote.stake_inr, quote.stake_inr)
        quoted = _quoted(experience_id, starts_at, max_seats, price_inr)
        return quote, self._payments.quote(host_id, "event_run", quoted, amounts)

    def prepare_create(
        self,
        host_id: UUID,
        experience_id: UUID,
        starts_at: datetime,
        max_seats: int,
        price_inr: Decimal,
        *,
        signer: LocalAccount | None = None,
        idempotency_key: str | None = None,
        quote_id: UUID | None = None,
    ) -> Operation:
        """Stores a run, and the operation that creates it on chain; the operation's subject is the run's row.

        The price per seat is converted from INR to wei once: in the quote with `quote_id`, whose payment is used; if
        nobody pays, or the host signs, here. The start needs a time zone; fractions of a second are dropped. For a host
        without a wallet, the platform's address is the host on chain.

        Raises:
            PriceError: There is no rate to convert the price with. Nothing was stored.
            InvalidRequest: Price, time or seats are invalid. Nothing was stored.
            PaymentRequired, NotPaid, PaymentUnusable: No payment can be used. Nothing was stored.
            Paused: New orders are paused. Nothing was stored.
        """
        payments = self._payments if signer is None else None

        def make_draft() -> Draft:
            payment = None
            if payments is not None:
                quoted = _quoted(experience_id, starts_at, max_seats, price_inr)
                payment = payments.payment_for(quote_id, host_id, "event_run", quoted)
            rate = self._pricing.rate().inr_per_eth if payment is None else payment.rate
            price_wei, stake_wei = convert_inr_to_wei(check_price_inr(price_inr), rate), None
            if payment is not None:
                price_wei, stake_wei = payment.frozen_wei
            with self._database.autocommit() as connection:
                parameters = {"user_id": host_id, "experience_id": experience_id}
                row = connection.execute(_SELECT_HOST_AND_EXPERIENCE, parameters).one_or_none()
            if row is None:
                raise NotFound(f"There is no user {host_id}.")
            if row.id is None:
                raise NotFound(f"There is no experience {experience_id}.")
            new_run = {
                "experience_id": experience_id,
                "host_id": host_id,
                "starts_at": starts_at.replace(microsecond=0),
                "max_seats": check_seats(max_seats),
                "price_inr": price_inr,
                "blockchain_price_per_seat_wei": price_wei,
                "inr_per_eth": rate,
            }
            host = row.wallet_address or self._chain.custody
            call = self._chain.create_event_run_call(
                str(experience_id), price_wei, max_seats, starts_at, host=host, signer=signer, stake_wei=stake_wei
            )
            if payments is not None:
                payments.require(payment, call.value)
            draft = self._chain.sender.draft(call, signer, NewRow(event_runs, new_run), person=host_id)
            return PaymentService.paid_by(payment, draft, to_custody=row.wallet_address is None)

        paid = () if quote_id is None else (quote_id,)
        arguments = (host_id, experience_id, starts_at, max_seats, price_inr, signer and signer.address, *paid)
        return find_or_create(self._database, idempotency_key, request_hash("create run", *arguments), make_draft)

    def create(
        self,
        host_id: UUID,
        experience_id: UUID,
        starts_at: datetime,
        max_seats: int,
        price_inr: Decimal,
        *,
        signer: LocalAccount | None = None,
        idempotency_key: str | None = None,
        quote_id: UUID | None = None,
    ) -> EventRun:
        """Creates a run as `prepare_create` does, and waits until it is final."""
        operation = self.prepare_create(
            *(host_id, experience_id, starts_at, max_seats, price_inr),
            signer=signer,
            idempotency_key=idempotency_key,
            quote_id=quote_id,
        )
        self._chain.sender.finish(operation, signer)
        assert operation.subject is not None
        return self.get(operation.subject)

    def prepare_complete(
        self,
        event_run_id: UUID,
        attended_booking_ids: Sequence[UUID],
        *,
        signer: LocalAccount | None = None,
        idempotency_key: str | None = None,
    ) -> Operation:
        """Stores the operation that completes a run; bookings that are not listed are no-shows."""

        def make_draft() -> Draft:
            onchain_run_id = find_onchain_run_id(self._database, event_run_id)
            with self._database.autocommit() as connection:
                rows = connection.execute(_SELECT_ATTENDED, {"row_ids": list(attended_booking_ids)})
                on_chain = {row.id: (row.blockchain_booking_id, row.blockchain_status) for row in rows}
            attended_onchain_booking_ids = []
            for booking_id in attended_booking_ids:
                if booking_id not in on_chain:
                    raise NotFound(f"There is no booking {booking_id}.")
                onchain_booking_id = require_onchain_id(*on_chain[booking_id], f"booking {booking_id}")
                attended_onchain_booking_ids.append(onchain_booking_id)
            call = self._chain.complete_event_call(onchain_run_id, attended_onchain_booking_ids)
            return self._chain.sender.draft(call, signer, event_run_id)

        request = request_hash("complete", event_run_id, *attended_booking_ids, signer and signer.address)
        return find_or_create(self._database, idempotency_key, request, make_draft)

    def complete(
        self,
        event_run_id: UUID,
        attended_booking_ids: Sequence[UUID],
        *,
        signer: LocalAccount | None = None,
        idempotency_key: str | None = None,
    ) -> EventCompleted:
        """Completes a run as `prepare_complete` does, and waits until that is final."""
        operation = self.prepare_complete(
            event_run_id, attended_booking_ids, signer=signer, idempotency_key=idempotency_key
        )
        return self._chain.read_event_completed(self._chain.sender.finish(operation, signer))

    def prepare_cancel(
        self, event_run_id: UUID, *, signer: LocalAccount | None = None, idempotency_key: str | None = None
    ) -> Operation:
        """Stores the operation that cancels a run: all its bookings are refunded, and the host's stake returns."""

        def make_draft() -> Draft:
            call = self._chain.cancel_event_call(find_onchain_run_id(self._database, event_run_id))
            return self._chain.sender.draft(call, signer, event_run_id)

        request = request_hash("cancel run", event_run_id, signer and signer.address)
        return find_or_create(self._database, idempotency_key, request, make_draft)

    def cancel(
        self, event_run_id: UUID, *, signer: LocalAccount | None = None, idempotency_key: str | None = None
    ) -> EventCancelled:
        """Cancels a run as `prepare_cancel` does, and waits until that is final."""
        operation = self.prepare_cancel(event_run_id, signer=signer, idempotency_key=idempotency_key)
        return self._chain.read_event_cancelled(self._chain.sender.finish(operation, signer))

    def prepare_expire(
        self, event_run_id: UUID, *, signer: LocalAccount | None = None, idempotency_key: str | None = None
    ) -> Operation:
        """Stores the operation that expires a run that was not completed in time.

        Its bookings are refunded, and share the host's stake.
        """

        def make_draft() -> Draft:
            call = self._chain.expire_event_call(find_onchain_run_id(self._database, event_run_id))
            return self._chain.sender.draft(call, signer, event_run_id)

        request = request_hash("expire", event_run_id, signer and signer.address)
        return find_or_create(self._database, idempotency_key, request, make_draft)

    def expire(
        self, event_run_id: UUID, *, signer: LocalAccount | None = None, idempotency_key: str | None = None
    ) -> EventExpired:
        """Expires a run as `prepare_expire` does, and waits until that is final."""
        operation = self.prepare_expire(event_run_id, signer=signer, idempotency_key=idempotency_key)
        return self._chain.read_event_expired(self._chain.sender.finish(operation, signer))

    def refresh(self, event_run_id: UUID, block: int | None = None) -> EventRun:
        """Updates a run and its bookings from the contract's views, after transactions that this service did not send.

        Bookings that this service did not make get no row, as it does not know whose they are.

        Args:
            event_run_id: Id of the run.
            block: Number of the block on whose state the views run; the latest block if None. A row that has events of
                a later block stays as it is.

        Returns:
            The run's row.
        """
        with self._database.autocommit() as connection:
            # read before the run's row, so that no booking is newer than the run's block
            statement = select(_bookings.blockchain_booking_id).where(
                _bookings.event_run_id == event_run_id, _bookings.blockchain_status == "confirmed"
            )
            onchain_booking_ids = connection.scalars(statement).all()
        row = self.get(event_run_id)
        onchain_run_id = require_onchain_id(
            row.blockchain_event_run_id, row.blockchain_status, f"event run {event_run_id}"
        )
        block = self._chain.block_number() if block is None else block
        if row.blockchain_block > block:  # at that block the contract may lack some of the run's bookings
            return row
        onchain_run = self._chain.get_event_run_from_chain(onchain_run_id, block)
        booking_statuses = {
            onchain_booking_id: self._chain.get_booking_from_chain(onchain_booking_id, block).status.name.lower()
            for onchain_booking_id in onchain_booking_ids
        }
        self._store_refreshed(event_run_id, block, onchain_run, booking_statuses)
        return self.get(event_run_id)

    def _store_refreshed(
        self, event_run_id: UUID, block: int, onchain_run: OnchainEventRun, booking_statuses: dict[int, str]
    ) -> None:
        """Stores what the views returned, unless the run's row has events of a later block meanwhile."""
        values = {
            "status": onchain_run.status.name.lower(),
            "seats_booked": onchain_run.seats_booked,
            "blockchain_block": block,
            "refreshed_block": block,
            "refresh_due": False,
        }
        is_not_newer = (_runs.id == event_run_id) & (_runs.blockchain_block <= block)
        with self._database.transaction() as connection:
            updated = connection.execute(update(event_runs).where(is_not_newer).values(values)).rowcount
            if updated and booking_statuses:
                status = case(booking_statuses, value=_bookings.blockchain_booking_id)
                of_run = _bookings.blockchain_booking_id.in_(booking_statuses)
                connection.execute(update(event_run_bookings).where(of_run).values(status=status))

    def cancel_failed(self, event_run_id: UUID) -> None:
        """Sets a run to cancelled whose creation failed, so that it is not on chain. Leaves other runs as they are."""
        failed = (_runs.id == event_run_id) & (_runs.blockchain_status == "failed")
        with self._database.transaction() as connection:
            connection.execute(update(event_runs).where(failed).values(status="cancelled"))

    def get(self, event_run_id: UUID) -> EventRun:
        """Returns a run's row."""
        with self._database.autocommit() as connection:
            row = connection.execute(_SELECT_RUN, {"row_id": event_run_id}).one_or_none()
        if row is None:
            raise NotFound(f"There is no event run {event_run_id}.")
        return EventRun(*row)

    def host_of_experience(self, experience_id: UUID) -> UUID:
        """Returns the id of the host to whom an experience belongs."""
        with self._database.autocommit() as connection:
            host_id: UUID | None = connection.scalar(_SELECT_HOST_OF_EXPERIENCE, {"row_id": experience_id})
        if host_id is None:
            raise NotFound(f"There is no experience {experience_id}.")
        return host_id

    def list_all(self) -> list[EventRun]:
        """Returns the rows of all runs, in the order in which they were stored."""
        with self._database.autocommit() as connection:
            return [EventRun(*row) for row in connection.execute(_SELECT_ALL)]


def _quoted(experience_id: UUID, starts_at: datetime, max_seats: int, price_inr: Decimal) -> dict[str, Any]:
    """Returns what a run's quote is for, as `payments.quoted` stores it."""
    start = starts_at.replace(microsecond=0).astimezone(UTC)
    return {
        "experience_id": str(experience_id),
        "starts_at": start.isoformat(),
        "max_seats": max_seats,
        "price_inr": f"{price_inr:.2f}",
    }
