"""Bookings: quoted, made, cancelled. Database row first, then the chain, then what it says into the row."""

from __future__ import annotations

from uuid import UUID

from eth_account.signers.local import LocalAccount
from sqlalchemy import bindparam, insert, select

from app.core.errors import NotFound
from app.db.tables import Booking, event_run_bookings, event_runs, users
from app.services.blockchain_service import BlockchainService
from app.services.onchain import BookingCancelled
from app.services.pricing import Pricing, Quote, Rate
from app.services.rows import TAKE_SEATS, Sessions, chain_id_of, checked_seats, confirmed, following, on_chain

_RUN_AND_USER = (
    select(event_runs.c.blockchain_event_run_id, users.c.wallet_address, users.c.id)
    .select_from(event_runs.outerjoin(users, users.c.id == bindparam("user_id")))
    .where(event_runs.c.id == bindparam("run_id"))
)
_ENTER = insert(event_run_bookings).returning(event_run_bookings.c.id)
_CONFIRM = confirmed(event_run_bookings).returning(event_run_bookings)
_CANCEL = confirmed(event_run_bookings).values(status="cancelled")
_GET = select(event_run_bookings).where(event_run_bookings.c.id == bindparam("row_id"))


class BookingService:
    """What sends raises as `BlockchainService` does, and `NotFound` for an id that there is not.

    signer: who sends the transaction; the platform where none is given.
    """

    def __init__(self, sessions: Sessions, chain: BlockchainService, pricing: Pricing) -> None:
        self._sessions = sessions
        self._chain = chain
        self._pricing = pricing

    def quote(self, event_run_id: UUID, seats: int) -> Quote:
        """What seats cost, in wei as the contract says, in INR at the rate of now. Raises `PriceError`."""
        rate = self._pricing.rate()
        with self._sessions.begin() as session:
            run = chain_id_of(session, event_run_id)
        return self._quote(run, seats, rate)

    def book(self, event_run_id: UUID, user_id: UUID, seats: int, signer: LocalAccount | None = None) -> Booking:
        """Books at a quote of now, and sends exactly the wei quoted. A user without a wallet is entered under the
        platform's address. Raises `PriceError` before anything is written.
        """
        rate = self._pricing.rate()
        with self._sessions.begin() as session:
            found = session.execute(_RUN_AND_USER, {"run_id": event_run_id, "user_id": user_id}).one_or_none()
        run = on_chain(found[0] if found else None, found is not None, f"event run {event_run_id}")
        if found is None or found.id is None:
            raise NotFound(f"There is no user {user_id}.")
        quote = self._quote(run, checked_seats(seats), rate)
        with self._sessions.begin() as session:
            booking_id: UUID = session.execute(
                _ENTER,
                {
                    "event_run_id": event_run_id,
                    "user_id": user_id,
                    "seats": seats,
                    "total_inr": quote.total_inr,
                    "inr_per_eth": rate.inr_per_eth,
                    "blockchain_payment_wei": quote.payment_wei,
                    "blockchain_stake_amount_wei": quote.stake_wei,
                },
            ).scalar_one()
        with following(self._sessions, event_run_bookings, booking_id):
            made = self._chain.book_event_onchain(
                run, seats, found.wallet_address or self._chain.platform, signer, quote.total_wei
            )
        with self._sessions.begin() as session:
            row = session.execute(
                _CONFIRM,
                {
                    "row_id": booking_id,
                    "blockchain_booking_id": made.booking_id,
                    "blockchain_tx_hash": made.tx_hash,
                    "blockchain_payment_wei": made.total_payment,
                    "blockchain_stake_amount_wei": made.user_stake,
                },
            ).one()
            session.execute(TAKE_SEATS, {"run_id": event_run_id, "seats": made.seat_count})
        return Booking(*row)

    def cancel(self, booking_id: UUID, signer: LocalAccount | None = None) -> BookingCancelled:
        """Refunds one booking; its seats are free again."""
        booking = self.get(booking_id)
        id = on_chain(booking.blockchain_booking_id, True, f"booking {booking_id}")
        done = self._chain.cancel_booking_onchain(id, signer)
        with self._sessions.begin() as session:
            session.execute(_CANCEL, {"row_id": booking_id})
            session.execute(TAKE_SEATS, {"run_id": booking.event_run_id, "seats": -booking.seats})
        return done

    def get(self, booking_id: UUID) -> Booking:
        with self._sessions.begin() as session:
            row = session.execute(_GET, {"row_id": booking_id}).one_or_none()
        if row is None:
            raise NotFound(f"There is no booking {booking_id}.")
        return Booking(*row)

    def list_all(self) -> list[Booking]:
        """In the order in which they were asked for."""
        with self._sessions.begin() as session:
            rows = session.execute(select(event_run_bookings).order_by(event_run_bookings.c.created_at))
            return [Booking(*row) for row in rows]

    def _quote(self, chain_run_id: int, seats: int, rate: Rate) -> Quote:
        cost = self._chain.calculate_booking_cost(chain_run_id, seats)
        return Quote.of(cost.payment, cost.stake, rate)
