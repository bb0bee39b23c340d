"""Event runs: opened, completed, cancelled, expired.

Database row first, then the chain, then what it says into the row. Seats, times, authority and status are the
contract's to judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from eth_account.signers.local import LocalAccount
from sqlalchemy import bindparam, case, insert, select, update

from app.core.errors import NotFound
from app.db.tables import EventRun, event_run_bookings, event_runs, experiences, users
from app.services.blockchain_service import BlockchainService
from app.services.onchain import EventCancelled, EventCompleted, EventExpired, unix_seconds
from app.services.pricing import Pricing, checked_inr, convert_inr_to_wei
from app.services.rows import Sessions, bookings_of, chain_id_of, checked_seats, confirmed, following, on_chain

_HOST_AND_EXPERIENCE = (
    select(users.c.wallet_address, experiences.c.id)
    .select_from(users.outerjoin(experiences, experiences.c.id == bindparam("experience_id")))
    .where(users.c.id == bindparam("user_id"))
)
_ENTER = insert(event_runs).returning(event_runs.c.id)
_CONFIRM = confirmed(event_runs).returning(event_runs)


class EventRunService:
    """What sends raises as `BlockchainService` does, and `NotFound` for an id that there is not.

    signer: who sends the transaction; the platform where none is given.
    """

    def __init__(self, sessions: Sessions, chain: BlockchainService, pricing: Pricing) -> None:
        self._sessions = sessions
        self._chain = chain
        self._pricing = pricing

    def create(
        self,
        host_id: UUID,
        experience_id: UUID,
        starts_at: datetime,
        max_seats: int,
        price_inr: Decimal,
        signer: LocalAccount | None = None,
    ) -> EventRun:
        """Opens a run at a price a seat that becomes wei once, here. A host without a wallet is entered under the
        platform's address. Raises `PriceError` before anything is written, `InvalidRequest`.
        """
        rate = self._pricing.rate()
        price_wei = convert_inr_to_wei(checked_inr(price_inr), rate.inr_per_eth)
        unix_seconds(starts_at)
        with self._sessions.begin() as session:
            parties = {"user_id": host_id, "experience_id": experience_id}
            found = session.execute(_HOST_AND_EXPERIENCE, parties).one_or_none()
            if found is None:
                raise NotFound(f"There is no user {host_id}.")
            if found.id is None:
                raise NotFound(f"There is no experience {experience_id}.")
            run_id: UUID = session.execute(
                _ENTER,
                {
                    "experience_id": experience_id,
                    "host_id": host_id,
                    "starts_at": starts_at.replace(microsecond=0),
                    "max_seats": checked_seats(max_seats),
                    "price_inr": price_inr,
                    "blockchain_price_per_seat_wei": price_wei,
                    "inr_per_eth": rate.inr_per_eth,
                },
            ).scalar_one()
        with following(self._sessions, event_runs, run_id):
            created = self._chain.create_event_run_onchain(
                str(experience_id),
                price_wei,
                max_seats,
                starts_at,
                found.wallet_address or self._chain.platform,
                signer,
            )
        with self._sessions.begin() as session:
            row = session.execute(
                _CONFIRM,
                {
                    "row_id": run_id,
                    "blockchain_event_run_id": created.event_run_id,
                    "blockchain_tx_hash": created.tx_hash,
                    "blockchain_price_per_seat_wei": created.price_per_seat,
                    "blockchain_stake_amount_wei": created.host_stake,
                },
            ).one()
        return EventRun(*row)

    def complete(
        self, event_run_id: UUID, attended_booking_ids: Sequence[UUID], signer: LocalAccount | None = None
    ) -> EventCompleted:
        """Closes a run: the bookings listed came, all others are no-shows."""
        bookings = event_run_bookings.c
        with self._sessions.begin() as session:
            run = chain_id_of(session, event_run_id)
            asked = select(bookings.id, bookings.blockchain_booking_id).where(bookings.id.in_(attended_booking_ids))
            known = dict(session.execute(asked).all())
        came = [on_chain(known.get(id), id in known, f"booking {id}") for id in attended_booking_ids]
        done = self._chain.complete_event_onchain(run, came, signer)
        status = case((bookings.blockchain_booking_id.in_(done.completed), "completed"), else_="no_show")
        settled = bookings.blockchain_booking_id.in_([*done.completed, *done.no_shows])
        with self._sessions.begin() as session:
            session.execute(update(event_run_bookings).where(settled).values(status=status))
            session.execute(update(event_runs).where(event_runs.c.id == event_run_id).values(status="completed"))
        return done

    def cancel(self, event_run_id: UUID, signer: LocalAccount | None = None) -> EventCancelled:
        """Calls a run off: all its bookings are refunded, the host's stake returns."""
        done = self._chain.cancel_event_onchain(self._chain_id(event_run_id), signer)
        self._refunded(event_run_id, "cancelled")
        return done

    def expire(self, event_run_id: UUID, signer: LocalAccount | None = None) -> EventExpired:
        """Ends a run that nobody completed in time: its bookings are refunded and share the host's stake."""
        done = self._chain.expire_event_onchain(self._chain_id(event_run_id), signer)
        self._refunded(event_run_id, "expired")
        return done

    def refresh(self, event_run_id: UUID) -> EventRun:
        """Brings a run and its bookings to what the contract says, after something was done past this service.

        Bookings that this service did not make are not entered: nobody here knows whose they are.
        """
        found = self._chain.get_event_run_from_chain(self._chain_id(event_run_id))
        bookings = event_run_bookings.c
        with self._sessions.begin() as session:
            ids = session.scalars(
                select(bookings.blockchain_booking_id).where(
                    bookings.event_run_id == event_run_id,
                    bookings.status == "active",
                    bookings.blockchain_status == "confirmed",
                )
            ).all()
        now = {id: self._chain.get_booking_from_chain(id).status.name.lower() for id in ids}
        changed = {id: status for id, status in now.items() if status != "active"}
        with self._sessions.begin() as session:
            if changed:
                status = case(changed, value=bookings.blockchain_booking_id)
                chosen = bookings.blockchain_booking_id.in_(changed)
                session.execute(update(event_run_bookings).where(chosen).values(status=status))
            row = session.execute(
                update(event_runs).where(event_runs.c.id == event_run_id).returning(event_runs),
                {"status": found.status.name.lower(), "seats_booked": found.seats_booked},
            ).one()
        return EventRun(*row)

    def get(self, event_run_id: UUID) -> EventRun:
        with self._sessions.begin() as session:
            row = session.execute(select(event_runs).where(event_runs.c.id == event_run_id)).one_or_none()
        if row is None:
            raise NotFound(f"There is no event run {event_run_id}.")
        return EventRun(*row)

    def list_all(self) -> list[EventRun]:
        """In the order in which they were asked for."""
        with self._sessions.begin() as session:
            return [EventRun(*row) for row in session.execute(select(event_runs).order_by(event_runs.c.created_at))]

    def _refunded(self, event_run_id: UUID, status: str) -> None:
        with self._sessions.begin() as session:
            session.execute(bookings_of(event_run_id).values(status="cancelled"))
            session.execute(update(event_runs).where(event_runs.c.id == event_run_id).values(status=status))

    def _chain_id(self, event_run_id: UUID) -> int:
        with self._sessions.begin() as session:
            return chain_id_of(session, event_run_id)
