"""Bookings: quoted, made, cancelled.

Each use case writes its operation down, together with the row it is about, and then has it carried out; what the chain
says of it comes into the rows when it is final (`effects`).
"""

from __future__ import annotations

from uuid import UUID

from eth_account.signers.local import LocalAccount
from sqlalchemy import bindparam, select

from app.core.errors import NotFound
from app.db.database import Database
from app.db.tables import Booking, event_run_bookings, event_runs, users
from app.services.blockchain_service import BlockchainService
from app.services.contract_types import BookingCancelled
from app.services.lookups import chain_id_of, checked_seats, on_chain
from app.services.operations import Draft, NewRow, Operation, once, request_hash
from app.services.pricing import Pricing, Quote, Rate

_RUN_AND_USER = (
    select(event_runs.c.blockchain_event_run_id, users.c.wallet_address, users.c.id)
    .select_from(event_runs.outerjoin(users, users.c.id == bindparam("user_id")))
    .where(event_runs.c.id == bindparam("run_id"))
)
_GET = select(event_run_bookings).where(event_run_bookings.c.id == bindparam("row_id"))
_ALL = select(event_run_bookings).order_by(event_run_bookings.c.created_at)


class BookingService:
    """What sends raises as `TransactionSender.finish` does, and `NotFound` for an id that there is not.

    signer: who sends the transaction; the platform where none is given. key: for idempotency; asked with it again, a
    use case has the same operation. Raises `KeyReused` where the key came with another request.
    """

    def __init__(self, database: Database, chain: BlockchainService, pricing: Pricing) -> None:
        self._database = database
        self._chain = chain
        self._pricing = pricing

    def quote(self, event_run_id: UUID, seats: int) -> Quote:
        """What seats cost, in wei as the contract says, in INR at the rate of now. Raises `PriceError`."""
        rate = self._pricing.rate()
        with self._database.autocommit() as connection:
            run = chain_id_of(connection, event_run_id)
        return self._quote(run, seats, rate)

    def prepare_book(
        self, event_run_id: UUID, user_id: UUID, seats: int, signer: LocalAccount | None = None, key: str | None = None
    ) -> Operation:
        """Writes down a booking at a quote of now, to be paid with exactly the wei quoted; its row is the operation's
        subject. A user without a wallet is entered under the platform's address. Raises `PriceError` before anything
        is written.
        """

        def begin() -> Draft:
            rate = self._pricing.rate()
            with self._database.autocommit() as connection:
                found = connection.execute(_RUN_AND_USER, {"run_id": event_run_id, "user_id": user_id}).one_or_none()
            run = on_chain(found[0] if found else None, found is not None, f"event run {event_run_id}")
            if found is None or found.id is None:
                raise NotFound(f"There is no user {user_id}.")
            quote = self._quote(run, checked_seats(seats), rate)
            attendee = found.wallet_address or self._chain.platform
            call = self._chain.book_event_call(run, seats, attendee, signer, quote.total_wei)
            row = {
                "event_run_id": event_run_id,
                "user_id": user_id,
                "seats": seats,
                "total_inr": quote.total_inr,
                "inr_per_eth": rate.inr_per_eth,
                "blockchain_payment_wei": quote.payment_wei,
                "blockchain_stake_amount_wei": quote.stake_wei,
            }

            return self._chain.sender.draft(call, signer, NewRow(event_run_bookings, row))

        request = request_hash("book", event_run_id, user_id, seats, signer and signer.address)
        return once(self._database, key, request, begin)

    def book(
        self, event_run_id: UUID, user_id: UUID, seats: int, signer: LocalAccount | None = None, key: str | None = None
    ) -> Booking:
        """Books, as `prepare_book` says, and waits until it is final."""
        operation = self.prepare_book(event_run_id, user_id, seats, signer, key)
        self._chain.sender.finish(operation, signer)
        assert operation.subject is not None
        return self.get(operation.subject)

    def prepare_cancel(self, booking_id: UUID, signer: LocalAccount | None = None, key: str | None = None) -> Operation:
        """Writes down that one booking is to be refunded; its seats will be free again."""

        def begin() -> Draft:
            booking = self.get(booking_id)
            call = self._chain.cancel_booking_call(
                on_chain(booking.blockchain_booking_id, True, f"booking {booking_id}")
            )
            return self._chain.sender.draft(call, signer, booking_id)

        request = request_hash("cancel booking", booking_id, signer and signer.address)
        return once(self._database, key, request, begin)

    def cancel(self, booking_id: UUID, signer: LocalAccount | None = None, key: str | None = None) -> BookingCancelled:
        """Refunds one booking, and waits until that is final."""
        operation = self.prepare_cancel(booking_id, signer, key)
        return self._chain.booking_cancelled(self._chain.sender.finish(operation, signer))

    def get(self, booking_id: UUID) -> Booking:
        with self._database.autocommit() as connection:
            row = connection.execute(_GET, {"row_id": booking_id}).one_or_none()
        if row is None:
            raise NotFound(f"There is no booking {booking_id}.")
        return Booking(*row)

    def of_run(self, event_run_id: UUID) -> list[Booking]:
        """In the order in which they were asked for."""
        with self._database.autocommit() as connection:
            rows = connection.execute(_ALL.where(event_run_bookings.c.event_run_id == event_run_id))
            return [Booking(*row) for row in rows]

    def list_all(self) -> list[Booking]:
        """In the order in which they were asked for."""
        with self._database.autocommit() as connection:
            return [Booking(*row) for row in connection.execute(_ALL)]

    def _quote(self, chain_run_id: int, seats: int, rate: Rate) -> Quote:
        cost = self._chain.calculate_booking_cost(chain_run_id, seats)
        return Quote.of(cost.payment, cost.stake, rate)
