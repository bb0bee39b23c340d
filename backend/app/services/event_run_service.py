"""Event runs: opened, completed, cancelled, expired.

Each use case writes its operation down, together with the row it is about, and then has it carried out; what the chain
says of it comes into the rows when it is final (`effects`). Seats, times, authority and status are the contract's to
judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from eth_account.signers.local import LocalAccount
from sqlalchemy import bindparam, case, select, update

from app.core.errors import NotFound
from app.db.database import Database
from app.db.tables import EventRun, event_run_bookings, event_runs, experiences, users
from app.services.blockchain_service import BlockchainService
from app.services.contract_types import EventCancelled, EventCompleted, EventExpired, unix_seconds
from app.services.lookups import chain_id_of, checked_seats, on_chain
from app.services.operations import Draft, NewRow, Operation, once, request_hash
from app.services.pricing import Pricing, checked_inr, convert_inr_to_wei

_HOST_AND_EXPERIENCE = (
    select(users.c.wallet_address, experiences.c.id)
    .select_from(users.outerjoin(experiences, experiences.c.id == bindparam("experience_id")))
    .where(users.c.id == bindparam("user_id"))
)
_GET = select(event_runs).where(event_runs.c.id == bindparam("row_id"))
_ALL = select(event_runs).order_by(event_runs.c.created_at)


class EventRunService:
    """What sends raises as `TransactionSender.finish` does, and `NotFound` for an id that there is not.

    signer: who sends the transaction; the platform where none is given. key: for idempotency; asked with it again, a
    use case has the same operation. Raises `KeyReused` where the key came with another request.
    """

    def __init__(self, database: Database, chain: BlockchainService, pricing: Pricing) -> None:
        self._database = database
        self._chain = chain
        self._pricing = pricing

    def prepare_create(
        self,
        host_id: UUID,
        experience_id: UUID,
        starts_at: datetime,
        max_seats: int,
        price_inr: Decimal,
        signer: LocalAccount | None = None,
        key: str | None = None,
    ) -> Operation:
        """Writes down a run to be opened, at a price a seat that becomes wei once, here; its row is the operation's
        subject. A host without a wallet is entered under the platform's address. Raises `PriceError` before anything
        is written, `InvalidRequest`.
        """

        def begin() -> Draft:
            rate = self._pricing.rate()
            price_wei = convert_inr_to_wei(checked_inr(price_inr), rate.inr_per_eth)
            unix_seconds(starts_at)
            with self._database.autocommit() as connection:
                parties = {"user_id": host_id, "experience_id": experience_id}
                found = connection.execute(_HOST_AND_EXPERIENCE, parties).one_or_none()
            if found is None:
                raise NotFound(f"There is no user {host_id}.")
            if found.id is None:
                raise NotFound(f"There is no experience {experience_id}.")
            row = {
                "experience_id": experience_id,
                "host_id": host_id,
                "starts_at": starts_at.replace(microsecond=0),
                "max_seats": checked_seats(max_seats),
                "price_inr": price_inr,
                "blockchain_price_per_seat_wei": price_wei,
                "inr_per_eth": rate.inr_per_eth,
            }
            host = found.wallet_address or self._chain.platform
            call = self._chain.create_event_run_call(str(experience_id), price_wei, max_seats, starts_at, host, signer)

            return self._chain.sender.draft(call, signer, NewRow(event_runs, row))

        asked = (host_id, experience_id, starts_at, max_seats, price_inr, signer and signer.address)
        request = request_hash("create run", *asked)
        return once(self._database, key, request, begin)

    def create(
        self,
        host_id: UUID,
        experience_id: UUID,
        starts_at: datetime,
        max_seats: int,
        price_inr: Decimal,
        signer: LocalAccount | None = None,
        key: str | None = None,
    ) -> EventRun:
        """Opens a run, as `prepare_create` says, and waits until it is final."""
        operation = self.prepare_create(host_id, experience_id, starts_at, max_seats, price_inr, signer, key)
        self._chain.sender.finish(operation, signer)
        assert operation.subject is not None
        return self.get(operation.subject)

    def prepare_complete(
        self,
        event_run_id: UUID,
        attended_booking_ids: Sequence[UUID],
        signer: LocalAccount | None = None,
        key: str | None = None,
    ) -> Operation:
        """Writes down that a run is to be closed: the bookings listed came, all others are no-shows."""

        def begin() -> Draft:
            bookings = event_run_bookings.c
            with self._database.autocommit() as connection:
                run = chain_id_of(connection, event_run_id)
                asked = select(bookings.id, bookings.blockchain_booking_id).where(bookings.id.in_(attended_booking_ids))
                known = dict(connection.execute(asked).all())
            came = [on_chain(known.get(id), id in known, f"booking {id}") for id in attended_booking_ids]
            call = self._chain.complete_event_call(run, came)
            return self._chain.sender.draft(call, signer, event_run_id)

        request = request_hash("complete", event_run_id, *attended_booking_ids, signer and signer.address)
        return once(self._database, key, request, begin)

    def complete(
        self,
        event_run_id: UUID,
        attended_booking_ids: Sequence[UUID],
        signer: LocalAccount | None = None,
        key: str | None = None,
    ) -> EventCompleted:
        """Closes a run, and waits until that is final."""
        operation = self.prepare_complete(event_run_id, attended_booking_ids, signer, key)
        return self._chain.completed(self._chain.sender.finish(operation, signer))

    def prepare_cancel(
        self, event_run_id: UUID, signer: LocalAccount | None = None, key: str | None = None
    ) -> Operation:
        """Writes down that a run is called off: all its bookings are refunded, the host's stake returns."""

        def begin() -> Draft:
            call = self._chain.cancel_event_call(self._chain_id(event_run_id))
            return self._chain.sender.draft(call, signer, event_run_id)

        request = request_hash("cancel run", event_run_id, signer and signer.address)
        return once(self._database, key, request, begin)

    def cancel(self, event_run_id: UUID, signer: LocalAccount | None = None, key: str | None = None) -> EventCancelled:
        """Calls a run off, and waits until that is final."""
        return self._chain.cancelled(self._chain.sender.finish(self.prepare_cancel(event_run_id, signer, key), signer))

    def prepare_expire(
        self, event_run_id: UUID, signer: LocalAccount | None = None, key: str | None = None
    ) -> Operation:
        """Writes down that a run nobody completed in time ends: its bookings are refunded, and share the stake."""

        def begin() -> Draft:
            call = self._chain.expire_event_call(self._chain_id(event_run_id))
            return self._chain.sender.draft(call, signer, event_run_id)

        request = request_hash("expire", event_run_id, signer and signer.address)
        return once(self._database, key, request, begin)

    def expire(self, event_run_id: UUID, signer: LocalAccount | None = None, key: str | None = None) -> EventExpired:
        """Ends a run, and waits until that is final."""
        return self._chain.expired(self._chain.sender.finish(self.prepare_expire(event_run_id, signer, key), signer))

    def refresh(self, event_run_id: UUID, block: int | None = None) -> EventRun:
        """Brings a run and its bookings to what the contract says, after something was done past this service.

        block: as of which, the latest where none is given; a row that is of a later one stays as it is. Bookings that
        this service did not make are not entered: nobody here knows whose they are.
        """
        bookings = event_run_bookings.c
        with self._database.autocommit() as connection:  # before the row, so that its block is not before any of theirs
            ids = connection.scalars(
                select(bookings.blockchain_booking_id).where(
                    bookings.event_run_id == event_run_id, bookings.blockchain_status == "confirmed"
                )
            ).all()
        row = self.get(event_run_id)
        chain_id = on_chain(row.blockchain_event_run_id, True, f"event run {event_run_id}")
        at = self._chain.block_number() if block is None else block
        if row.blockchain_block > at:  # the contract may not know some of its bookings as of then
            return row
        found = self._chain.get_event_run_from_chain(chain_id, at)
        now = {id: self._chain.get_booking_from_chain(id, at).status.name.lower() for id in ids}
        runs = event_runs.c
        with self._database.transaction() as connection:
            changed = connection.execute(
                update(event_runs)
                .where(runs.id == event_run_id, runs.blockchain_block <= at)
                .values(
                    status=found.status.name.lower(),
                    seats_booked=found.seats_booked,
                    blockchain_block=at,
                    refreshed_block=at,
                    refresh_due=False,
                )
            )
            if changed.rowcount and now:
                status = case(now, value=bookings.blockchain_booking_id)
                connection.execute(
                    update(event_run_bookings).where(bookings.blockchain_booking_id.in_(now)).values(status=status)
                )
        return self.get(event_run_id)

    def get(self, event_run_id: UUID) -> EventRun:
        with self._database.autocommit() as connection:
            row = connection.execute(_GET, {"row_id": event_run_id}).one_or_none()
        if row is None:
            raise NotFound(f"There is no event run {event_run_id}.")
        return EventRun(*row)

    def list_all(self) -> list[EventRun]:
        """In the order in which they were asked for."""
        with self._database.autocommit() as connection:
            return [EventRun(*row) for row in connection.execute(_ALL)]

    def _chain_id(self, event_run_id: UUID) -> int:
        with self._database.autocommit() as connection:
            return chain_id_of(connection, event_run_id)
